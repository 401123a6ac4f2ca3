import { readdirSync, readFileSync } from "node:fs";
import { connect, type Socket } from "node:net";

import type { Contents, Endpoint } from "./endpoint.ts";
import { pullNars } from "./loads.ts";

export interface MemoryUse {
  readonly idleBytes: number;
  readonly peakBytes: number;
  /** Of the fast readers, while the slow ones are connected. */
  readonly seconds: number;
}

export interface MemoryOptions {
  readonly nar: Contents["nars"][number];
  readonly fastReaders: number;
  readonly slowReaders: number;
  readonly directory: string;
}

/** A slow reader takes one piece of what has come this often. */
const SLOW_READ_INTERVAL_MS = 1000;

/** The memory of a server process (with its children) while many read one large NAR, most of them slowly. */
export async function measureMemory(
  endpoint: Endpoint,
  pid: number,
  options: MemoryOptions,
): Promise<MemoryUse> {
  const idleBytes = residentBytes(pid);
  let peakBytes = idleBytes;
  const sampler = setInterval(() => {
    peakBytes = Math.max(peakBytes, residentBytes(pid));
  }, 50);
  const sockets: Socket[] = [];
  try {
    for (let count = 0; count < options.slowReaders; count += 1) {
      sockets.push(await openSlowReader(endpoint, options.nar.path));
    }
    const readSome = setInterval(() => {
      for (const socket of sockets) {
        if (socket.isPaused()) socket.resume();
      }
    }, SLOW_READ_INTERVAL_MS);
    try {
      const nars = Array.from({ length: options.fastReaders }, () => options.nar);
      const { seconds } = await pullNars(endpoint, nars, {
        connections: options.fastReaders,
        directory: options.directory,
      });
      const cut = sockets.filter((socket) => socket.destroyed).length;
      if (cut > 0) throw new Error(`${endpoint.name} cut ${cut} slow readers off`);
      return { idleBytes, peakBytes, seconds };
    } finally {
      clearInterval(readSome);
    }
  } finally {
    clearInterval(sampler);
    for (const socket of sockets) socket.destroy();
  }
}

async function openSlowReader(endpoint: Endpoint, path: string): Promise<Socket> {
  const { hostname, port } = new URL(endpoint.url);
  const socket = connect({ host: hostname, port: Number(port) });
  const begun = Promise.withResolvers<void>();
  socket.on("error", begun.reject);
  socket.on("data", () => {
    socket.pause();
    begun.resolve();
  });
  const authorization =
    endpoint.token === undefined ? "" : `authorization: Bearer ${endpoint.token}\r\n`;
  socket.write(`GET ${path} HTTP/1.1\r\nhost: ${hostname}:${port}\r\n${authorization}\r\n`);
  await begun.promise;
  return socket;
}

/** What a process and its children hold in memory, each page counted once per process. */
function residentBytes(pid: number): number {
  return [pid, ...childrenOf(pid)].reduce((sum, each) => sum + readStatus(each, "VmRSS"), 0);
}

/** Processor seconds that a process and its children have used. */
export function processorSeconds(pid: number): number {
  return [pid, ...childrenOf(pid)].reduce((sum, each) => {
    const fields = readProc(`/proc/${each}/stat`)
      .replace(/^.*\) /s, "")
      .split(" ");
    return sum + (Number(fields[11] ?? 0) + Number(fields[12] ?? 0)) / 100;
  }, 0);
}

function childrenOf(pid: number): number[] {
  try {
    return readdirSync(`/proc/${pid}/task`).flatMap((task) =>
      readProc(`/proc/${pid}/task/${task}/children`).split(" ").filter(Boolean).map(Number),
    );
  } catch {
    return [];
  }
}

function readStatus(pid: number, field: string): number {
  const kib = new RegExp(`^${field}:\\s*(\\d+) kB$`, "m").exec(
    readProc(`/proc/${pid}/status`),
  )?.[1];
  return Number(kib ?? 0) * 1024;
}

function readProc(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return "";
  }
}
