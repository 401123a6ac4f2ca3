import { rename, writeFile } from "node:fs/promises";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import { createTemporaryDirectory } from "@glorious/testkit";

/** The clock of servers in processes of their own. */
export interface VirtualClock extends AsyncDisposable {
  /** For the servers that are to go by it. */
  readonly env: Readonly<Record<string, string>>;
  /** What they take the time for. */
  readonly nowMs: () => number;
  /** Resolves when servers know. */
  advance(durationMs: number): Promise<void>;
}

const PRELOAD = new URL("./virtual-clock-preload.ts", import.meta.url).href;
/** Several times what servers take to look. */
const SETTLING_MS = 100;

/** @param rate How much faster than the machine's it runs, intervals of 10 seconds and more included. */
export async function createVirtualClock(rate = 1): Promise<VirtualClock> {
  const directory = await createTemporaryDirectory("virtual-clock-");
  const file = path.join(directory.path, "ahead-ms");
  const startMs = Date.now();
  let aheadMs = 0;
  await writeFile(file, "0");
  return {
    env: {
      NODE_OPTIONS: `--import=${PRELOAD}`,
      VIRTUAL_CLOCK_FILE: file,
      VIRTUAL_CLOCK_RATE: String(rate),
      VIRTUAL_CLOCK_START: String(startMs),
    },
    nowMs: () => Math.floor(startMs + (Date.now() - startMs) * rate + aheadMs),
    async advance(durationMs) {
      aheadMs += durationMs;
      await writeFile(`${file}.new`, String(aheadMs));
      await rename(`${file}.new`, file);
      await sleep(SETTLING_MS);
    },
    [Symbol.asyncDispose]: () => directory[Symbol.asyncDispose](),
  };
}
