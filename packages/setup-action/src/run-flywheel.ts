import { spawn } from "node:child_process";
import { constants } from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";

/** A run of the bundled command. */
export interface FlywheelRun {
  /** The bundle. */
  readonly bundle: string;
  readonly words: readonly string[];
  /** Given on standard input, where no process list shows it. */
  readonly input?: string;
  /** After it the command is killed. */
  readonly timeoutMs: number;
  /** Called with each line of standard error. */
  readonly onLine: (line: string) => void;
}

/**
 * Runs the bundled `flywheel` with this process's own Node and parses the last line of its standard output as JSON.
 *
 * @throws {Error} when it fails, says nothing that can be parsed, or takes too long.
 */
export async function runFlywheel(run: FlywheelRun): Promise<unknown> {
  const child = spawn(process.execPath, [run.bundle, ...run.words], {
    stdio: ["pipe", "pipe", "pipe"],
    env: { ...process.env, ...compileCacheIn(process.env) },
  });
  let stdout = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text));
  createInterface({ input: child.stderr }).on("line", run.onLine);
  child.stdin.on("error", () => {});
  child.stdin.end(run.input ?? "");

  const { promise, resolve, reject } = Promise.withResolvers<number>();
  const timer = setTimeout(() => {
    child.kill("SIGKILL");
    reject(new Error(`flywheel ${run.words[0]} took longer than ${run.timeoutMs / 1000} s`));
  }, run.timeoutMs);
  child.on("error", reject);
  // Not its streams' end: a descendant that holds them must not hold the job.
  child.on("exit", (code, signal) => {
    setImmediate(() => resolve(code ?? 128 + (signal === null ? 0 : constants.signals[signal])));
  });
  const status = await promise.finally(() => clearTimeout(timer));
  if (status !== 0) throw new Error(`flywheel ${run.words[0]} ended with ${status}`);
  return parseLastLine(stdout, run.words[0] ?? "");
}

/** Where Node keeps the bundle's compiled form for the other processes of this job; `undefined` where jobs have no folder. */
export function compileCache(
  env: Readonly<Record<string, string | undefined>>,
): string | undefined {
  const folder = env["RUNNER_TEMP"] ?? "";
  // Not in a folder of all users: whoever made it first there would decide what is run.
  return folder === "" ? undefined : path.join(folder, "flywheel-compile-cache");
}

function compileCacheIn(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const folder = compileCache(env);
  return folder === undefined ? {} : { NODE_COMPILE_CACHE: folder };
}

function parseLastLine(stdout: string, word: string): unknown {
  const text = stdout.trimEnd();
  try {
    // The whole of it, for an answer that is laid out over several lines.
    return JSON.parse(text.startsWith("{\n") ? text : text.slice(text.lastIndexOf("\n") + 1));
  } catch (error) {
    throw new Error(`flywheel ${word} gave no answer that can be read`, { cause: error });
  }
}
