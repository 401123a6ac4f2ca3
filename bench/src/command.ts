import { spawn } from "node:child_process";

import { runCommand } from "@glorious/testkit";

/** What a timed command took. */
export interface Timing {
  readonly seconds: number;
  /** Processor time of the command and its children. */
  readonly cpuSeconds: number;
  readonly stdout: string;
}

/** @throws {Error} when the command fails; the message holds what it said. */
export async function output(
  command: string,
  args: readonly string[],
  options: {
    readonly env?: Readonly<Record<string, string | undefined>>;
    readonly cwd?: string;
  } = {},
): Promise<string> {
  const result = await runCommand(command, args, { timeoutMs: 1_800_000, ...options });
  if (result.status === 0) return result.stdout;
  throw new Error(
    `${command} ${args.slice(0, 6).join(" ")} ended with ${result.status}: ${result.stderr.slice(-2000)}`,
  );
}

/**
 * Runs a command under bash's own clock, which also knows its processor time and does not count ours.
 *
 * @throws {Error} when it fails.
 */
export async function time(
  command: string,
  args: readonly string[],
  env: Readonly<Record<string, string | undefined>> = process.env,
): Promise<Timing> {
  const script = 'TIMEFORMAT="@time %3R %3U %3S"; time "$@"';
  const result = await runCommand("bash", ["-c", script, "bash", command, ...args], {
    env,
    timeoutMs: 1_800_000,
  });
  const match = /@time ([\d.]+) ([\d.]+) ([\d.]+)\s*$/.exec(result.stderr);
  if (result.status !== 0 || match === null) {
    throw new Error(`${command} ended with ${result.status}: ${result.stderr.slice(-2000)}`);
  }
  const [seconds = 0, user = 0, system = 0] = match.slice(1).map(Number);
  return { seconds, cpuSeconds: user + system, stdout: result.stdout };
}

/** A process that runs until it is disposed of. */
export interface Running extends AsyncDisposable {
  readonly pid: number;
}

/** Starts a process; what it says comes along on standard error. */
export function start(
  command: string,
  args: readonly string[],
  env: Readonly<Record<string, string | undefined>> = process.env,
): Running {
  const child = spawn(command, args, { stdio: ["ignore", "ignore", "inherit"], env });
  const ended = new Promise<void>((resolve) => {
    child.once("close", () => resolve());
    child.once("error", () => resolve());
  });
  return {
    pid: child.pid ?? 0,
    async [Symbol.asyncDispose]() {
      child.kill("SIGTERM");
      await ended;
    },
  };
}
