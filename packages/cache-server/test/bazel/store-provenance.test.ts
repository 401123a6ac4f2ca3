import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { expect, test } from "vitest";

import { type Actor, createActor } from "../../src/bazel/store/actor.ts";
import type { BazelScope, BazelStore, StoreRevocation } from "../../src/bazel/store/bazel-store.ts";
import { openTenantStore } from "../../src/bazel/store/tenant-store.ts";
import type { PrincipalFacts } from "../../src/index/provenance-index.ts";
import { blobOf, listOf, randomBlob, type TestBlob } from "./blobs.ts";
import { HOUR_MS, missingOf, put, read, recall } from "./store-contract.ts";

const START_MS = 1_700_000_000_000;
const LIMIT = 100;
const MINUTE_MS = 60_000;

const factsOf = (run: string): PrincipalFacts => ({
  principal: "forge:repo/1",
  trust: "trusted",
  run,
  jti: `job-${run}`,
  client: "bazel 8.4.2",
});
const BAD: Actor = createActor(factsOf("666"));
const GOOD: Actor = createActor(factsOf("8"));
const READER: Actor = createActor(factsOf("7"));

interface OpenedTenant extends AsyncDisposable {
  readonly store: BazelStore;
  readonly nowMs: number;
  advance(durationMs: number): void;
  /** As after a stop, with these revocations in force. */
  reopen(revocations?: readonly StoreRevocation[]): Promise<void>;
}

async function openTenant(options: { readonly memoryBytes?: number } = {}): Promise<OpenedTenant> {
  const directory = await mkdtemp(join(tmpdir(), "store-provenance-"));
  let nowMs = START_MS;
  const open = (revocations: readonly StoreRevocation[]): Promise<BazelStore> =>
    openTenantStore({
      directory,
      fsync: "none",
      now: () => nowMs,
      views: async () => new Map([[1, { maxBytes: undefined }]]),
      revocations: async () => revocations,
      limits: {
        maxBytes: 2 ** 40,
        maxBlobBytes: 2 ** 32,
        ttlMs: 3 * HOUR_MS,
        memoryBytes: options.memoryBytes ?? 16 * 2 ** 20,
      },
    });
  let store = await open([]);
  return {
    get store() {
      return store;
    },
    get nowMs() {
      return nowMs;
    },
    advance(durationMs) {
      nowMs += durationMs;
    },
    async reopen(revocations = []) {
      await store[Symbol.asyncDispose]();
      store = await open(revocations);
    },
    async [Symbol.asyncDispose]() {
      await store[Symbol.asyncDispose]();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

const as = (store: BazelStore, actor?: Actor): BazelScope => store.scope(1, "main", actor);

/** Whether anything of a blob is to be seen. */
async function isThere(scope: BazelScope, blob: TestBlob): Promise<boolean> {
  const answers = [
    scope.remembersAll(listOf([blob])),
    scope.findFewMissing(listOf([blob]))?.length === 0,
    (await missingOf(scope, [blob])).length === 0,
    scope.lookUpBlobOfHash(blob.key) !== undefined,
    (await scope.findBlob(blob)) !== undefined,
  ];
  // Memory alone may say no to what is there.
  expect(new Set(answers.slice(1)).size).toBe(1);
  if (answers[1] === false) expect(answers[0]).toBe(false);
  return answers[1] === true;
}

async function putText(scope: BazelScope, key: string, value: string): Promise<void> {
  await scope.putValue(
    key,
    (async function* () {
      yield Buffer.from(value);
    })(),
  );
}

test.for([
  ["the memory holds everything", 16 * 2 ** 20],
  ["the memory holds little", 1],
] as const)(
  "a revocation makes what was written absent at once, and what needs it a miss, where %s",
  async ([, memoryBytes]) => {
    await using opened = await openTenant({ memoryBytes });
    const { store } = opened;
    const bad = [randomBlob(100), randomBlob(100_000)];
    const fine = randomBlob(200);
    const filler = Array.from({ length: 3000 }, (_, at) => blobOf(`filler ${at}`));
    for (const blob of bad) await put(as(store, BAD), blob);
    await putText(as(store, BAD), "key", "bad");
    await put(as(store, GOOD), fine);
    await as(store).putBlobs(
      filler.map((blob) => ({ ...blob, form: "identity" as const, source: blob.bytes })),
    );
    const [badAction, mixed, good] = [randomBlob(10), randomBlob(10), randomBlob(10)];
    await as(store, BAD).putAction(badAction.key, Buffer.from("bad"), listOf([fine]));
    await as(store, GOOD).putAction(mixed.key, Buffer.from("mixed"), listOf([fine, ...bad]));
    await as(store, GOOD).putAction(good.key, Buffer.from("good"), listOf([fine]));
    const reader = as(store, READER);
    expect(await reader.findAction(badAction.key)).toMatchObject({ kind: "hit" });
    expect(await reader.findAction(mixed.key)).toMatchObject({ kind: "hit" });
    expect(await reader.findValue("key")).toBeDefined();

    const revocation = { id: 1, run: "666", createdAtMs: opened.nowMs };
    const preview = await store.provenance.preview(revocation, LIMIT);
    const revoking = store.provenance.revoke(revocation, LIMIT);
    const effect = await revoking;

    expect(preview).toEqual(effect);
    expect(effect).toMatchObject({
      entries: 4,
      writers: [factsOf("666")],
      consumers: [{ ...factsOf("7"), entries: 2 }],
    });
    expect(effect.samples).toContainEqual({ view: "main", kind: "action", name: badAction.hash });
    for (const scope of [reader, as(store), as(store, GOOD)]) {
      for (const blob of bad) expect(await isThere(scope, blob)).toBe(false);
      expect(await isThere(scope, fine)).toBe(true);
      expect(recall(scope, badAction.key)).toBeUndefined();
      expect(await scope.findAction(badAction.key)).toEqual({ kind: "absent" });
      expect(await scope.findAction(mixed.key)).toEqual({ kind: "incomplete" });
      expect(await scope.findAction(good.key)).toMatchObject({ kind: "hit" });
      expect(await scope.findValue("key")).toBeUndefined();
    }

    await opened.reopen([revocation]);
    for (const blob of bad) expect(await isThere(as(opened.store), blob)).toBe(false);
    expect(await as(opened.store).findAction(badAction.key)).toEqual({ kind: "absent" });

    for (const blob of bad) expect(await put(as(opened.store, GOOD), blob)).toBe("stored");
    for (const blob of bad) expect(await read(as(opened.store), blob)).toEqual(blob.bytes);
    expect(await as(opened.store).findAction(mixed.key)).toMatchObject({ kind: "hit" });
    expect(await opened.store.provenance.lift(1, { keepsHidden: false })).toBe(2);
    expect(await as(opened.store).findAction(badAction.key)).toMatchObject({ kind: "hit" });
    expect(await as(opened.store).findValue("key")).toBeDefined();
  },
);

test("nothing of a revoked run is given while the revocation is still at work", async () => {
  await using opened = await openTenant();
  const { store } = opened;
  const blobs = Array.from({ length: 5000 }, (_, at) => blobOf(`content ${at}`));
  const action = randomBlob(10);
  await as(store, BAD).putBlobs(
    blobs.map((blob) => ({ ...blob, form: "identity" as const, source: blob.bytes })),
  );
  await as(store, BAD).putAction(action.key, Buffer.from("bad"), listOf(blobs.slice(0, 10)));
  const reader = as(store);
  expect(reader.remembersAll(listOf(blobs))).toBe(true);

  const progress = { isOver: false };
  const revocation = { id: 1, run: "666", createdAtMs: opened.nowMs };
  const revoking = store.provenance
    .revoke(revocation, LIMIT)
    .finally(() => (progress.isOver = true));
  // From the moment on that the index has it, whatever memory still holds.
  let isHidden = false;
  while (!progress.isOver) {
    const found = reader.lookUpActionOf(action.key)?.kind === "hit";
    const missing = reader.findFewMissing(listOf(blobs.slice(-10)))?.length;
    if (isHidden) expect([found, missing]).toEqual([false, 10]);
    isHidden ||= missing === 10;
    await new Promise((resolve) => setImmediate(resolve));
  }
  expect((await revoking).entries).toBe(5001);
  expect(await missingOf(reader, blobs)).toHaveLength(blobs.length);
});

test("an upload that was under way when its writer was revoked is refused, and another's is taken", async () => {
  await using opened = await openTenant();
  const { store } = opened;
  const blob = randomBlob(100_000);
  const resume = Promise.withResolvers<void>();
  async function* slowly(): AsyncGenerator<Buffer> {
    yield blob.bytes.subarray(0, 1000);
    await resume.promise;
    yield blob.bytes.subarray(1000);
  }
  const upload = as(store, BAD).putBlob({ ...blob, form: "identity", source: slowly() });
  await store.provenance.revoke({ id: 1, run: "666", createdAtMs: opened.nowMs }, LIMIT);
  resume.resolve();

  await expect(upload).rejects.toMatchObject({ code: "FORBIDDEN" });
  await expect(
    as(store, BAD).putAction(blob.key, Buffer.from("x"), listOf([])),
  ).rejects.toMatchObject({ code: "FORBIDDEN" });
  expect(await isThere(as(store), blob)).toBe(false);
  expect(await put(as(store, GOOD), blob)).toBe("stored");
  expect(await isThere(as(store), blob)).toBe(true);
});

test("what a server that died had still to hide is hidden when the data is opened, once, and nothing that came later", async () => {
  await using opened = await openTenant();
  const [before, after] = [randomBlob(100), randomBlob(100)];
  await put(as(opened.store, BAD), before);
  const revocation = { id: 3, sinceMs: START_MS, createdAtMs: opened.nowMs };
  opened.advance(MINUTE_MS);

  await opened.reopen([revocation]);

  expect(await isThere(as(opened.store), before)).toBe(false);
  expect(await put(as(opened.store, BAD), after)).toBe("stored");
  await opened.reopen([revocation]);
  expect(await isThere(as(opened.store), before)).toBe(false);
  expect(await isThere(as(opened.store), after)).toBe(true);
});

test("who wrote and who was given an ActionResult is known, and whose place it took", async () => {
  await using opened = await openTenant();
  const { store } = opened;
  const action = randomBlob(10);
  const output = randomBlob(100);
  await as(store, BAD).putAction(action.key, Buffer.from("one"), listOf([output]));
  expect(await as(store, READER).findAction(action.key)).toEqual({ kind: "incomplete" });
  opened.advance(1000);
  await put(as(store, GOOD), output);
  await as(store, GOOD).putAction(action.key, Buffer.from("two"), listOf([output]));
  opened.advance(1000);
  expect(await as(store, READER).findAction(action.key)).toMatchObject({ kind: "hit" });

  const name = { kind: "action", key: action.key } as const;
  expect(await store.provenance.find(name, LIMIT)).toEqual([
    {
      view: "main",
      state: "present",
      writers: [
        { ...factsOf("8"), atMs: START_MS + 1000 },
        { ...factsOf("666"), atMs: START_MS },
      ],
      readers: [{ ...factsOf("7"), firstAtMs: START_MS + 2000, lastAtMs: START_MS + 2000 }],
    },
  ]);
  const unknown = { kind: "action", key: output.key } as const;
  expect(await store.provenance.find(unknown, LIMIT)).toEqual([]);
});
