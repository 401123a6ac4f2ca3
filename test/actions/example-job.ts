import { randomUUID } from "node:crypto";
import { cp, mkdir, readFile, readlink, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";

import {
  findLeaks,
  type JobResult,
  runWorkflow,
  type WorkflowOptions,
} from "@glorious/action-emulator";
import {
  type BazelVersion,
  type Claims,
  createBazelWorkspace,
  createNixSandbox,
  createTemporaryDirectory,
  forgejoClaims,
  githubClaims,
  type IdentityWorld,
  type NixSandbox,
  type NixVersion,
} from "@glorious/testkit";

import { ACTION_NAMES, actionDirectory } from "./action-copy.ts";

/** A folder of `examples`. */
export type ExampleName = "nix" | "bazel" | "both";

const ACTIONS = Object.fromEntries(
  ACTION_NAMES.map((name) => [`glorious/${name}`, actionDirectory(name)]),
);
const PROJECT = { owner: "acme", ownerId: 1001, repository: "acme/site", repositoryId: 2001 };

/** A push to the default branch, a pull request of the repository, of a fork, and a tag, as GitHub says it. */
export const RUNS = {
  main: githubClaims(PROJECT),
  review: githubClaims({ ...PROJECT, ref: "refs/pull/12/merge", event: "pull_request" }),
  fork: githubClaims({ ...PROJECT, event: "pull_request_target" }),
  tag: githubClaims({ ...PROJECT, ref: "refs/tags/v1.0.0" }),
} as const satisfies Readonly<Record<string, Claims>>;

/** The push to the default branch as a new Forgejo says it. */
export const FORGEJO_MAIN: Claims = forgejoClaims({ ...PROJECT, hasIds: true });

/** The policy's tenants for {@link RUNS} and {@link FORGEJO_MAIN}. */
export const TENANTS = {
  acme: {
    views: { main: {} },
    scopes: [
      {
        issuer: "github",
        repository: { id: "2001" },
        trusted: { refs: ["refs/heads/main", "refs/tags/*"] },
        untrusted: "read",
      },
      {
        issuer: "forgejo",
        repository: { id: "2001" },
        trusted: { refs: ["refs/heads/main"] },
      },
      {
        issuer: "cluster",
        serviceAccount: { namespace: "ci", name: "runner" },
        untrusted: "read",
      },
    ],
  },
};

/** A repository made from an example, different from every other, so that nothing of it was built before. */
export interface ExampleRepository extends AsyncDisposable {
  readonly directory: string;
  workflow(forge?: ".github" | ".forgejo"): string;
}

/** Copies an example and changes its words. */
export async function createExample(name: ExampleName, words: string): Promise<ExampleRepository> {
  const folder = await createTemporaryDirectory(`flywheel-example-${name}-`);
  const directory = path.join(folder.path, "repository");
  const example = fileURLToPath(new URL(`../../examples/${name}`, import.meta.url));
  await cp(example, directory, { recursive: true });
  await writeFile(path.join(directory, "words.txt"), words);
  return {
    directory,
    workflow: (forge = ".github") => path.join(directory, forge, "workflows", "ci.yml"),
    [Symbol.asyncDispose]: () => folder[Symbol.asyncDispose](),
  };
}

/** The example of Nix with these steps after the checkout, each as YAML without its dash. */
export function createJob(...steps: readonly string[]): Promise<ExampleRepository> {
  return createJobOf("nix", steps);
}

/** The same of any example. */
export async function createJobOf(
  example: ExampleName,
  steps: readonly string[],
): Promise<ExampleRepository> {
  const repository = await createExample(example, randomUUID());
  const lines = ["uses: actions/checkout@v4", ...steps].map((step) => `      - ${step}\n`).join("");
  for (const forge of [".github", ".forgejo"] as const) {
    const file = repository.workflow(forge);
    const text = await readFile(file, "utf8");
    await writeFile(
      file,
      text.replace(/( {4}steps:\n)[^]*$/, (_, head: string) => head + lines),
    );
  }
  return repository;
}

/** What a runner has in its PATH. */
export interface RunnerTools {
  readonly nix: NixVersion;
  readonly bazel?: BazelVersion | undefined;
}

/** A runner with a home and tools of its own. */
export interface ExampleRunner extends AsyncDisposable {
  readonly sandbox: NixSandbox;
  /** Its PATH. */
  readonly path: string;
  /** Puts what makes Bazel build offline here into a repository, where there is a Bazel. */
  prepare(repositoryDirectory: string): Promise<void>;
  /** Where the emulated runner keeps what it has. */
  readonly directory: string;
  /** Runs the workflow of a repository. */
  run(repository: ExampleRepository, options?: RunOptions): Promise<JobResult>;
  /** What Nix has built in the last run, with all it refers to. */
  builtPaths(): Promise<string[]>;
  /** Takes what was built out of the machine's store again. */
  forget(storePaths: readonly string[]): Promise<void>;
}

/** What a run of a workflow may differ in. */
export interface RunOptions extends Partial<Omit<WorkflowOptions, "directory">> {
  /** Who the forge says the job is; default: nobody asks. */
  readonly claims?: Claims;
  /** Which forge says it; default `github`. */
  readonly issuer?: "github" | "forgejo";
  readonly forge?: ".github" | ".forgejo";
}

/** Starts a runner that has these tools in its PATH and knows the server. */
export async function startRunner(
  { nix, bazel }: RunnerTools,
  world: IdentityWorld,
): Promise<ExampleRunner> {
  await using opened = new AsyncDisposableStack();
  const sandbox = opened.use(await createNixSandbox(nix));
  const directory = path.join(sandbox.directory, "runner");
  await mkdir(directory);
  const workspace = bazel === undefined ? undefined : await createBazelWorkspace(bazel);
  if (workspace !== undefined) opened.use(workspace);
  const owned = opened.move();
  const work = path.join(directory, "work");
  const { PATH = "" } = sandbox.env;
  const toolPath = workspace === undefined ? PATH : `${workspace.commandDirectory}:${PATH}`;
  const prepare = async (repositoryDirectory: string): Promise<void> => {
    if (workspace === undefined) return;
    await cp(workspace.directory, repositoryDirectory, { recursive: true });
  };
  return {
    sandbox,
    path: toolPath,
    prepare,
    directory,
    async run(repository, { claims, issuer, forge, env = {}, ...options } = {}) {
      const { HOME: _, TMPDIR: __, PATH: ___, ...nixEnv } = sandbox.env;
      const repositoryDirectory = path.join(directory, "repository");
      await rm(repositoryDirectory, { recursive: true, force: true });
      await cp(repository.directory, repositoryDirectory, { recursive: true });
      await prepare(repositoryDirectory);
      return runWorkflow({
        directory,
        home: sandbox.home,
        file: repository.workflow(forge),
        repositoryDirectory,
        actions: ACTIONS,
        env: {
          ...nixEnv,
          PATH: toolPath,
          FLYWHEEL_SERVER: world.server.url,
          ...env,
        },
        ...(claims === undefined ? {} : { identity: identityOf(world, claims, issuer) }),
        ...options,
      });
    },
    async builtPaths() {
      const top = await readlink(path.join(work, "result"));
      return (await sandbox.output("nix-store", ["--query", "--requisites", top])).split("\n");
    },
    async forget(storePaths) {
      await rm(path.join(work, "result"), { force: true });
      await sandbox.output("nix-store", ["--delete", ...storePaths]);
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** The forge's endpoint for a job with these claims. */
export function identityOf(
  world: IdentityWorld,
  claims: Claims,
  issuer: "github" | "forgejo" = "github",
): NonNullable<WorkflowOptions["identity"]> {
  const env = world.jobEnvironment(issuer, claims);
  return {
    requestUrl: env["ACTIONS_ID_TOKEN_REQUEST_URL"] ?? "",
    requestToken: env["ACTIONS_ID_TOKEN_REQUEST_TOKEN"] ?? "",
  };
}

/** The main part of the action of an example's workflow. */
export function setupOf(job: JobResult): JobResult["steps"][number] {
  const step = job.steps.find(({ name, phase }) => phase === "main" && name.startsWith("setup-"));
  if (step === undefined) throw new Error("The workflow has no set-up");
  return step;
}

/** Everything that people see of a job, for messages of failed tests. */
export function logOf(job: JobResult): string {
  return job.steps.map(({ name, phase, log }) => `== ${phase} ${name}\n${log}`).join("");
}

/** Secrets that people can read, and tokens that anybody can. */
export function leaksOf(job: JobResult, tokens: readonly string[] = []): unknown[] {
  return [...findLeaks(job).filter(({ kind }) => kind === "printed"), ...findLeaks(job, tokens)];
}
