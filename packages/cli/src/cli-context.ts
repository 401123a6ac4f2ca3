import type { Readable, Writable } from "node:stream";

/** The world a command runs in; only `main.ts` takes it from the process. */
export interface CliContext {
  readonly stdin: Readable & { readonly isTTY?: boolean };
  readonly stdout: Writable & { readonly isTTY?: boolean; readonly columns?: number };
  readonly stderr: Writable & { readonly isTTY?: boolean; readonly columns?: number };
  /** How this command line itself is run: the program and the arguments before the command's own. */
  readonly self: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
  /** The folder that relative paths start from. */
  readonly workingDirectory: string;
  /** Fires when the user interrupts the command. */
  readonly signal: AbortSignal;
  /** The number of the user, `undefined` where there are none. */
  readonly userId: number | undefined;
  nowMs(): number;
}

/** Writes one line of result. */
export function printLine(context: CliContext, line: string): void {
  context.stdout.write(`${line}\n`);
}

/** Writes one line about the work, beside the result. */
export function note(context: CliContext, line: string): void {
  context.stderr.write(`${line}\n`);
}

/** Writes something the user should look into. */
export function warn(context: CliContext, line: string): void {
  context.stderr.write(`flywheel: warning: ${line}\n`);
}
