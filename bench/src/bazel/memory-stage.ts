import { writeFile } from "node:fs/promises";
import path from "node:path";

import type { RunningFlywheel } from "@glorious/testkit";

import { atMost, mib, type Row } from "../report.ts";
import { getActionCase, type Population, populate, readCase, writeCase } from "./cases.ts";
import { fill } from "./fill.ts";
import { replay } from "./load/replay.ts";
import type { Scale } from "./population.ts";
import { type OurServer, startOurs } from "./subjects.ts";

/** 160 000 blobs, 300 MiB. */
const FILLED: Scale = { smallBlobs: 100_000, blobs4KiB: 60_000, blobs1MiB: 48, actions: 20_000 };
const FILLED_QUICK: Scale = { smallBlobs: 10_000, blobs4KiB: 6000, blobs1MiB: 16, actions: 4000 };
/** Four connections of these make 256 streams. */
const FILL_DEPTH = 64;
const LIMIT_MIB = 400;
const MIXED = "64 each of 1 MiB reads, 1 MiB writes, 4 KiB reads, GetActionResult";

export interface MemorySetting {
  readonly population: Population;
  readonly quick: boolean;
}

/** The highest memory of servers that were just started: while an empty one is filled, and under 256 mixed streams. */
export async function freshMemoryRows(
  setting: MemorySetting,
  directories: { readonly work: string; readonly ours: string },
): Promise<Row[]> {
  return [
    await whileFilling(setting.quick ? FILLED_QUICK : FILLED, path.join(directories.work, "empty")),
    await afterStart(setting, directories.ours),
  ];
}

async function whileFilling(scale: Scale, directory: string): Promise<Row> {
  const { process: server, subject } = await startOurs(directory);
  await using _running = server;
  await fill({ subject, scale, small: populate(scale).small, depth: FILL_DEPTH });
  const blobs = (scale.smallBlobs + scale.blobs4KiB + 2 * scale.blobs1MiB).toLocaleString("en");
  return toRow(
    `highest while filled with ${blobs} blobs and their ActionResults over 256 streams: BatchUpdateBlobs of up to 1 MiB, UpdateActionResult, 1 MiB writes`,
    await peakBytes(server),
  );
}

async function afterStart(setting: MemorySetting, directory: string): Promise<Row> {
  const server = await startOurs(directory);
  await using _running = server.process;
  await playMixed(server, setting);
  return toRow(
    `highest under 256 concurrent streams after a start: ${MIXED}`,
    await peakBytes(server.process),
  );
}

/** The same on a server that did much before. */
export async function usedMemoryRow(server: OurServer, setting: MemorySetting): Promise<Row> {
  // Forgets the highest value so far (proc_pid_clear_refs(5)).
  await writeFile(`/proc/${server.process.pid}/clear_refs`, "5");
  await playMixed(server, setting);
  return toRow(
    `highest under the same 256 streams after all of the gRPC calls below`,
    await peakBytes(server.process),
  );
}

async function playMixed(
  { subject }: OurServer,
  { population, quick }: MemorySetting,
): Promise<void> {
  const streams = { connections: 8, depth: 8 };
  const cases = [
    { ...readCase(population, "1 MiB", "plain", "uniform", 8), ...streams },
    { ...writeCase("1 MiB", "plain", quick ? 64 : 768, 8), ...streams },
    { ...readCase(population, "4 KiB", "plain", "uniform"), ...streams },
    { ...getActionCase(population, "uniform"), ...streams },
  ];
  const laid = cases.map((each) => ({ ...each, rings: each.lay(subject) }));
  const results = await Promise.all(
    laid.map(({ rings, depth, isOnce }) =>
      replay(subject.target, {
        protocol: "h2c",
        rings,
        depth,
        measureMs: isOnce ? undefined : quick ? 1000 : 4000,
      }),
    ),
  );
  for (const { firstWrong } of results) {
    if (firstWrong !== undefined) throw new Error(`while memory was measured: ${firstWrong}`);
  }
}

async function peakBytes(server: RunningFlywheel): Promise<number> {
  const bytes = await server.peakMemoryBytes();
  if (bytes === undefined) throw new Error("the server's memory could not be read");
  return bytes;
}

function toRow(what: string, bytes: number): Row {
  return {
    group: "Memory: VmHWM of our server",
    what,
    ours: mib(bytes),
    reference: "",
    ratio: undefined,
    goal: atMost(LIMIT_MIB, Math.round(bytes / 2 ** 20), "MiB"),
    peers: {},
  };
}
