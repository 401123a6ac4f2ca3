import { mkdir, rm, statfs, writeFile } from "node:fs/promises";
import path from "node:path";

import type { PathInfo } from "@glorious/cache-client";
import { type CacheErrorCode, isCacheError } from "@glorious/core";
import { createTemporaryDirectory, runCommand } from "@glorious/testkit";
import { expect, test } from "vitest";

import { createRandom } from "../random.ts";
import { checkDataDirectory, checkServer } from "./history/check-server.ts";
import { History } from "./history/history.ts";
import { type Bench, createBench } from "./power-cut.ts";
import { buildRecorder } from "./recorder/build-recorder.ts";
import { IS_LONG, SEED } from "./scale.ts";
import { startServer, type TestedServer } from "./start-server.ts";
import { createView, pushAttic, pushClosure } from "./traffic/clients.ts";

const built = await buildRecorder();

/** Everything a client may do on a full disk; what each of them is told. */
async function useServer(
  server: TestedServer,
  bench: Bench,
  history: History,
  times: number,
): Promise<unknown[]> {
  const errors: unknown[] = [];
  const attempt = (work: Promise<void>): Promise<void> =>
    work.catch((error: unknown) => void errors.push(error));
  for (let time = 0; time < times; time += 1) {
    const closure: PathInfo[] = await bench.closures.createClosure();
    await Promise.all([
      attempt(pushClosure(server.target, closure, history)),
      attempt(pushAttic(server.target, await bench.closures.createClosure(), history)),
      attempt(createView(server.target, `f${bench.random.below(2 ** 31)}`, history)),
    ]);
  }
  return errors;
}

async function expectSound(server: TestedServer, history: History): Promise<History> {
  const { violations, present } = await checkServer(server.target, history.expect());
  const leftovers = await checkDataDirectory(server.flywheel.dataDirectory);
  expect([...violations, ...leftovers], `GLORIOUS_SEED=${SEED}`).toEqual([]);
  return history.settle(history.eventCount, (hash) => present.has(hash));
}

/** Every protocol says what is the matter, in its own way. */
function expectRefusals(errors: readonly unknown[], code: CacheErrorCode): void {
  expect(errors).not.toEqual([]);
  const status = code === "STORAGE_FULL" ? "got 507" : "got 503";
  for (const error of errors) {
    const isSaid = isCacheError(error, code) || String(error).includes(status);
    expect(isSaid, `${String(error)} does not say ${code}`).toBe(true);
  }
}

test("a full disk is a clean refusal: nothing is lost, and room heals it", async ({ skip }) => {
  const random = createRandom(`${SEED} full`);
  await using temporary = await createTemporaryDirectory("flywheel-full-");
  const bench = await createBench(temporary.path, random);
  const disk = path.join(temporary.path, "disk");
  await mkdir(disk);
  const mounted = await runCommand("mount", ["-t", "tmpfs", "-o", "size=12m", "tmpfs", disk]).catch(
    () => undefined,
  );
  if (mounted?.status !== 0) skip("mounting a small tmpfs needs root");
  try {
    await using server = await startServer({ dataDirectory: path.join(disk, "data"), random });
    const ballast = path.join(disk, "ballast");
    await writeFile(ballast, Buffer.alloc(3 * 2 ** 20));
    let history = new History();
    const errors: unknown[] = [];
    while (errors.length < 12) errors.push(...(await useServer(server, bench, history, 1)));
    expectRefusals(errors, "STORAGE_FULL");
    const { bavail, bsize } = await statfs(disk);
    expect(bavail * bsize).toBeLessThan(2 ** 20);
    history = await expectSound(server, history);

    await rm(ballast);
    expect(await useServer(server, bench, history, 1)).toEqual([]);
    await expectSound(server, history);
  } finally {
    await runCommand("umount", ["-l", disk]);
  }
});

/** Something the file system refuses, as a rule of the recorder, and what clients are told. */
interface Refusal {
  readonly what: string;
  readonly rule: string;
  readonly code?: CacheErrorCode;
}

const REFUSALS: readonly Refusal[] = [
  { what: "a new file", rule: "fail-28|create|data/store/*|1+" },
  { what: "a blob's bytes", rule: "fail-28|write|data/store/tmp/*|1+" },
  { what: "a folder", rule: "fail-28|mkdir|data/store/blobs/*|1+" },
  { what: "a blob's name", rule: "fail-28|rename|data/store/blobs/*|1+" },
  { what: "a blob's bytes when flushing", rule: "fail-28|sync|data/store/tmp/*|1+" },
  { what: "a blob's name when flushing", rule: "fail-28|sync-directory|data/store/*|1+" },
  { what: "the index's log", rule: "fail-28|write|data/index.sqlite-wal|1+" },
  // SQLite knows of a failed flush only that it failed.
  {
    what: "the index's log when flushing",
    rule: "fail-28|sync|data/index.sqlite-wal|1+",
    code: "UNAVAILABLE",
  },
  { what: "a blob's bytes within the quota", rule: "fail-122|write|data/store/tmp/*|1+" },
];

test.for(REFUSALS)("no room for $what is a clean refusal that heals", async (refusal, { skip }) => {
  if ("missing" in built) skip(built.missing);
  const { rule, code = "STORAGE_FULL" } = refusal;
  const random = createRandom(`${SEED} ${rule}`);
  await using temporary = await createTemporaryDirectory("flywheel-refused-");
  const bench = await createBench(temporary.path, random);
  const disk = path.join(temporary.path, "disk");
  const full = path.join(temporary.path, "is-full");
  await using server = await startServer({
    dataDirectory: path.join(disk, "data"),
    random,
    recorder: { root: disk, rules: [rule], whileFile: full },
  });
  let history = new History();
  expect(await useServer(server, bench, history, 1)).toEqual([]);

  await writeFile(full, "");
  expectRefusals(await useServer(server, bench, history, IS_LONG ? 5 : 1), code);
  await rm(full);

  history = await expectSound(server, history);
  expect(await useServer(server, bench, history, 1)).toEqual([]);
  await expectSound(server, history);
});

test("a disk that fails to flush makes no promises", async ({ skip }) => {
  if ("missing" in built) skip(built.missing);
  const random = createRandom(`${SEED} broken`);
  await using temporary = await createTemporaryDirectory("flywheel-broken-");
  const bench = await createBench(temporary.path, random);
  const disk = path.join(temporary.path, "disk");
  const broken = path.join(temporary.path, "is-broken");
  await using server = await startServer({
    dataDirectory: path.join(disk, "data"),
    random,
    recorder: {
      root: disk,
      rules: ["fail-5|sync|data/*|1+", "fail-5|sync-directory|data/*|1+"],
      whileFile: broken,
    },
  });
  const history = new History();
  await writeFile(broken, "");
  const errors = await useServer(server, bench, history, 2);
  expect(history.acknowledged()).toBe(0);
  expect(errors).not.toEqual([]);
  await rm(broken);
  expect(await useServer(server, bench, history, 1)).toEqual([]);
  await expectSound(server, history);
});
