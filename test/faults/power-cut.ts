import { mkdir, readFile, rm } from "node:fs/promises";
import path from "node:path";

import type { Random } from "../random.ts";
import { DiskModel, type ImageDirectory, type IgnoresSync } from "./disk/disk-model.ts";
import { compareImage, loadDirectory, writeImage } from "./disk/image-files.ts";
import { createLoss, LOSS_KINDS, type LossKind } from "./disk/losses.ts";
import {
  checkDataDirectory,
  checkServer,
  isTokenGood,
  type Findings,
} from "./history/check-server.ts";
import { History } from "./history/history.ts";
import { appendMark, type Operation, readOperationLog } from "./recorder/operation-log.ts";
import { SEED } from "./scale.ts";
import { startServer, type TestedServer } from "./start-server.ts";
import { pushClosure } from "./traffic/clients.ts";
import { type ClosureFactory, createClosureFactory } from "./traffic/closures.ts";
import { runTraffic } from "./traffic/run-traffic.ts";

/** The folders and the chance of one crash test. */
export interface Bench {
  readonly directory: string;
  readonly random: Random;
  readonly closures: ClosureFactory;
}

/** What a server did to its disk. */
export interface DiskRecording {
  /** The disk it started from. */
  readonly baseDirectory: string;
  readonly diskPath: string;
  readonly operations: readonly Operation[];
}

/** The same while clients used it. */
export interface Recording extends DiskRecording {
  readonly history: History;
  /** What its clients know of it. */
  readonly publicKey: string;
  readonly token: string;
}

/** A moment of a recording, and how a crash then treats what was not flushed. */
export interface Cut {
  /** How many operations had happened. */
  readonly at: number;
  readonly loss: LossKind;
}

export async function createBench(directory: string, random: Random): Promise<Bench> {
  const closures = path.join(directory, "closures");
  await mkdir(closures);
  return { directory, random, closures: createClosureFactory(closures, random.fork("closures")) };
}

let directories = 0;

/** A name that nothing in the bench has. */
export function freshDirectory({ directory }: Pick<Bench, "directory">, name: string): string {
  return path.join(directory, `${name}-${(directories += 1)}`);
}

/** Settings under which expiry, sweeps and deletions happen while a test runs. */
export const BUSY_HOUSEKEEPING: Readonly<Record<string, string>> = {
  FLYWHEEL_RETENTION_SWEEP_INTERVAL: "200ms",
  FLYWHEEL_RETENTION_NAR_GRACE: "300ms",
  FLYWHEEL_RETENTION_OBJECT_GRACE: "2s",
  // Nothing is that old: every collection has to find out.
  FLYWHEEL_RETENTION_DEFAULT: "30d",
  FLYWHEEL_RETENTION_COLLECT_INTERVAL: "500ms",
  FLYWHEEL_SCRUB_INTERVAL: "1s",
  FLYWHEEL_SCRUB_BYTES_PER_SECOND: "1 GiB",
};

/**
 * Runs a recorded server on a copy of `base` and lets clients use it until it is killed.
 *
 * @throws {Error} when the record does not explain the directory that the server leaves.
 */
export async function record(
  bench: Bench,
  options: {
    readonly base: string;
    readonly history: History;
    readonly clients: number;
    readonly steps: number;
    readonly env?: Readonly<Record<string, string>>;
  },
): Promise<Recording> {
  let views = 0;
  let used: Omit<Recording, keyof DiskRecording> | undefined;
  const env = { ...BUSY_HOUSEKEEPING, ...options.env };
  const disk = await recordDisk(bench, { base: options.base, env }, async ({ target }, note) => {
    const history = options.history.withListener(note);
    used = { history, publicKey: target.publicKey, token: target.token };
    const { errors } = await runTraffic({
      random: bench.random.fork(`traffic ${directories}`),
      closures: bench.closures,
      history,
      target: () => target,
      clients: options.clients,
      steps: options.steps,
      viewName: () => `v${bench.random.below(1e6)}-${(views += 1)}`,
    });
    if (errors.length > 0) throw new Error("The recorded server failed", { cause: errors[0] });
  });
  if (used === undefined) throw new Error("The recorded server was never used");
  return { ...disk, ...used };
}

/** A kill may come between what a thread does and the record of it: such a run tells nothing, and is made again. */
const MAX_RUNS = 3;

/**
 * Runs a recorded server on a copy of `base` until `use` is done with it, which is then killed.
 *
 * @param options.env Further settings of the server.
 * @param use Is given what notes a count of events in the record; it is called again for a run that is made again.
 * @throws {Error} when the record does not explain the directory that the server leaves.
 */
export async function recordDisk(
  bench: Pick<Bench, "directory" | "random">,
  options: { readonly base: string; readonly env?: Readonly<Record<string, string>> },
  use: (server: TestedServer, note: (eventCount: number) => void) => Promise<void>,
): Promise<DiskRecording> {
  let differences: readonly string[] = [];
  for (let run = 0; run < MAX_RUNS; run += 1) {
    const recorded = await recordRun(bench, options, use);
    if (recorded.differences.length === 0) return recorded.recording;
    ({ differences } = recorded);
  }
  throw new Error(`The record does not explain the disk: ${differences.join(", ")}`);
}

async function recordRun(
  bench: Pick<Bench, "directory" | "random">,
  options: { readonly base: string; readonly env?: Readonly<Record<string, string>> },
  use: (server: TestedServer, note: (eventCount: number) => void) => Promise<void>,
): Promise<{ readonly recording: DiskRecording; readonly differences: readonly string[] }> {
  const { base: baseDirectory, env = {} } = options;
  const disk = freshDirectory(bench, "disk");
  const logFile = `${disk}.log`;
  await copyDisk(baseDirectory, disk);
  {
    await using server = await startServer({
      dataDirectory: path.join(disk, "data"),
      random: bench.random,
      recorder: { root: disk, logFile },
      env,
    });
    await use(server, (count) => appendMark(logFile, String(count)));
    await server.crash();
  }
  const operations = readOperationLog(await readFile(logFile));
  const recording = { baseDirectory, diskPath: disk, operations };
  const differences = await compareImage(await cutPower(recording, bench.random, END), disk);
  await rm(disk, { recursive: true });
  await rm(logFile);
  return { recording, differences };
}

const END: Cut = { at: Number.POSITIVE_INFINITY, loss: "none" };

/** Makes a new folder of what the crash leaves. Flushes that are ignored are as if the server had never asked for them. */
export async function writeAftermath(
  bench: Pick<Bench, "directory" | "random">,
  recording: DiskRecording,
  cut: Cut,
  ignoresSync?: IgnoresSync,
): Promise<string> {
  const disk = freshDirectory(bench, "recovered");
  await writeImage(await cutPower(recording, bench.random, cut, ignoresSync), disk);
  return disk;
}

async function cutPower(
  { baseDirectory, diskPath, operations }: DiskRecording,
  random: Random,
  { at, loss }: Cut,
  ignoresSync?: IgnoresSync,
): Promise<ImageDirectory> {
  const model = new DiskModel(diskPath, ignoresSync);
  await loadDirectory(model, baseDirectory);
  const happened = operations.slice(0, Math.min(at, operations.length));
  for (const operation of happened) model.apply(operation);
  return model.image(createLoss(loss, random, happened.length));
}

/** Any moment, and more often one just before or after something was promised or flushed. */
export function chooseCut({ operations }: DiskRecording, random: Random): Cut {
  const loss = random.pick(LOSS_KINDS);
  const moments = operations.flatMap(({ kind }, at) =>
    kind === "mark" || kind === "sync-end" || kind === "rename" || kind === "unlink" ? [at] : [],
  );
  const at =
    moments.length === 0 || random.chance(0.3)
      ? random.below(operations.length + 1)
      : random.pick(moments) + random.below(2);
  return { at, loss };
}

/** How many events of the history had happened, for its clients, before the cut. */
export function eventsBefore({ operations }: DiskRecording, { at }: Cut): number {
  let count = 0;
  for (const operation of operations.slice(0, Math.min(at, operations.length))) {
    if (operation.kind === "mark") count = Number(operation.text);
  }
  return count;
}

/** For a failed expectation: how to have this cut again, and what led up to it. */
export function describeCut({ operations }: DiskRecording, { at, loss }: Cut): string {
  const last = operations.slice(Math.max(0, at - 12), at).map((operation) => {
    const { kind, ...rest } = operation;
    const fields = Object.entries(rest).map(([name, value]) =>
      Buffer.isBuffer(value) ? `${value.length} bytes` : `${name} ${value}`,
    );
    return `  ${kind} ${fields.join(", ")}`;
  });
  return `GLORIOUS_SEED=${SEED}, cut at ${at} of ${operations.length}, losing ${loss}, after\n${last.join("\n")}\n`;
}

export interface Aftermath extends Findings {
  /** The disk after a restart, a check and one more push. */
  readonly disk: string;
  /** What is true from here on. */
  readonly history: History;
  /** Removes the disk. */
  discard(): Promise<void>;
}

/** Starts the server on what the crash left, holds it against its promises, and pushes once more. */
export async function recover(
  bench: Bench,
  recording: Recording,
  cut: Cut,
  ignoresSync?: IgnoresSync,
): Promise<Aftermath> {
  const disk = await writeAftermath(bench, recording, cut, ignoresSync);
  const eventCount = eventsBefore(recording, cut);
  const expectations = recording.history.expect(eventCount);
  const dataDirectory = path.join(disk, "data");
  const discard = (): Promise<void> => rm(disk, { recursive: true });
  let server: TestedServer;
  try {
    server = await startServer({ dataDirectory, random: bench.random });
  } catch (error) {
    const violations = [`The server does not start again: ${String(error)}`];
    return { violations, present: new Set(), disk, history: new History(), discard };
  }
  await using running = server;
  const { target, flywheel } = running;
  const violations: string[] = [];
  const died = flywheel.exited.then((status): never => {
    throw new Error(`The server ended with ${status} on its own:\n${flywheel.logs()}`);
  });
  died.catch(() => {});
  // Nobody has seen a key before the first event.
  if (eventCount > 0 && target.publicKey !== recording.publicKey) {
    violations.push("The signing key that clients trust is gone");
  }
  if (eventCount > 0 && !(await isTokenGood({ ...target, token: recording.token }))) {
    violations.push("The administrator's token is no longer good");
  }
  const found = await Promise.race([checkServer(target, expectations), died]);
  violations.push(...found.violations, ...(await checkDataDirectory(dataDirectory)));
  const history = recording.history.settle(eventCount, (hash) => found.present.has(hash));
  const present = new Set(found.present);
  try {
    const closure = await bench.closures.createClosure();
    await pushClosure(target, closure, history);
    const after = await checkServer(target, history.expect());
    violations.push(...after.violations.map((violation) => `After another push: ${violation}`));
    for (const hash of after.present) present.add(hash);
  } catch (error) {
    violations.push(`The next push fails: ${String(error)}`);
  }
  await flywheel.stop();
  return { violations, present, disk, history, discard };
}

async function copyDisk(from: string, to: string): Promise<void> {
  const model = new DiskModel(from);
  await loadDirectory(model, from);
  await writeImage(model.image({ keepsName: () => true, contents: (file) => file.durable }), to);
}
