import { spawn } from "node:child_process";

import { CacheError } from "@glorious/core";

/** How {@link runProgram} runs a command. */
export interface RunProgramOptions {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly signal: AbortSignal;
  readonly cwd?: string;
  /** Given on standard input, which is empty otherwise. */
  readonly input?: string;
  /** After this time the command is ended and the call fails. */
  readonly timeoutMs: number;
}

/** What a command left behind. */
export interface ProgramOutput {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

/**
 * Runs a command to its end, whatever its exit code.
 *
 * @throws {CacheError} `CONFIG` when it cannot be started, `TIMEOUT` when it does not end, `CANCELLED`.
 */
export async function runProgram(
  command: string,
  args: readonly string[],
  { env, cwd, signal, input, timeoutMs }: RunProgramOptions,
): Promise<ProgramOutput> {
  const deadline = AbortSignal.timeout(timeoutMs);
  const child = spawn(command, args, {
    env,
    cwd,
    stdio: ["pipe", "pipe", "pipe"],
    signal: AbortSignal.any([signal, deadline]),
  });
  // A command that never reads its input closes the pipe early.
  child.stdin.on("error", () => {});
  child.stdin.end(input);
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  child.stdout.on("data", (chunk: Buffer) => stdout.push(chunk));
  child.stderr.on("data", (chunk: Buffer) => stderr.push(chunk));
  const { promise, resolve, reject } = Promise.withResolvers<ProgramOutput>();
  child.on("error", (error: NodeJS.ErrnoException) => {
    reject(describe(error, command, { signal, deadline }));
  });
  child.on("close", (code) => {
    resolve({
      exitCode: code ?? 128,
      stdout: Buffer.concat(stdout).toString(),
      stderr: Buffer.concat(stderr).toString(),
    });
  });
  return promise;
}

function describe(
  error: NodeJS.ErrnoException,
  command: string,
  { signal, deadline }: { readonly signal: AbortSignal; readonly deadline: AbortSignal },
): CacheError {
  if (signal.aborted) return new CacheError("CANCELLED", "Interrupted", { cause: error });
  if (deadline.aborted) {
    return new CacheError("TIMEOUT", `${command} did not end in time`, { cause: error });
  }
  const reason = error.code === "ENOENT" ? "there is no such command" : (error.code ?? "");
  return new CacheError("CONFIG", `${command} cannot be run: ${reason}`, { cause: error });
}
