import {
  copyFile,
  mkdtemp,
  readdir,
  readFile,
  rm,
  stat,
  truncate,
  writeFile,
} from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";

import { expect, test } from "vitest";

import type { BazelScope, BazelStore } from "../../src/bazel/store/bazel-store.ts";
import { openTenantStore } from "../../src/bazel/store/tenant-store.ts";
import { beginBazelProgress, type BazelScrubProgress } from "../../src/housekeeping/bazel-scrub.ts";
import { blobOf, listOf, pieces, randomBlob, type TestBlob } from "./blobs.ts";
import { HOUR_MS, missingOf, put, read } from "./store-contract.ts";

const PATIENCE = { timeout: 30_000 };

/** What a test changes between two runs of a store. */
interface Setting {
  maxBytes: number;
  nowMs: number;
}

class Scene implements AsyncDisposable {
  readonly directory: string;
  readonly setting: Setting;
  store: BazelStore;

  private constructor(directory: string, setting: Setting, store: BazelStore) {
    this.directory = directory;
    this.setting = setting;
    this.store = store;
  }

  static async open(): Promise<Scene> {
    const directory = await mkdtemp(join(tmpdir(), "packs-"));
    const setting = { maxBytes: 2 ** 40, nowMs: Date.UTC(2026, 0, 1) };
    return new Scene(directory, setting, await openAt(directory, setting));
  }

  get scope(): BazelScope {
    return this.store.scope(1, "main");
  }

  close(): PromiseLike<void> {
    return this.store[Symbol.asyncDispose]();
  }

  async reopen(): Promise<void> {
    this.store = await openAt(this.directory, this.setting);
  }

  async packs(): Promise<string[]> {
    const folder = join(this.directory, "packs");
    return (await readdir(folder)).toSorted().map((name) => join(folder, name));
  }

  /** Objects whose bytes lie in the index. */
  inlineObjects(): number {
    using database = new DatabaseSync(join(this.directory, "index.sqlite"), { readOnly: true });
    const { count } = database.prepare("SELECT count(*) AS count FROM contents").get() ?? {};
    return Number(count);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
    await rm(this.directory, { recursive: true, force: true });
  }
}

function openAt(directory: string, setting: Setting): Promise<BazelStore> {
  return openTenantStore({
    directory,
    now: () => setting.nowMs,
    views: async () => new Map([[1, { maxBytes: undefined }]]),
    limits: {
      maxBytes: setting.maxBytes,
      maxBlobBytes: 2 ** 32,
      ttlMs: 3 * HOUR_MS,
      memoryBytes: 16 * 2 ** 20,
    },
  });
}

async function putAll(scope: BazelScope, blobs: readonly TestBlob[]): Promise<void> {
  for (const blob of blobs) await put(scope, blob);
}

test("small blobs and values move from the index into a pack, and are read from there, by the next run too", async () => {
  await using scene = await Scene.open();
  const blobs = [1, 500, 4096, 32 * 1024, 32 * 1024 + 1].map(randomBlob);
  const value = randomBlob(700);
  await putAll(scene.scope, blobs);
  await scene.scope.putValue("a key", pieces(value.bytes), { sizeBytes: value.sizeBytes });
  expect(scene.inlineObjects()).toBe(5);

  await scene.store.pack();

  expect(scene.inlineObjects()).toBe(0);
  expect(await scene.packs()).toHaveLength(1);
  for (let run = 0; run < 2; run += 1) {
    for (const blob of blobs) expect(await read(scene.scope, blob)).toEqual(blob.bytes);
    expect((await scene.scope.findValue("a key"))?.value.bytes).toEqual(value.bytes);
    await scene.close();
    await scene.reopen();
  }
});

test("a crash between a pack and the index's forgetting leaves everything where it is found", async () => {
  await using scene = await Scene.open();
  const blobs = [100, 200, 300].map(randomBlob);
  await putAll(scene.scope, blobs);
  await scene.close();
  const index = join(scene.directory, "index.sqlite");
  await copyFile(index, `${index}.before`);
  await scene.reopen();
  await scene.store.pack();
  await scene.close();
  await copyFile(`${index}.before`, index);
  await writeFile(join(scene.directory, "packs", "0123456789abcdef.tmp"), "a pack that was cut");

  await scene.reopen();

  for (const blob of blobs) expect(await read(scene.scope, blob)).toEqual(blob.bytes);
  await expect.poll(() => scene.inlineObjects(), PATIENCE).toBe(0);
  for (const blob of blobs) expect(await read(scene.scope, blob)).toEqual(blob.bytes);
  expect(await scene.packs()).toHaveLength(1);
});

test("packs of an index that is no longer there never answer for the objects of another", async () => {
  await using scene = await Scene.open();
  const before = [100, 200, 300].map(randomBlob);
  await putAll(scene.scope, before);
  await scene.store.pack();
  await scene.close();
  // As when somebody brings back a copy of before.
  for (const name of ["index.sqlite", "index.sqlite-wal", "index.sqlite-shm"]) {
    await rm(join(scene.directory, name), { force: true });
  }

  await scene.reopen();

  expect(await missingOf(scene.scope, before)).toEqual(before);
  const after = [400, 500, 600].map(randomBlob);
  await putAll(scene.scope, after);
  for (const blob of after) expect(await read(scene.scope, blob)).toEqual(blob.bytes);
  await scene.store.pack();
  for (const blob of after) expect(await read(scene.scope, blob)).toEqual(blob.bytes);
});

const LOSSES: readonly [title: string, harm: (pack: string) => Promise<void>][] = [
  ["is gone", (pack) => rm(pack)],
  ["was cut short", (pack) => truncate(pack, 1000)],
];

test.for(LOSSES)(
  "what lay in a pack that %s is absent, and the next upload heals it",
  async ([, harm]) => {
    await using scene = await Scene.open();
    const [lost, kept] = [randomBlob(3000), randomBlob(100_000)];
    const [lossy, whole] = [blobOf("one action").key, blobOf("another").key];
    await putAll(scene.scope, [lost, kept]);
    await scene.scope.putAction(lossy, Buffer.from("needs both"), listOf([lost, kept]));
    await scene.scope.putAction(whole, Buffer.from("needs one"), listOf([kept]));
    await scene.scope.putValue("a key", pieces(lost.bytes), { sizeBytes: lost.sizeBytes });
    await scene.store.pack();
    await scene.close();
    for (const pack of await scene.packs()) await harm(pack);

    await scene.reopen();

    // At once: a build that is told that it is there ends when it asks for the bytes.
    expect(await scene.scope.findAction(lossy)).toEqual({ kind: "incomplete" });
    expect(await scene.scope.findValue("a key")).toBeUndefined();
    expect(await missingOf(scene.scope, [lost, kept])).toEqual([lost]);
    expect(await scene.scope.findAction(whole)).toMatchObject({ kind: "hit" });
    expect(await put(scene.scope, lost)).toBe("stored");
    await scene.store.pack();
    expect(await read(scene.scope, lost)).toEqual(lost.bytes);
    expect(await scene.scope.findAction(lossy)).toMatchObject({ kind: "hit" });
  },
);

test.for([0, 1, 2])(
  "the loss of pack %i of three is known at once, and the others' objects stay",
  async (lost) => {
    await using scene = await Scene.open();
    const groups = [0, 1, 2].map(() => [100_000, 200, 300].map(randomBlob));
    const actions = groups.map((_, group) => blobOf(`action ${group}`).key);
    for (const [group, blobs] of groups.entries()) {
      await putAll(scene.scope, blobs);
      const key = actions[group] as Uint8Array;
      await scene.scope.putAction(key, Buffer.from("needs them"), listOf(blobs));
      await scene.store.pack();
    }
    const waiting = randomBlob(500);
    await put(scene.scope, waiting);
    await scene.close();
    await rm((await scene.packs())[lost] as string);

    await scene.reopen();

    const found = await Promise.all(actions.map((key) => scene.scope.findAction(key)));
    expect(found.map(({ kind }) => kind === "hit")).toEqual([0, 1, 2].map((at) => at !== lost));
    expect(await missingOf(scene.scope, groups.flat())).toEqual(groups[lost]?.slice(1));
    expect(await read(scene.scope, waiting)).toEqual(waiting.bytes);
  },
);

test("a pack shrinks when most of what it held was evicted, and goes when all was", async () => {
  await using scene = await Scene.open();
  const [old, fresh] = [0, 0].map(() => Array.from({ length: 20 }, () => randomBlob(2000)));
  if (old === undefined || fresh === undefined) throw new Error("there are two");
  await putAll(scene.scope, old);
  await putAll(scene.scope, fresh.slice(0, 8));
  await scene.store.pack();
  const [before] = await scene.packs();
  expect((await stat(before ?? "")).size).toBeGreaterThan(56_000);

  scene.setting.nowMs += 5 * HOUR_MS;
  expect(await missingOf(scene.scope, fresh.slice(0, 8))).toEqual([]);
  scene.setting.maxBytes = 20_000;
  await scene.close();
  await scene.reopen();
  await scene.store.evict();
  await scene.store.pack();

  const [after] = await scene.packs();
  expect((await stat(after ?? "")).size).toBeLessThan(20_000);
  for (const blob of fresh.slice(0, 8)) expect(await read(scene.scope, blob)).toEqual(blob.bytes);
  expect(await missingOf(scene.scope, old)).toEqual(old);

  scene.setting.maxBytes = 2 ** 40;
  await scene.close();
  await scene.reopen();
  for (const blob of fresh.slice(0, 8)) expect(await read(scene.scope, blob)).toEqual(blob.bytes);
  for (const { key } of fresh.slice(0, 8)) await scene.store.lose(key);
  await scene.store.pack();
  expect(await scene.packs()).toEqual([]);

  await putAll(scene.scope, fresh);
  await scene.store.pack();
  for (const blob of fresh) expect(await read(scene.scope, blob)).toEqual(blob.bytes);
});

test("a scrub finds damage in a pack; what is stored again is then read, not what the pack still has", async () => {
  await using scene = await Scene.open();
  const [blob, good] = [randomBlob(3000), randomBlob(2000)];
  await putAll(scene.scope, [blob, good]);
  await scene.store.pack();
  const [pack = ""] = await scene.packs();
  const damaged = await readFile(pack);
  damaged[7] = (damaged[7] ?? 0) ^ 1;
  await writeFile(pack, damaged);
  expect(await read(scene.scope, blob)).not.toEqual(blob.bytes);

  expect(await scrub(scene)).toMatchObject({ scanned: 2, badTotal: 1, bad: [{ name: blob.hash }] });

  expect(await read(scene.scope, blob)).toBeUndefined();
  expect(await read(scene.scope, good)).toEqual(good.bytes);
  expect(await put(scene.scope, blob)).toBe("stored");
  expect(await read(scene.scope, blob)).toEqual(blob.bytes);
  await scene.store.pack();
  expect(await read(scene.scope, blob)).toEqual(blob.bytes);
  expect(await scrub(scene)).toMatchObject({ scanned: 2, badTotal: 0 });
});

async function scrub({ store }: Scene): Promise<BazelScrubProgress> {
  const progress = beginBazelProgress();
  const { signal } = new AbortController();
  const work = {
    checkedBeforeMs: Infinity,
    pace: async () => {},
    signal,
    onScanned: () => {},
  };
  await store.scrub(progress, work, () => {});
  return progress;
}
