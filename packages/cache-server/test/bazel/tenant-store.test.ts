import { mkdir, mkdtemp, readdir, rm, truncate, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";

import { expect, test } from "vitest";

import { openTenantStore } from "../../src/bazel/store/tenant-store.ts";
import { blobOf, listOf, randomBlob, type TestBlob } from "./blobs.ts";
import {
  describeBazelStore,
  HOUR_MS,
  missingOf,
  type OpenedStore,
  put,
  read,
  recall,
  type StoreLimits,
} from "./store-contract.ts";

interface OpenedTenant extends OpenedStore {
  readonly directory: string;
}

async function openTenant(
  limits: StoreLimits = {},
  { isPacking = false }: { readonly isPacking?: boolean } = {},
): Promise<OpenedTenant> {
  const directory = await mkdtemp(join(tmpdir(), "tenant-store-"));
  let offsetMs = 0;
  const views = limits.views ?? new Map([1, 2].map((id) => [id, { maxBytes: undefined }] as const));
  const open = (): ReturnType<typeof openTenantStore> =>
    openTenantStore({
      directory,
      fsync: "none",
      now: () => Date.now() + offsetMs,
      views: async () => views,
      limits: {
        maxBytes: limits.maxBytes ?? 2 ** 40,
        maxBlobBytes: limits.maxBlobBytes ?? 2 ** 32,
        ttlMs: 3 * HOUR_MS,
        memoryBytes: limits.memoryBytes ?? 16 * 2 ** 20,
      },
    });
  let store = await open();
  const closing = new AbortController();
  const pack = async (): Promise<void> => {
    while (!closing.signal.aborted) {
      // The store may be closed meanwhile, for another one.
      await store.pack().catch(() => {});
      await nextTurn();
    }
  };
  const packing = isPacking ? pack() : undefined;
  return {
    directory,
    get store() {
      return store;
    },
    async reopen() {
      await store[Symbol.asyncDispose]();
      store = await open();
    },
    advance(durationMs) {
      offsetMs += durationMs;
    },
    async [Symbol.asyncDispose]() {
      closing.abort();
      await store[Symbol.asyncDispose]();
      await packing;
      await rm(directory, { recursive: true, force: true });
    },
  };
}

describeBazelStore("SQLite and files", openTenant);
describeBazelStore(
  "SQLite, packs and files, with all small blobs on their way into packs",
  (limits) => openTenant(limits, { isPacking: true }),
);

test("a file that is gone makes its blob absent, and the next upload heals it", async () => {
  await using opened = await openTenant();
  const scope = opened.store.scope(1, "main");
  const blob = randomBlob(100_000);
  await put(scope, blob);
  await scope.putAction(blob.key, Buffer.from("result"), listOf([blob]));
  expect(await scope.findAction(blob.key)).toMatchObject({ kind: "hit" });
  expect(recall(scope, blob.key)).toBeDefined();
  await rm(join(opened.directory, "store", "blobs", "cas"), { recursive: true });

  await expect(read(scope, blob)).rejects.toMatchObject({ code: "NOT_FOUND" });

  expect(await missingOf(scope, [blob])).toEqual([blob]);
  expect(recall(scope, blob.key)).toBeUndefined();
  expect(await scope.findAction(blob.key)).toEqual({ kind: "incomplete" });
  expect(await put(scope, blob)).toBe("stored");
  expect(await read(scope, blob)).toEqual(blob.bytes);
  expect(await scope.findAction(blob.key)).toMatchObject({ kind: "hit" });
});

test("an ActionResult is not given when a file that it needs was deleted or cut short", async () => {
  await using opened = await openTenant();
  const small = randomBlob(100);
  const damages: ((file: string) => Promise<void>)[] = [
    (file) => rm(file),
    (file) => truncate(file, 1000),
  ];
  for (const damage of damages) {
    const [one, other] = [randomBlob(100_000), randomBlob(40_000)];
    const action = randomBlob(10).key;
    const scope = opened.store.scope(1, "main");
    for (const blob of [small, one, other]) await put(scope, blob);
    await scope.putAction(action, Buffer.from("result"), listOf([small, one, other]));
    expect(await scope.findAction(action)).toMatchObject({ kind: "hit" });
    await damage(await fileOf(opened.directory, other));
    // What was looked for is taken to be there for some seconds.
    opened.advance(5000);

    expect(recall(scope, action)).toBeUndefined();
    expect(await scope.findAction(action)).toEqual({ kind: "incomplete" });

    expect(await missingOf(scope, [small, one, other])).toEqual([other]);
    expect(await put(scope, other)).toBe("stored");
    expect(await scope.findAction(action)).toMatchObject({ kind: "hit" });
    expect(recall(scope, action)).toBeDefined();
  }
});

test("an ActionResult that is stored after a file it needs was deleted is not given either", async () => {
  await using opened = await openTenant();
  const scope = opened.store.scope(1, "main");
  const blob = randomBlob(100_000);
  await put(scope, blob);
  await rm(await fileOf(opened.directory, blob));

  await scope.putAction(blob.key, Buffer.from("result"), listOf([blob]));

  expect(recall(scope, blob.key)).toBeUndefined();
  expect(await scope.findAction(blob.key)).toEqual({ kind: "incomplete" });
});

test("a refused upload leaves no file, and an evicted blob's file goes", async () => {
  await using opened = await openTenant({ maxBytes: 250_000 });
  const scope = opened.store.scope(1, "main");
  const liar = { ...randomBlob(100_000), bytes: randomBlob(100_000).bytes };
  await expect(put(scope, liar)).rejects.toMatchObject({ code: "CORRUPT" });
  expect(await filesIn(opened.directory)).toEqual([]);

  const [old, fresh] = [randomBlob(200_000), randomBlob(200_000)];
  await put(scope, old);
  opened.advance(5 * HOUR_MS);
  await put(scope, fresh);
  expect(await filesIn(opened.directory)).toEqual([expect.stringContaining(fresh.hash)]);
});

test("two uploads of one blob at the same time leave one file", async () => {
  await using opened = await openTenant();
  const scope = opened.store.scope(1, "main");
  const blob = randomBlob(200_000);

  await Promise.all([1, 2, 3, 4].map(() => put(scope, blob)));

  expect(await filesIn(opened.directory)).toHaveLength(1);
  expect(opened.store.storedBytes).toBe(200_000);
});

test("after a crash the files that nothing refers to are deleted, and no others", async () => {
  await using opened = await openTenant();
  const blob = randomBlob(100_000);
  await put(opened.store.scope(1, "main"), blob);
  const orphan = blobOf("an upload that was cut").hash;
  const folder = join(
    opened.directory,
    "store",
    "blobs",
    "cas",
    orphan.slice(0, 2),
    orphan.slice(2, 3),
  );
  await opened.reopen();
  await mkdir(folder, { recursive: true });
  const file = join(folder, `${orphan}-0123456789ab`);
  await writeFile(file, "an upload that was cut");
  await utimes(file, new Date(0), new Date(0));
  await opened.reopen();
  expect(await filesIn(opened.directory)).toHaveLength(2);

  // As a process leaves it that was killed.
  await opened.store[Symbol.asyncDispose]();
  await writeFile(join(opened.directory, "in-use"), "");
  await opened.reopen();

  await expect
    .poll(() => filesIn(opened.directory), { timeout: 30_000 })
    .toEqual([expect.stringContaining(blob.hash)]);
});

test("one tenant's data is open in one process at a time", async () => {
  await using opened = await openTenant();
  const { directory } = opened;
  const second = openTenantStore({
    directory,
    views: async () => new Map(),
    limits: { maxBytes: 1, maxBlobBytes: 1, ttlMs: 1, memoryBytes: 1 },
  });
  await expect(second).rejects.toMatchObject({ code: "CONFIG" });
});

async function fileOf(directory: string, { hash }: TestBlob): Promise<string> {
  const name = (await filesIn(directory)).find((file) => file.includes(hash)) ?? "";
  return join(directory, "store", "blobs", "cas", name.slice(0, 2), name.slice(2, 3), name);
}

async function filesIn(directory: string): Promise<string[]> {
  const names = await readdir(join(directory, "store", "blobs"), {
    recursive: true,
    withFileTypes: true,
  });
  return names.filter((entry) => entry.isFile()).map(({ name }) => name);
}

test("while the index is read into memory, what is found is what is stored", async () => {
  await using opened = await openTenant();
  const action = blobOf("an action").key;
  const blobs = Array.from({ length: 4000 }, (_, at) => blobOf(`content ${at}`));
  const [others, strangers] = ["other", "stranger"].map((kind) =>
    Array.from({ length: 200 }, (_, at) => blobOf(`${kind} ${at}`)),
  ) as [TestBlob[], TestBlob[]];
  await Promise.all(blobs.map((blob) => put(opened.store.scope(1, "main"), blob)));
  await opened.store.scope(1, "main").putAction(action, Buffer.from("it"), listOf(blobs));
  await opened.reopen();

  const scope = opened.store.scope(1, "main");
  const lost = new Set<TestBlob>();
  const added: TestBlob[] = [];
  for (let turn = 0; turn < 12; turn += 1) {
    const victim = blobs[turn * 331] as TestBlob;
    const newcomers = others.slice(turn * 10, turn * 10 + 10);
    const isFoundAgain = turn % 3 === 0;
    await Promise.all([
      opened.store.lose(victim.key),
      ...newcomers.map((each) => put(scope, each)),
    ]);
    if (isFoundAgain) await put(scope, victim);
    else lost.add(victim);
    added.push(...newcomers);
    expect(await missingOf(scope, [...lost, ...added, ...strangers])).toEqual([
      ...lost,
      ...strangers,
    ]);
    expect(await missingOf(opened.store.scope(1, "main/pr"), added)).toEqual(added);
    await nextTurn();
  }
  expect(await missingOf(scope, [...blobs, ...others])).toEqual([
    ...blobs.filter((blob) => lost.has(blob)),
    ...others.filter((blob) => !added.includes(blob)),
  ]);
  expect(await scope.findAction(action)).toEqual({ kind: "incomplete" });
  for (const blob of lost) await put(scope, blob);
  expect(await scope.findAction(action)).toMatchObject({ kind: "hit" });
});
