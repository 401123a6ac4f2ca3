import { spawn } from "node:child_process";
import { readFile } from "node:fs/promises";
import { constants } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { createTemporaryDirectory } from "./temporary-directory.ts";

/** How to start `flywheel up`. */
export interface StartFlywheelOptions {
  /** Further arguments of `up`. */
  readonly args?: readonly string[];
  /** Further environment variables; those named `FLYWHEEL_*` in this process's own are not passed on. */
  readonly env?: Readonly<Record<string, string>>;
  /** Where the server keeps its data, left in place afterwards; default a folder that is removed. */
  readonly dataDirectory?: string;
  /** The address to listen on; default `127.0.0.1:0`, a free port. */
  readonly listen?: string;
  /** The command line; default this checkout's `bin/flywheel`. */
  readonly launcher?: string | undefined;
  /** How long the server may take until it says that it is ready; default 60 000, a first set-up included. */
  readonly readyTimeoutMs?: number;
  /** How long it may take to stop before it is killed; default 15 000. */
  readonly stopTimeoutMs?: number;
}

/** A server of ours in a process of its own. */
export interface RunningFlywheel extends AsyncDisposable {
  readonly url: string;
  readonly view: string;
  readonly substituter: string;
  readonly publicKey: string;
  readonly tokenFile: string;
  readonly dataDirectory: string;
  readonly pid: number;
  /** Resolves with the exit status, 128 + n after signal n. */
  readonly exited: Promise<number>;
  /** Reads the administrator's token. */
  readToken(): Promise<string>;
  /** What it wrote to standard output and standard error so far. */
  logs(): string;
  /** The most memory it held at once, in bytes; after its end what was last seen. Linux only. */
  peakMemoryBytes(): Promise<number | undefined>;
  /** Sends a signal and returns at once. */
  kill(signal: NodeJS.Signals): void;
  /** Asks it to stop, kills it when it does not, and returns its exit status. */
  stop(): Promise<number>;
}

const LAUNCHER = fileURLToPath(new URL("../../../bin/flywheel", import.meta.url));

/** What `up --json` says in its one line. */
interface Ready {
  readonly url: string;
  readonly view: string;
  readonly substituter: string;
  readonly publicKey: string;
  readonly tokenFile: string;
}

/**
 * Starts the embedded cache plane through `bin/flywheel up --json` and waits until it says it is ready.
 *
 * @throws {Error} when it ends or stays silent instead; the message holds its logs.
 */
export async function startFlywheel(options: StartFlywheelOptions = {}): Promise<RunningFlywheel> {
  const { readyTimeoutMs = 60_000, stopTimeoutMs = 15_000, launcher = LAUNCHER } = options;
  await using resources = new AsyncDisposableStack();
  const dataDirectory =
    options.dataDirectory ??
    path.join(resources.use(await createTemporaryDirectory("flywheel-data-")).path, "data");
  const child = spawn(
    launcher,
    [
      "up",
      "--json",
      "--listen",
      options.listen ?? "127.0.0.1:0",
      "--data",
      dataDirectory,
      ...(options.args ?? []),
    ],
    { env: { ...inheritedEnvironment(), ...options.env }, stdio: ["ignore", "pipe", "pipe"] },
  );

  const output: string[] = [];
  let stdout = "";
  const ready = Promise.withResolvers<Ready>();
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    output.push(text);
    stdout += text;
    const value = findReadyLine(stdout);
    if (value !== undefined) ready.resolve(value);
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => output.push(text));
  const logs = (): string => output.join("");

  const exit = Promise.withResolvers<number>();
  child.on("error", (error) => {
    ready.reject(new Error(`${launcher} could not be started`, { cause: error }));
    exit.resolve(127);
  });
  child.on("close", (code, signal) => {
    const status = code ?? 128 + (signal === null ? 0 : constants.signals[signal]);
    ready.reject(new Error(`flywheel up ended with ${status} before it was ready:\n${logs()}`));
    exit.resolve(status);
  });

  let lastPeakBytes: number | undefined;
  const peakMemoryBytes = async (): Promise<number | undefined> => {
    lastPeakBytes = (await readPeakMemoryBytes(child.pid)) ?? lastPeakBytes;
    return lastPeakBytes;
  };
  const stop = async (): Promise<number> => {
    await peakMemoryBytes();
    child.kill("SIGTERM");
    const timer = setTimeout(() => child.kill("SIGKILL"), stopTimeoutMs);
    try {
      return await exit.promise;
    } finally {
      clearTimeout(timer);
    }
  };
  resources.defer(async () => {
    await stop();
  });

  const timer = setTimeout(() => {
    ready.reject(new Error(`flywheel up was not ready after ${readyTimeoutMs} ms:\n${logs()}`));
  }, readyTimeoutMs);
  const facts = await ready.promise.finally(() => clearTimeout(timer));
  const owned = resources.move();
  return {
    ...facts,
    dataDirectory,
    pid: child.pid ?? 0,
    exited: exit.promise,
    readToken: async () => (await readFile(facts.tokenFile, "utf8")).trim(),
    logs,
    peakMemoryBytes,
    kill: (signal) => void child.kill(signal),
    stop,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** A developer's own FLYWHEEL_* settings are not the test's. */
function inheritedEnvironment(): Record<string, string | undefined> {
  const entries = Object.entries(process.env).filter(([name]) => !name.startsWith("FLYWHEEL_"));
  return Object.fromEntries(entries);
}

function findReadyLine(output: string): Ready | undefined {
  const lines = output.split("\n").slice(0, -1);
  return lines.map(parseReadyLine).find((ready) => ready !== undefined);
}

function parseReadyLine(line: string): Ready | undefined {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return undefined;
  }
  if (typeof value !== "object" || value === null) return undefined;
  const fields = new Map<string, unknown>(Object.entries(value));
  const read = (name: string): string => {
    const field = fields.get(name);
    return typeof field === "string" ? field : "";
  };
  const ready = {
    url: read("url"),
    view: read("view"),
    substituter: read("substituter"),
    publicKey: read("publicKey"),
    tokenFile: read("tokenFile"),
  };
  return Object.values(ready).includes("") ? undefined : ready;
}

async function readPeakMemoryBytes(pid: number | undefined): Promise<number | undefined> {
  const status = await readFile(`/proc/${pid}/status`, "utf8").catch(() => "");
  const kib = /^VmHWM:\s*(\d+) kB$/m.exec(status)?.[1];
  return kib === undefined ? undefined : Number(kib) * 1024;
}
