import { type ChildProcess, spawn } from "node:child_process";
import { constants } from "node:os";
import type { Readable } from "node:stream";

import { killTree } from "./processes.ts";

/** After a step's own process has ended, those that still hold its output are waited for this long. */
const STREAM_WAIT_MS = 5000;

/** How long a cancelled process may take over each signal, as the runner has it. */
export interface CancelTimes {
  /** From SIGINT to SIGTERM. */
  readonly interruptMs: number;
  /** From SIGTERM to the end of its whole tree. */
  readonly terminateMs: number;
}

/** The runner's own times. */
export const RUNNER_CANCEL_TIMES: CancelTimes = { interruptMs: 7500, terminateMs: 2500 };

/** A process of a step. */
export interface StepProcess {
  readonly command: string;
  readonly args: readonly string[];
  readonly cwd: string;
  readonly env: Readonly<Record<string, string>>;
  /** Fires when the job is cancelled. */
  readonly signal: AbortSignal;
  readonly cancelTimes: CancelTimes;
  readonly timeoutMs?: number | undefined;
  readonly onLine: (line: string) => void;
}

/** How a step's process ended. */
export interface ProcessEnd {
  /** 128 + n after signal n; 127 when it could not be started. */
  readonly exitCode: number;
  readonly isCancelled: boolean;
  readonly hasTimedOut: boolean;
}

/** Runs a process to its end; cancelling it sends SIGINT, then SIGTERM, then kills it with its descendants. */
export async function runStepProcess(process: StepProcess): Promise<ProcessEnd> {
  const { cwd, env, signal, onLine, cancelTimes } = process;
  if (signal.aborted) return { exitCode: 130, isCancelled: true, hasTimedOut: false };
  const child = spawn(process.command, process.args, {
    cwd,
    env,
    stdio: ["ignore", "pipe", "pipe"],
  });
  const timers: NodeJS.Timeout[] = [];
  const isStopping = stopOnDemand(child, cancelTimes, timers);
  let isCancelled = false;
  let hasTimedOut = false;
  const onAbort = (): void => {
    isCancelled = true;
    isStopping();
  };
  signal.addEventListener("abort", onAbort, { once: true });
  if (process.timeoutMs !== undefined) {
    const onTimeout = (): void => {
      hasTimedOut = true;
      isStopping();
    };
    timers.push(setTimeout(onTimeout, process.timeoutMs));
  }
  readLines(child.stdout, onLine);
  readLines(child.stderr, onLine);
  try {
    return { exitCode: await waitForEnd(child, onLine), isCancelled, hasTimedOut };
  } finally {
    signal.removeEventListener("abort", onAbort);
    for (const timer of timers) clearTimeout(timer);
  }
}

function stopOnDemand(
  child: ChildProcess,
  { interruptMs, terminateMs }: CancelTimes,
  timers: NodeJS.Timeout[],
): () => void {
  let hasBegun = false;
  return () => {
    if (hasBegun) return;
    hasBegun = true;
    child.kill("SIGINT");
    const kill = (): void => void killTree(child.pid ?? 0);
    const terminate = (): void => {
      child.kill("SIGTERM");
      timers.push(setTimeout(kill, terminateMs));
    };
    timers.push(setTimeout(terminate, interruptMs));
  };
}

function waitForEnd(child: ChildProcess, onLine: (line: string) => void): Promise<number> {
  const { promise, resolve } = Promise.withResolvers<number>();
  const statusOf = (code: number | null, signal: NodeJS.Signals | null): number =>
    code ?? 128 + (signal === null ? 0 : constants.signals[signal]);
  child.on("error", (error) => {
    onLine(`##[error]${error.message}`);
    resolve(127);
  });
  child.on("close", (code, signal) => resolve(statusOf(code, signal)));
  child.on("exit", (code, signal) => {
    const timer = setTimeout(() => {
      child.stdout?.destroy();
      child.stderr?.destroy();
      resolve(statusOf(code, signal));
    }, STREAM_WAIT_MS);
    child.on("close", () => clearTimeout(timer));
  });
  return promise;
}

function readLines(stream: Readable, onLine: (line: string) => void): void {
  let rest = "";
  stream.setEncoding("utf8");
  stream.on("data", (text: string) => {
    const lines = (rest + text).split(/\r\n|\n/);
    rest = lines.pop() ?? "";
    for (const line of lines) onLine(line);
  });
  stream.on("close", () => {
    if (rest !== "") onLine(rest);
    rest = "";
  });
}
