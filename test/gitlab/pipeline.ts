import { cp, mkdir, readFile, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { type CommandResult, createTemporaryDirectory, runCommand } from "@glorious/testkit";

const require = createRequire(import.meta.url);
const CATALOG = fileURLToPath(new URL("../../gitlab", import.meta.url));
const EXAMPLES = fileURLToPath(new URL("../../examples", import.meta.url));
const HOST = "https://gitlab.example.org";
const AS_SOMEBODY = ["-c", "user.name=test", "-c", "user.email=test@example.org"];

/** It fetches two files of one project at the same time, and gives up when both make their folder; no job has run then. */
const IS_FETCHED_TWICE = /^cp: cannot create directory '[^']*\/includes\/[^']*': File exists$/m;
const MAX_TRIES = 5;

/** A repository on a GitLab, whose pipeline gitlab-ci-local runs in shells of this machine. */
export interface PipelineRepository extends AsyncDisposable {
  readonly directory: string;
  /** Changes files and commits that. */
  write(files: Readonly<Record<string, string>>): Promise<void>;
  /** Runs jobs with `variables` as the forge gives them. */
  run(jobs: readonly string[], options: PipelineRun): Promise<CommandResult>;
  /** The pipeline with everything that it includes. */
  preview(): Promise<CommandResult>;
}

/** What a pipeline runs with. */
interface PipelineRun {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly variables: Readonly<Record<string, string>>;
}

/** The components that a GitLab has. */
interface Catalog {
  /** What the catalog's project holds; default: the folder `gitlab` of this checkout. */
  readonly tree?: string;
  /** Default `1.2.3`. */
  readonly version?: string;
}

/** Makes a repository of an example; `glorious/flywheel` is the catalog's project of the same GitLab. */
export async function createPipeline(
  example: "nix" | "bazel" | "both",
  files: Readonly<Record<string, string>>,
  catalog: Catalog = {},
): Promise<PipelineRepository> {
  return openRepository(path.join(EXAMPLES, example), "acme/site", files, catalog);
}

/** Makes the catalog's own project, whose pipeline releases its versions. */
export async function createCatalogPipeline(
  { tree = CATALOG, ...catalog }: Catalog = {},
  files: Readonly<Record<string, string>> = {},
): Promise<PipelineRepository> {
  return openRepository(tree, "glorious/flywheel", files, { tree, ...catalog });
}

async function openRepository(
  source: string,
  project: string,
  files: Readonly<Record<string, string>>,
  { tree = CATALOG, version = "1.2.3" }: Catalog,
): Promise<PipelineRepository> {
  await using opened = new AsyncDisposableStack();
  const folder = opened.use(await createTemporaryDirectory("flywheel-pipeline-"));
  const remotes = path.join(folder.path, "remotes");
  await createCatalog(
    path.join(remotes, "flywheel.git"),
    path.join(folder.path, "catalog"),
    tree,
    version,
  );
  const directory = path.join(folder.path, "site");
  await copyTree(source, directory);
  await git(directory, ["init", "--quiet", "--initial-branch", "main"]);
  await git(directory, ["remote", "add", "origin", `${HOST}/${project}.git`]);
  const write: PipelineRepository["write"] = async (changed) => {
    for (const [name, text] of Object.entries(changed)) {
      await writeFile(path.join(directory, name), text);
    }
    await git(directory, ["add", "--all"]);
    await git(directory, [...AS_SOMEBODY, "commit", "--quiet", "--allow-empty", "-m", "site"]);
    await git(directory, ["update-ref", "refs/remotes/origin/main", "main"]);
    await git(directory, ["remote", "set-head", "origin", "main"]);
  };
  await write(files);
  // It copies the repository for jobs in containers, of which there are none.
  const tools = path.join(folder.path, "tools");
  await mkdir(tools);
  await writeFile(path.join(tools, "rsync"), "#!/bin/sh\n", { mode: 0o755 });
  const program = await findProgram();
  const runOnce = (words: readonly string[], env: PipelineRun["env"]): Promise<CommandResult> =>
    runCommand(process.execPath, [program, "--cwd", ".", "--force-shell-executor", ...words], {
      cwd: directory,
      env: {
        ...env,
        PATH: `${tools}:${env["PATH"] ?? ""}`,
        NO_COLOR: "1",
        FORCE_COLOR: "0",
        // The catalog's project alone is there.
        GIT_CONFIG_COUNT: "2",
        GIT_CONFIG_KEY_0: `url.file://${remotes}/.insteadOf`,
        GIT_CONFIG_VALUE_0: `${HOST}:443/glorious/`,
        GIT_CONFIG_KEY_1: `url.file://${remotes}/.insteadOf`,
        GIT_CONFIG_VALUE_1: `${HOST}/glorious/`,
      },
    });
  const run: typeof runOnce = async (words, env) => {
    let result = await runOnce(words, env);
    for (let tries = 1; tries < MAX_TRIES && IS_FETCHED_TWICE.test(result.stderr); tries += 1) {
      result = await runOnce(words, env);
    }
    return result;
  };
  const owned = opened.move();
  return {
    directory,
    write,
    run: (jobs, { env, variables }) => {
      // A busy machine is no slow server.
      const given = Object.entries({ FLYWHEEL_SERVER_WAIT: "30s", ...variables }).map(
        ([name, value]) => `${name}=${value}`,
      );
      return run([...given.flatMap((variable) => ["--variable", variable]), ...jobs], env);
    },
    preview: () => run(["--preview"], process.env),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

async function createCatalog(
  bare: string,
  work: string,
  tree: string,
  version: string,
): Promise<void> {
  await copyTree(tree, work);
  await git(work, ["init", "--quiet", "--initial-branch", "main"]);
  await git(work, ["add", "--all"]);
  await git(work, [...AS_SOMEBODY, "commit", "--quiet", "-m", "components"]);
  await git(work, ["tag", version]);
  await git(work, ["clone", "--quiet", "--bare", work, bare]);
}

/** Copies what a repository holds, without its history. */
async function copyTree(tree: string, target: string): Promise<void> {
  await cp(tree, target, {
    recursive: true,
    filter: (file) => path.basename(file) !== ".git",
  });
}

async function git(directory: string, words: readonly string[]): Promise<void> {
  const { status, stderr } = await runCommand("git", words, { cwd: directory });
  if (status !== 0) throw new Error(`git ${words.join(" ")}: ${stderr}`);
}

async function findProgram(): Promise<string> {
  const manifest = require.resolve("gitlab-ci-local/package.json");
  const { bin } = JSON.parse(await readFile(manifest, "utf8")) as { readonly bin: string };
  return path.join(path.dirname(manifest), bin);
}
