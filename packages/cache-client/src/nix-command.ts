import { spawn } from "node:child_process";

import { CacheError } from "@glorious/core";

import { cancelled } from "./cancellation.ts";

/** How to run Nix. */
export interface NixCommandOptions {
  /** The command; default `nix`, looked up in PATH. */
  readonly nix?: string | undefined;
  /** `nix-store` runs the older command that lies beside it; default `nix`. */
  readonly as?: "nix" | "nix-store";
  readonly signal?: AbortSignal | undefined;
}

/** What a run of Nix left behind. */
export interface NixCommandResult {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

const MAX_STDERR_CHARS = 64 * 1024;

/**
 * Runs Nix to its end. A failing exit code is an answer, not an error.
 *
 * @throws {CacheError} `CONFIG` when Nix cannot be started; `CANCELLED` when the signal fires.
 */
export async function runNix(
  args: readonly string[],
  options: NixCommandOptions = {},
): Promise<NixCommandResult> {
  const nix = options.nix ?? "nix";
  const command = options.as === "nix-store" ? nix.replace(/nix$/, "nix-store") : nix;
  const { signal } = options;
  if (signal?.aborted === true) throw cancelled(signal, "nix");
  const { promise, resolve, reject } = Promise.withResolvers<NixCommandResult>();
  const child = spawn(command, args, {
    stdio: ["ignore", "pipe", "pipe"],
    ...(signal !== undefined && { signal }),
  });
  const stdout: Buffer[] = [];
  let stderr = "";
  child.stdout.on("data", (chunk: Buffer) => stdout.push(chunk));
  child.stderr.setEncoding("utf8").on("data", (chunk: string) => {
    stderr = (stderr + chunk).slice(-MAX_STDERR_CHARS);
  });
  child.on("error", (error: NodeJS.ErrnoException) => {
    reject(signal?.aborted === true ? cancelled(signal, "nix") : toSpawnError(error, command));
  });
  child.on("close", (exitCode, killedBy) => {
    if (signal?.aborted === true) reject(cancelled(signal, "nix"));
    else {
      resolve({
        exitCode: exitCode ?? 128,
        stdout: Buffer.concat(stdout).toString("utf8"),
        stderr: killedBy === null ? stderr : `${stderr}killed by ${killedBy}`,
      });
    }
  });
  return promise;
}

function toSpawnError(error: NodeJS.ErrnoException, command: string): CacheError {
  if (error.code === "ENOENT") {
    return new CacheError("CONFIG", `Nix is not installed here: there is no command ${command}`, {
      cause: error,
      hint: "Install it (Debian and Ubuntu: apt-get install nix-bin; elsewhere: https://nixos.org/download), or name where it is.",
    });
  }
  return new CacheError("CONFIG", `${command} cannot be run: ${error.code ?? error.message}`, {
    cause: error,
  });
}
