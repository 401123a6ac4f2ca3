import { rm } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { output } from "../command.ts";
import type { Row } from "../report.ts";
import { formatRate, formatVolume } from "./bazel-report.ts";
import type { GrpcCase } from "./cases.ts";
import type { ReplayResult } from "./load/replay.ts";

const PROGRAM = fileURLToPath(new URL("durable-writer.ts", import.meta.url));
const FILES = 256;

type Rate = Pick<ReplayResult, "perSecond" | "p50Ms" | "p99Ms">;

/**
 * What the disk allows a server whose answer means "durable", beside ours: files of the size that the case writes, as
 * many at once, flushed one by one.
 *
 * @param ours What our server came to.
 */
export async function durableRow(
  { connections, depth, bytesPerCall }: GrpcCase,
  ours: Row,
  options: { readonly rounds: number; readonly directory: string },
): Promise<Row> {
  const atOnce = connections * depth;
  let best: Rate | undefined;
  for (let round = 0; round < options.rounds; round += 1) {
    const rate = await writeDurably(options.directory, atOnce);
    if (best === undefined || rate.perSecond > best.perSecond) best = rate;
  }
  const mine = ours.values?.["ours"]?.[0];
  if (best === undefined || mine === undefined) throw new Error("nothing was measured");
  return {
    group: ours.group,
    what: `${ours.what}; reference: a program that only writes, flushes and renames files, ${atOnce} at once`,
    ours: ours.ours,
    reference: `${formatRate(best)}${formatVolume(bytesPerCall, best)}`,
    ratio: mine / best.perSecond,
    peers: {},
  };
}

async function writeDurably(parent: string, atOnce: number): Promise<Rate> {
  const directory = path.join(parent, `durable-files-${process.pid}`);
  try {
    const args = ["--conditions=source", PROGRAM, directory, `${FILES}`, `${atOnce}`];
    // A thread for each file: none waits for another's flush.
    const env = { ...process.env, UV_THREADPOOL_SIZE: `${atOnce}` };
    return JSON.parse(await output(process.execPath, args, { env })) as Rate;
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}
