import { spawn } from "node:child_process";
import { constants } from "node:os";

/** What a command left behind. */
export interface CommandResult {
  /** Its exit status; 128 + n when signal n ended it, the shell's way. */
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** How to run a command. */
export interface CommandOptions {
  /** The whole environment; default is this process's own. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly cwd?: string;
  /** Given on standard input, which is empty otherwise. */
  readonly input?: string | Uint8Array;
  /** After this time the command is killed and the call rejects; default 120 000. */
  readonly timeoutMs?: number;
}

/**
 * Runs a command to its end and returns what it said, whatever its exit status.
 *
 * @throws {Error} when it cannot be started or does not end in time; the message holds what it said.
 */
export async function runCommand(
  command: string,
  args: readonly string[],
  options: CommandOptions = {},
): Promise<CommandResult> {
  const { timeoutMs = 120_000, input = "" } = options;
  const child = spawn(command, args, {
    ...(options.env === undefined ? {} : { env: options.env }),
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    stdio: ["pipe", "pipe", "pipe"],
    timeout: timeoutMs,
    killSignal: "SIGKILL",
  });
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  child.stdout.on("data", (chunk: Buffer) => stdout.push(chunk));
  child.stderr.on("data", (chunk: Buffer) => stderr.push(chunk));
  // A command that never reads its input closes the pipe early.
  child.stdin.on("error", () => {});
  child.stdin.end(input);

  const { promise, resolve, reject } = Promise.withResolvers<number>();
  child.on("error", reject);
  child.on("close", (code, signal) => {
    if (signal === "SIGKILL" && child.killed) {
      const said = Buffer.concat(stderr).toString();
      reject(new Error(`${command} ${args.join(" ")} did not end in ${timeoutMs} ms: ${said}`));
    } else {
      resolve(code ?? 128 + (signal === null ? 0 : signalNumber(signal)));
    }
  });
  const status = await promise;
  return {
    status,
    stdout: Buffer.concat(stdout).toString(),
    stderr: Buffer.concat(stderr).toString(),
  };
}

function signalNumber(signal: NodeJS.Signals): number {
  return constants.signals[signal];
}
