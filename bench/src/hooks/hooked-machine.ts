import { chmod, copyFile, mkdir, readdir, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";

import {
  type BazelWorkspace,
  createBazelWorkspace,
  createNixSandbox,
  findBazelVersions,
  findNixVersions,
  githubClaims,
  gitlabClaims,
  type IdentityWorld,
  type NixSandbox,
  runCommand,
} from "@glorious/testkit";

const ROOT = fileURLToPath(new URL("../../..", import.meta.url));
const PROJECT = { owner: "acme", ownerId: 1001, repository: "acme/site", repositoryId: 2001 };
/** The project whose jobs the policy trusts. */
export const GITLAB_PROJECT = { project: "acme/site", projectId: 2001, namespaceId: 1001 };

/** One rule for both forges. */
export const TENANTS = {
  acme: {
    views: { main: {} },
    scopes: (["github", "gitlab"] as const).map((issuer) => ({
      issuer,
      repository: { id: "2001" },
      trusted: { refs: ["refs/heads/main"] },
    })),
  },
};

/** A machine with Nix, Bazel and the command as `docs/how-to/ci-job.md` installs it. */
export interface HookedMachine extends AsyncDisposable {
  readonly sandbox: NixSandbox;
  readonly workspace: BazelWorkspace;
  /** Has the command, and nothing else. */
  readonly commandFolder: string;
  /** Where Node keeps the compiled form of the command. */
  readonly compileCache: string;
  /** Runs a runner's hooks as a job has them. Returns what each took, and what the first said. */
  runJob(options: HookedJobOptions): Promise<HookedJob>;
}

export interface HookedJobOptions {
  readonly world: IdentityWorld;
  readonly forge: "github" | "gitlab";
  /** Where the runner says that the server is. */
  readonly server: string;
  /** Without what Node kept of an earlier start. */
  readonly isFirst?: boolean;
}

export interface HookedJob {
  readonly startMs: number;
  readonly endMs: number;
  readonly said: string;
}

/** @throws {Error} where there is no Nix or no Bazel */
export async function createHookedMachine(): Promise<HookedMachine> {
  const [nix, bazel] = [findNixVersions().at(-1), findBazelVersions().at(-1)];
  if (nix === undefined || bazel === undefined) throw new Error("There is no Nix or no Bazel here");
  await using opened = new AsyncDisposableStack();
  const sandbox = opened.use(await createNixSandbox(nix));
  const workspace = opened.use(await createBazelWorkspace(bazel));
  await workspace.write({ ".bazelversion": `${bazel.version}\n` });
  const owned = opened.move();
  const at = (name: string): string => path.join(sandbox.directory, name);
  await mkdir(at("bin"));
  await copyFile(path.join(ROOT, "actions/setup-attic/dist/flywheel.mjs"), at("flywheel.mjs"));
  const launcher = `#!/bin/sh\nexec ${process.execPath} ${at("flywheel.mjs")} "$@"\n`;
  await writeFile(at("bin/flywheel"), launcher);
  await chmod(at("bin/flywheel"), 0o755);
  return {
    sandbox,
    workspace,
    commandFolder: at("bin"),
    compileCache: at("compiled"),
    async runJob({ world, forge, server, isFirst = false }) {
      const temporary = at("runner-temp");
      await rm(temporary, { recursive: true, force: true });
      await mkdir(temporary);
      if (isFirst) await rm(at("compiled"), { recursive: true, force: true });
      await writeFile(at("runner.json"), JSON.stringify({ version: 1, server }));
      await writeFile(at("github-env"), "");
      const claims = forge === "github" ? githubClaims(PROJECT) : gitlabClaims(GITLAB_PROJECT);
      const env = {
        ...sandbox.env,
        ...world.jobEnvironment(forge, claims),
        PATH: [at("bin"), workspace.commandDirectory, sandbox.env["PATH"]].join(":"),
        NODE_COMPILE_CACHE: at("compiled"),
        FLYWHEEL_RUNNER_CONFIG: at("runner.json"),
        RUNNER_TEMP: temporary,
        GITHUB_ENV: at("github-env"),
      };
      const run = async (words: readonly string[], more = {}): Promise<[number, string]> => {
        const fromMs = performance.now();
        const { status, stderr } = await runCommand(words[0] ?? "", words.slice(1), {
          env: { ...env, ...more },
          cwd: workspace.directory,
        });
        if (status !== 0) throw new Error(`A hook ended with ${status}: ${stderr}`);
        return [performance.now() - fromMs, stderr];
      };
      const hook = (name: string): string => path.join(ROOT, "hooks", `${name}.sh`);
      const [startMs, said] =
        forge === "github"
          ? await run(["bash", "-eo", "pipefail", hook("job-started")])
          : await run(["sh", "-c", `eval "$(${hook("pre-build")} || :)"`]);
      const folder = (await readdir(temporary)).find((name) => /^flywheel-\w{8}$/.test(name));
      const session = folder === undefined ? "" : path.join(temporary, folder);
      const end = forge === "github" ? "job-completed" : "post-build";
      const [endMs] = await run(["sh", hook(end)], { FLYWHEEL_SESSION: session });
      return { startMs, endMs, said };
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}
