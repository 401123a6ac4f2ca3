import { readFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";

import type { DrainResult, SetupResult } from "@glorious/runner-agent";
import {
  type CommandResult,
  createNixSandbox,
  createTemporaryDirectory,
  type NixSandbox,
  type NixSandboxOptions,
  type NixVersion,
  runCommand,
} from "@glorious/testkit";

const LAUNCHER = fileURLToPath(new URL("../../bin/flywheel", import.meta.url));

/** A job on a machine with a Nix: its steps share what earlier ones exported. */
export interface NixJob extends AsyncDisposable {
  readonly sandbox: NixSandbox;
  /** `RUNNER_TEMP`. */
  readonly temporary: string;
  /** What the next step has in its environment. */
  readonly env: Readonly<Record<string, string>>;
  /** Everything that commands of ours printed in this job. */
  printed(): string;
  /** Runs `flywheel <words>` as a step. */
  flywheel(words: readonly string[], input?: string): Promise<CommandResult>;
  /** Runs a step's script in a POSIX shell, with the command line as `$0`. */
  shell(script: string): Promise<CommandResult>;
  /** Runs `flywheel setup` as a step, and exports what it says. */
  setup(words?: readonly string[]): Promise<SetupResult>;
  /** Runs `flywheel setup --request -` as an action does. */
  request(request: Readonly<Record<string, unknown>>): Promise<SetupResult>;
  drain(words?: readonly string[]): Promise<DrainResult>;
  /** Builds as a step; see {@link NixSandbox.buildPath}. */
  build(expression: string): Promise<string>;
  /** Substitutes a path with its closure into an empty store, as a step on a fresh machine does. */
  realise(storePath: string): Promise<CommandResult & { readonly store: string }>;
  /** What the agent logged. */
  log(): Promise<string>;
}

/** Starts a job with what its forge puts into the environment. */
export async function startNixJob(
  nix: NixVersion,
  forgeEnv: Readonly<Record<string, string>>,
  options: NixSandboxOptions = {},
): Promise<NixJob> {
  await using opened = new AsyncDisposableStack();
  const sandbox = opened.use(await createNixSandbox(nix, options));
  const { path: temporary } = opened.use(await createTemporaryDirectory("flywheel-runner-"));
  let env: Record<string, string> = { ...sandbox.env, RUNNER_TEMP: temporary, ...forgeEnv };
  const printed: string[] = [];
  const flywheel = async (words: readonly string[], input = ""): Promise<CommandResult> => {
    const result = await runCommand(LAUNCHER, words, { env, cwd: sandbox.directory, input });
    printed.push(result.stdout, result.stderr);
    return result;
  };
  /** The result of a command, which is for its caller alone: it holds what logs must not show. */
  const parse = ({ status, stdout, stderr }: CommandResult): unknown => {
    if (status !== 0) throw new Error(`flywheel ended with ${status}: ${stderr}`);
    printed.splice(printed.lastIndexOf(stdout), 1);
    return JSON.parse(stdout);
  };
  const use = (said: CommandResult): SetupResult => {
    const result = parse(said) as SetupResult;
    env = { ...env, ...result.environment };
    return result;
  };
  opened.defer(async () => {
    if (env["FLYWHEEL_SESSION"] !== undefined)
      await flywheel(["drain", "--end", "--timeout", "1s"]);
  });
  const owned = opened.move();
  return {
    sandbox,
    temporary,
    get env() {
      return env;
    },
    printed: () => printed.join("\n"),
    flywheel,
    shell: (script) => runCommand("sh", ["-c", script, LAUNCHER], { env, cwd: sandbox.directory }),
    async setup(words = []) {
      return use(await flywheel(["setup", "--kind", "nix", "--json", ...words]));
    },
    async request(request) {
      return use(await flywheel(["setup", "--request", "-"], JSON.stringify(request)));
    },
    async drain(words = []) {
      return parse(await flywheel(["drain", "--json", ...words])) as DrainResult;
    },
    build: (expression) => sandbox.buildPath(expression, { env }),
    async realise(storePath) {
      const store = await sandbox.createStore();
      const words = ["--store", store, "--realise", storePath];
      return { ...(await sandbox.run("nix-store", words, { env })), store };
    },
    log: () =>
      readFile(path.join(env["FLYWHEEL_SESSION"] ?? "", "agent.log"), "utf8").catch(() => ""),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}
