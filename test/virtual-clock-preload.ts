import { readFileSync } from "node:fs";

// Loaded into a server before anything else: its clock goes ahead of the machine's by the milliseconds that the file
// says, read again every moment, or runs faster than the machine's, and so do its intervals.
const file = process.env["VIRTUAL_CLOCK_FILE"] ?? "";
const rate = Number(process.env["VIRTUAL_CLOCK_RATE"] ?? 1);
const startMs = Number(process.env["VIRTUAL_CLOCK_START"] ?? 0);
/** Shorter ones are for what goes on in real time, such as connections. */
const MIN_SCALED_INTERVAL_MS = 10_000;
const realNow = Date.now.bind(Date);
const realSetInterval = globalThis.setInterval;
let aheadMs = 0;

function read(): void {
  aheadMs = Number(readFileSync(file, "utf8"));
}

read();
realSetInterval(read, 20).unref();
Date.now = () => Math.floor(startMs + (realNow() - startMs) * rate + aheadMs);

function scaled(ms: number | undefined): number | undefined {
  if (ms === undefined || ms < MIN_SCALED_INTERVAL_MS) return ms;
  return Math.max(10, ms / rate);
}

globalThis.setInterval = Object.assign(
  (callback: (...rest: unknown[]) => void, ms?: number, ...rest: unknown[]) =>
    realSetInterval(callback, scaled(ms), ...rest),
  realSetInterval,
);
