import { spawn } from "node:child_process";
import { basename, dirname, join } from "node:path";

import { CacheError } from "@glorious/core";

/** Nix's new commands, without having to be switched on. */
export const NIX_COMMAND: readonly string[] = ["--extra-experimental-features", "nix-command"];

/** How {@link runNix} runs a command. */
export interface RunNixOptions {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly signal: AbortSignal;
  /** After this time the command is ended and the call fails. */
  readonly timeoutMs: number;
}

/** What a command left behind. */
export interface NixOutput {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

/**
 * Runs a command of Nix to its end, whatever its exit code.
 *
 * @throws {CacheError} `CONFIG` when it cannot be started, `TIMEOUT` when it does not end, `CANCELLED`.
 */
export async function runNix(
  command: string,
  args: readonly string[],
  { env, signal, timeoutMs }: RunNixOptions,
): Promise<NixOutput> {
  const deadline = AbortSignal.timeout(timeoutMs);
  const child = spawn(command, args, {
    env,
    stdio: ["ignore", "pipe", "pipe"],
    signal: AbortSignal.any([signal, deadline]),
  });
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  child.stdout.on("data", (chunk: Buffer) => stdout.push(chunk));
  child.stderr.on("data", (chunk: Buffer) => stderr.push(chunk));
  const { promise, resolve, reject } = Promise.withResolvers<NixOutput>();
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

/** `nix-store` and the other old commands lie beside `nix`. */
export function besideNix(nix: string, name: string): string {
  return basename(nix) === nix ? name : join(dirname(nix), name);
}

/** Nix's own words for a failure, on one line and without colours. */
export function whatNixSaid({ stderr, exitCode }: NixOutput): string {
  const lines = stderr
    // oxlint-disable-next-line no-control-regex -- colours are control characters.
    .replaceAll(/\u001B\[[0-9;]*m/g, "")
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "" && !line.startsWith("warning:"));
  const error = lines.find((line) => line.startsWith("error:")) ?? lines.at(-1);
  return error?.replace(/^error:\s*/, "") ?? `exit code ${exitCode}`;
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
