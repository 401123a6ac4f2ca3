import { mkdir, readdir } from "node:fs/promises";
import path from "node:path";

import { createTemporaryDirectory } from "@glorious/testkit";

import { createRandom, type Random } from "../random.ts";
import type { IgnoresSync } from "./disk/disk-model.ts";
import { type BazelEntry, BazelHistory } from "./history/bazel-history.ts";
import { bazelDirectory, checkBazel, checkBazelDirectory } from "./history/check-bazel.ts";
import { mutatedEnvironment } from "./mutation/mutations.ts";
import {
  type Cut,
  type DiskRecording,
  eventsBefore,
  freshDirectory,
  recordDisk,
  writeAftermath,
} from "./power-cut.ts";
import { SEED } from "./scale.ts";
import { startServer } from "./start-server.ts";
import { runBazelTraffic } from "./traffic/bazel-traffic.ts";

/** Traffic goes on until the packer has done all that it does, on a busy machine too. */
const MAX_ROUNDS = 5;

/** A packer for which little is much, and a moment long. */
const BUSY_PACKER = mutatedEnvironment({
  edits: [
    ["MIN_OBJECTS = 50_000", "MIN_OBJECTS = 8"],
    ["MAX_PACK_OBJECTS = 100_000", "MAX_PACK_OBJECTS = 16"],
    ["OBJECTS_PER_SLICE = 64", "OBJECTS_PER_SLICE = 4"],
    ["INTERVAL_MS = 5000", "INTERVAL_MS = 10"],
  ].map(([find = "", replace = ""]) => ({ file: "/bazel/store/packer.ts", find, replace })),
});

/** The folder and the chance of one crash test. */
export interface BazelBench extends AsyncDisposable {
  readonly directory: string;
  readonly random: Random;
}

/** What a server did to its disk while clients stored things for Bazel. */
export interface BazelRecording extends DiskRecording {
  readonly history: BazelHistory;
}

/** A folder of its own for one crash test, with its chance. */
export async function makeBench(name: string): Promise<BazelBench> {
  const temporary = await createTemporaryDirectory("flywheel-bazel-cuts-");
  return {
    directory: temporary.path,
    random: createRandom(`${SEED} ${name}`),
    [Symbol.asyncDispose]: () => temporary[Symbol.asyncDispose](),
  };
}

/** A disk on which nothing was ever stored. */
export async function emptyDisk(bench: BazelBench): Promise<string> {
  const disk = freshDirectory(bench, "empty");
  await mkdir(disk);
  return disk;
}

/** Runs a recorded server on a copy of `base`, lets clients use it, and kills it. */
export async function recordBazel(
  bench: BazelBench,
  options: { readonly base: string; readonly history: BazelHistory; readonly steps: number },
): Promise<BazelRecording> {
  const { base, steps } = options;
  let history = options.history;
  const disk = await recordDisk(bench, { base, env: BUSY_PACKER }, async (server, note) => {
    const { target, flywheel } = server;
    history = options.history.withListener(note);
    for (let round = 0; round < MAX_ROUNDS; round += 1) {
      const random = bench.random.fork(`traffic ${bench.random.below(2 ** 31)}`);
      await runBazelTraffic({ random, history, target, clients: 3, steps });
      if (await wasPackWrittenAnew(flywheel.dataDirectory)) break;
    }
  });
  return { ...disk, history };
}

/** Whether one is there that took the place of another. */
async function wasPackWrittenAnew(dataDirectory: string): Promise<boolean> {
  const names = await readdir(path.join(bazelDirectory(dataDirectory), "packs"));
  return names.some((name) => /^\d+-\d+-\d*[2-9]$/.test(name));
}

export interface BazelAftermath {
  readonly disk: string;
  readonly violations: readonly string[];
  readonly present: ReadonlySet<BazelEntry>;
  /** What is true from here on. */
  readonly history: BazelHistory;
}

/** Starts the server on what the crash left, holds it against its promises, and stores some more. */
export async function recoverBazel(
  bench: BazelBench,
  recording: BazelRecording,
  cut: Cut,
  ignoresSync?: IgnoresSync,
): Promise<BazelAftermath> {
  const disk = await writeAftermath(bench, recording, cut, ignoresSync);
  const dataDirectory = path.join(disk, "data");
  const eventCount = eventsBefore(recording, cut);
  const nothing = { disk, present: new Set<BazelEntry>(), history: new BazelHistory() };
  try {
    await using server = await startServer({
      dataDirectory,
      random: bench.random,
      env: BUSY_PACKER,
    });
    const { target, flywheel } = server;
    const found = await checkBazel(target, recording.history.expect(eventCount));
    const history = recording.history.settle(eventCount, found.present);
    const random = bench.random.fork(`after ${bench.random.below(2 ** 31)}`);
    await runBazelTraffic({ random, history, target, clients: 1, steps: 2 });
    const after = await checkBazel(target, history.expect());
    const leftovers = await checkBazelDirectory(dataDirectory);
    await flywheel.stop();
    const later = after.violations.map((violation) => `After more was stored: ${violation}`);
    const violations = [...found.violations, ...later, ...leftovers];
    return { disk, violations, present: found.present, history };
  } catch (error) {
    return { ...nothing, violations: [`The server is of no use any more: ${String(error)}`] };
  }
}
