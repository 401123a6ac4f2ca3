import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";

import { CacheError, silentLogger } from "@glorious/core";
import { afterAll, beforeAll, expect, test } from "vitest";

import type { UploadFigures } from "../src/statistics.ts";
import { appendToQueue, openSpool, type Spool } from "../src/uploads/spool.ts";
import { startUploader, type Uploader, type UploaderOptions } from "../src/uploads/uploader.ts";

const HASH = "0c5b8vw40dr178xlpddw65q9gf1h218";
const pathOf = (digit: string, name = "p"): string => `/nix/store/${HASH}${digit}-${name}`;

let folder: string;
let count = 0;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "flywheel-uploader-"));
});
afterAll(() => rm(folder, { recursive: true }));

interface Started {
  readonly uploader: Uploader;
  readonly queueFile: string;
  readonly reopen: () => Promise<Spool>;
  readonly last: () => UploadFigures | undefined;
}

async function start(
  push: (paths: readonly string[]) => Promise<void>,
  more: Partial<UploaderOptions> = {},
): Promise<Started> {
  count += 1;
  const files = {
    queueFile: path.join(folder, `queue-${count}`),
    journalFile: path.join(folder, `journal-${count}`),
  };
  let last: UploadFigures | undefined;
  const uploader = startUploader({
    spool: await openSpool(files),
    queueFile: files.queueFile,
    push: async (paths) => {
      await push(paths);
      return { sentBytes: 10 };
    },
    isExcluded: (each) => each.endsWith("-secret"),
    findMore: () => Promise.resolve([]),
    onFigures: (figures) => {
      last = figures;
    },
    logger: silentLogger,
    ...more,
  });
  return { uploader, queueFile: files.queueFile, reopen: () => openSpool(files), last: () => last };
}

test("what is queued is pushed without anybody asking, and not again by the next reader", async () => {
  const pushed = Promise.withResolvers<readonly string[]>();
  const { uploader, queueFile, reopen } = await start(async (paths) => pushed.resolve(paths));
  await using _ = uploader;
  await appendToQueue(queueFile, [pathOf("a")]);
  expect(await pushed.promise).toEqual([pathOf("a")]);
  expect(await uploader.drain({ timeoutMs: 60_000 })).toMatchObject({ failed: 0, left: 0 });
  expect(await (await reopen()).readNew()).toEqual([]);
});

test("a filtered path is skipped, a refused one does not keep the others", async () => {
  const { uploader, queueFile, last } = await start(async (paths) => {
    if (paths.includes(pathOf("b"))) throw new CacheError("CORRUPT", "damaged");
  });
  await using _ = uploader;
  await appendToQueue(queueFile, [pathOf("a"), pathOf("b"), pathOf("c"), pathOf("d", "secret")]);
  const report = await uploader.drain({ timeoutMs: 60_000 });
  expect(report).toMatchObject({ failed: 1, left: 0 });
  expect(last()).toMatchObject({ queued: 3, pushed: 2, failed: 1, skipped: 1, left: 0 });
});

test("a drain looks for what no hook told of", async () => {
  const { uploader } = await start(() => Promise.resolve(), {
    findMore: () => Promise.resolve([pathOf("a")]),
  });
  await using _ = uploader;
  expect(await uploader.drain({ timeoutMs: 60_000 })).toMatchObject({ pushed: 1, left: 0 });
});

test("a drain without a server ends at its limit, says what is left, and keeps it", async () => {
  const { uploader, queueFile, reopen } = await start(async () => {
    throw new CacheError("UNAVAILABLE", "cache.example.org cannot be reached");
  });
  await using _ = uploader;
  await appendToQueue(queueFile, [pathOf("a")]);
  expect(await uploader.drain({ timeoutMs: 300 })).toMatchObject({
    pushed: 0,
    left: 1,
    reason: "cache.example.org cannot be reached",
  });
  expect(await (await reopen()).readNew()).toEqual([pathOf("a")]);
});

test("a drain ends early when nothing moves", async () => {
  let nowMs = 0;
  const { uploader, queueFile } = await start(() => new Promise(() => {}), {
    nowMs: () => (nowMs += 1000),
  });
  await appendToQueue(queueFile, [pathOf("a")]);
  expect(await uploader.drain({ timeoutMs: 3_600_000 })).toMatchObject({ left: 1 });
});
