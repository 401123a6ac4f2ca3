import { spawn } from "node:child_process";

import { CacheError } from "@glorious/core";

/** Where a command runs, what it reads, and what its environment has beside ours. */
export interface CommandOptions {
  readonly cwd: string;
  readonly input?: string | Uint8Array;
  /** `undefined` takes a variable away. */
  readonly env?: Readonly<Record<string, string | undefined>>;
}

/**
 * Runs a command to its end and returns what it printed.
 *
 * @throws {CacheError} `INTERNAL` with what it said, when it ends with another status than 0.
 */
export async function runCommand(
  command: string,
  args: readonly string[],
  { cwd, input = "", env = {} }: CommandOptions,
): Promise<Buffer> {
  const child = spawn(command, args, { cwd, env: { ...process.env, ...env } });
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  child.stdout.on("data", (chunk: Buffer) => stdout.push(chunk));
  child.stderr.on("data", (chunk: Buffer) => stderr.push(chunk));
  // A command that never reads its input closes the pipe early.
  child.stdin.on("error", () => {});
  child.stdin.end(input);
  const { promise, resolve, reject } = Promise.withResolvers<number | null>();
  child.on("error", reject);
  child.on("close", resolve);
  const status = await promise;
  if (status !== 0) {
    const said = Buffer.concat([...stderr, ...stdout])
      .toString()
      .trim();
    throw new CacheError("INTERNAL", `${command} ${args.join(" ")} failed in ${cwd}: ${said}`);
  }
  return Buffer.concat(stdout);
}
