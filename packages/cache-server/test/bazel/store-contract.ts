import { randomBytes } from "node:crypto";
import { zstdCompressSync } from "node:zlib";

import { type DigestKey, DigestList } from "@glorious/reapi";
import { describe, expect, test } from "vitest";

import type {
  BazelScope,
  BazelStore,
  BlobName,
  StoredBlob,
} from "../../src/bazel/store/bazel-store.ts";
import { decodeBlob } from "../../src/bazel/store/zstd-form.ts";
import { blobOf, listOf, pieces, randomBlob, type TestBlob, textBlob } from "./blobs.ts";

/** A store under test, and what happens to it. */
export interface OpenedStore extends AsyncDisposable {
  /** The store as it is now; another one after `reopen`. */
  readonly store: BazelStore;
  /** Closes the store and opens it anew. */
  reopen(): Promise<void>;
  /** Moves the store's clock. */
  advance(durationMs: number): void;
}

/** What a test asks of a store. */
export interface StoreLimits {
  readonly maxBytes?: number;
  readonly maxBlobBytes?: number;
  readonly memoryBytes?: number;
  /** The views there are, with the bytes each may take. */
  readonly views?: ReadonlyMap<number, { readonly maxBytes: number | undefined }>;
}

export const HOUR_MS = 3_600_000;
const SIZES = [1, 1000, 32 * 1024, 32 * 1024 + 1, 300_000];

/** What every {@link BazelStore} promises. */
export function describeBazelStore(
  name: string,
  open: (limits?: StoreLimits) => Promise<OpenedStore>,
): void {
  describe(`a Bazel store: ${name}`, () => {
    test("a blob is absent until its upload ends, and then there in full", async () => {
      await using opened = await open();
      const scope = opened.store.scope(1, "main");
      for (const size of SIZES) {
        const blob = randomBlob(size);
        expect(await missingOf(scope, [blob])).toEqual([blob]);
        expect(await scope.findBlob(blob)).toBeUndefined();

        expect(await put(scope, blob)).toBe("stored");

        expect(scope.remembersAll(listOf([blob]))).toBe(true);
        expect(await missingOf(scope, [blob])).toEqual([]);
        expect(await read(scope, blob)).toEqual(blob.bytes);
        expect(await put(scope, blob)).toBe("present");
      }
    });

    test("what was stored is there after the store was opened anew, without a scan", async () => {
      await using opened = await open();
      const blobs = SIZES.map(randomBlob);
      const action = randomBlob(10).key;
      for (const blob of blobs) await put(opened.store.scope(1, "main"), blob);
      await opened.store.scope(1, "main").putAction(action, Buffer.from("result"), listOf(blobs));
      const { storedBytes } = opened.store;

      await opened.reopen();

      const scope = opened.store.scope(1, "main");
      expect(opened.store.storedBytes).toBe(storedBytes);
      for (const blob of blobs) expect(await read(scope, blob)).toEqual(blob.bytes);
      expect(await scope.findAction(action)).toEqual({
        kind: "hit",
        result: Buffer.from("result"),
      });
    });

    test("the empty blob is everywhere, and nothing else is empty", async () => {
      await using opened = await open();
      const scope = opened.store.scope(1, "main");
      const empty = blobOf("");

      expect(await missingOf(scope, [empty])).toEqual([]);
      expect(await read(scope, empty)).toEqual(Buffer.alloc(0));
      expect(await put(scope, empty)).toBe("present");
      const liar = { ...randomBlob(5), bytes: Buffer.alloc(0), sizeBytes: 0 };
      await expect(put(scope, liar)).rejects.toMatchObject({ code: "CORRUPT" });
    });

    test("a digest with another size names nothing", async () => {
      await using opened = await open();
      const scope = opened.store.scope(1, "main");
      for (const size of [10, 100_000]) {
        const blob = randomBlob(size);
        await put(scope, blob);
        const wrong = { key: blob.key, sizeBytes: size + 1 };
        expect(scope.remembersAll(listOf([wrong]))).toBe(false);
        expect(await missingOf(scope, [wrong])).toEqual([wrong]);
        expect(await scope.findBlob(wrong)).toBeUndefined();
      }
    });

    test.for([
      ["another hash", "CORRUPT", (blob: TestBlob) => randomBytes(blob.sizeBytes)],
      ["too few bytes", "TRUNCATED", (blob: TestBlob) => blob.bytes.subarray(1)],
      [
        "too many bytes",
        "CORRUPT",
        (blob: TestBlob) => Buffer.concat([blob.bytes, Buffer.from("x")]),
      ],
    ] as const)("an upload with %s is refused and leaves nothing", async ([, code, content]) => {
      await using opened = await open();
      const scope = opened.store.scope(1, "main");
      for (const size of [100, 200_000]) {
        for (const form of ["identity", "zstd"] as const) {
          const blob = textBlob(size);
          const bytes = content(blob);
          const encoded = form === "zstd" ? zstdCompressSync(bytes) : bytes;
          const upload = { ...blob, form, source: pieces(encoded) };
          await expect(scope.putBlob(upload)).rejects.toMatchObject({
            code:
              form === "zstd" && code === "CORRUPT"
                ? expect.stringMatching(/CORRUPT|TOO_LARGE/)
                : code,
          });
          expect(await missingOf(scope, [blob])).toEqual([blob]);
          expect(opened.store.storedBytes).toBe(0);
        }
      }
    });

    test("of many blobs at once each is stored or refused by itself", async () => {
      await using opened = await open();
      const scope = opened.store.scope(1, "main");
      const there = randomBlob(700);
      await put(scope, there);
      const good = [...SIZES, ...Array.from({ length: 1200 }, () => 40)].map(randomBlob);
      const packed = textBlob(9000);
      const liar = { ...randomBlob(300), bytes: randomBytes(300) };
      const short = { ...randomBlob(50_000), bytes: randomBytes(10) };
      const plain = [...good, there, liar, short].map((blob) => ({
        ...blob,
        form: "identity" as const,
        source: blob.bytes,
      }));
      const zstd = { ...packed, form: "zstd" as const, source: zstdCompressSync(packed.bytes) };

      const outcomes = await scope.putBlobs([...plain, zstd, zstd]);

      const [twice, once, tooShort, wrong, known] = outcomes.toReversed();
      expect(outcomes.slice(0, good.length)).toEqual(good.map(() => "stored"));
      expect(known).toBe("present");
      expect(wrong).toMatchObject({ code: "CORRUPT" });
      expect(tooShort).toMatchObject({ code: "TRUNCATED" });
      expect([once, twice]).toEqual(["stored", "stored"]);
      for (const blob of [...good, packed]) expect(await read(scope, blob)).toEqual(blob.bytes);
      expect(await missingOf(scope, [liar, short])).toEqual([liar, short]);
      const storedOnce = (await scope.usage()).blobs;
      expect(storedOnce).toBe(good.length + 2);
    });

    test("a look-up at once finds what a promise finds, of every size and after a restart", async () => {
      const blobs = [textBlob(0), textBlob(4096), textBlob(300_000)];
      const digests = listOf(blobs);
      await using opened = await open();
      const scope = opened.store.scope(1, "main");
      for (const index of [1, 2]) expect(scope.lookUpBlob(digests, index)).toBeUndefined();
      for (const blob of blobs) {
        await scope.putBlob({ ...blob, form: "identity", source: pieces(blob.bytes) });
      }
      await opened.reopen();
      const same = opened.store.scope(1, "main");
      for (const [index, blob] of blobs.entries()) {
        for (const stored of [same.lookUpBlob(digests, index), same.lookUpBlobOfHash(blob.key)]) {
          expect(await storedBytesOf(stored)).toEqual(blob.bytes);
        }
      }
      const wrong = listOf(blobs.map(({ key, sizeBytes }) => ({ key, sizeBytes: sizeBytes + 1 })));
      for (const [index] of blobs.entries()) expect(same.lookUpBlob(wrong, index)).toBeUndefined();
    });

    test("zstd data is stored and given as it came, and counts with its own size", async () => {
      await using opened = await open();
      const scope = opened.store.scope(1, "main");
      for (const size of [5000, 300_000]) {
        const blob = textBlob(size);
        const encoded = zstdCompressSync(blob.bytes);
        const before = opened.store.storedBytes;
        await scope.putBlob({ ...blob, form: "zstd", source: pieces(encoded) });

        const stored = await scope.findBlob(blob);
        expect(stored).toMatchObject({
          form: "zstd",
          sizeBytes: size,
          storedBytes: encoded.length,
        });
        expect(await storedBytesOf(stored)).toEqual(encoded);
        expect(await read(scope, blob)).toEqual(blob.bytes);
        expect(opened.store.storedBytes - before).toBe(encoded.length);
      }
    });

    test("an encoding that not every reader shows in full is stored decoded", async () => {
      await using opened = await open();
      const scope = opened.store.scope(1, "main");
      const skippable = Buffer.concat([Buffer.from("502a4d1803000000616263", "hex")]);
      for (const size of [5000, 300_000]) {
        const encodings = [
          (bytes: Buffer) => Buffer.concat([skippable, zstdCompressSync(bytes)]),
          (bytes: Buffer) =>
            Buffer.concat([
              zstdCompressSync(bytes.subarray(0, 2000)),
              zstdCompressSync(bytes.subarray(2000)),
            ]),
        ];
        for (const encode of encodings) {
          const blob = textBlob(size);
          await scope.putBlob({ ...blob, form: "zstd", source: pieces(encode(blob.bytes)) });
          const stored = await scope.findBlob(blob);
          expect(stored).toMatchObject({ form: "identity", storedBytes: size });
          expect(await storedBytesOf(stored)).toEqual(blob.bytes);
        }
      }
    });

    test("zstd data that is damaged, a bomb, or followed by something is refused", async () => {
      await using opened = await open();
      const scope = opened.store.scope(1, "main");
      for (const size of [5000, 300_000]) {
        const blob = textBlob(size);
        const encoded = zstdCompressSync(blob.bytes);
        const damaged = Buffer.from(encoded);
        damaged[damaged.length - 3] = (damaged.at(-3) ?? 0) ^ 0xff;
        const bomb = zstdCompressSync(Buffer.alloc(64 * 2 ** 20));
        const wrong = [
          damaged,
          bomb,
          Buffer.concat([encoded, Buffer.from("rest")]),
          encoded.subarray(0, -5),
        ];
        for (const bytes of wrong) {
          const upload = scope.putBlob({ ...blob, form: "zstd", source: pieces(bytes) });
          await expect(upload).rejects.toMatchObject({
            code: expect.stringMatching(/^(CORRUPT|TRUNCATED|TOO_LARGE)$/),
          });
        }
        expect(await missingOf(scope, [blob])).toEqual([blob]);
      }
    });

    test("a blob over the limit is TOO_LARGE before any of it is read", async () => {
      await using opened = await open({ maxBlobBytes: 1000 });
      const blob = randomBlob(1001);
      let isRead = false;
      const source = (async function* () {
        isRead = true;
        yield blob.bytes;
      })();

      const upload = opened.store.scope(1, "main").putBlob({ ...blob, form: "identity", source });

      await expect(upload).rejects.toMatchObject({ code: "TOO_LARGE" });
      expect(isRead).toBe(false);
    });

    test("scopes see only their own, and bytes that both have are stored once", async () => {
      await using opened = await open();
      const { store } = opened;
      const scopes = [store.scope(1, "main"), store.scope(1, "main/pr"), store.scope(2, "dev")];
      const blob = randomBlob(100_000);
      const action = blobOf("action").key;
      const [first] = scopes;
      await put(first as BazelScope, blob);
      await (first as BazelScope).putAction(action, Buffer.from("result"), listOf([blob]));
      await (first as BazelScope).putValue("key", pieces(Buffer.from("value")));
      const { storedBytes } = store;

      for (const other of scopes.slice(1)) {
        expect(await missingOf(other, [blob])).toEqual([blob]);
        expect(await other.findBlob(blob)).toBeUndefined();
        expect(await other.findAction(action)).toEqual({ kind: "absent" });
        expect(await other.findValue("key")).toBeUndefined();
        const thief = { ...blob, bytes: randomBytes(blob.sizeBytes) };
        await expect(put(other, thief)).rejects.toMatchObject({ code: "CORRUPT" });
        expect(await missingOf(other, [blob])).toEqual([blob]);

        expect(await put(other, blob)).toBe("stored");
        expect(await read(other, blob)).toEqual(blob.bytes);
        expect(store.storedBytes).toBe(storedBytes);
      }
    });

    test("an ActionResult is a hit only while everything it needs is there", async () => {
      await using opened = await open();
      const scope = opened.store.scope(1, "main");
      const blobs = [randomBlob(10), randomBlob(50_000), blobOf("")];
      const action = blobOf("the action").key;
      const result = Buffer.from("an ActionResult");

      await scope.putAction(action, result, listOf(blobs));
      expect(await scope.findAction(action)).toEqual({ kind: "incomplete" });
      expect(recall(scope, action)).toBeUndefined();
      for (const blob of blobs) await put(scope, blob);
      expect(await scope.findAction(action)).toEqual({ kind: "hit", result });
      expect(recall(scope, action)).toEqual(result);

      await opened.store.lose(blobs[1]?.key ?? action);
      expect(recall(scope, action)).toBeUndefined();
      expect(await scope.findAction(action)).toEqual({ kind: "incomplete" });

      await put(scope, blobs[1] as TestBlob);
      expect(await scope.findAction(action)).toEqual({ kind: "hit", result });
    });

    test("an ActionResult whose trees are unknown says so, and a new one replaces it", async () => {
      await using opened = await open();
      const scope = opened.store.scope(1, "main");
      const action = blobOf("another action").key;
      const [one, two] = [Buffer.from("one"), Buffer.from("two")];

      await scope.putAction(action, one, undefined);
      expect(await scope.findAction(action)).toEqual({ kind: "unresolved", result: one });
      await scope.putAction(action, two, new DigestList());
      expect(await scope.findAction(action)).toEqual({ kind: "hit", result: two });
      expect(recall(scope, action)).toEqual(two);
    });

    test("of the ActionResults of one action the last one is given, whatever was read from an earlier run", async () => {
      await using opened = await open();
      const [file, tree] = [randomBlob(10), randomBlob(20)];
      const keys = Array.from({ length: 300 }, (_, at) => blobOf(`action ${at}`).key);
      for (const blob of [file, tree]) await put(opened.store.scope(1, "main"), blob);
      for (const run of ["one", "two", "three"]) {
        const scope = opened.store.scope(1, "main");
        const expected = (at: number): Buffer => Buffer.from(`${run} ${at % 3 === 0 ? at : ""}`);
        await Promise.all(
          keys.map((key, at) => scope.putAction(key, expected(at), listOf([file, tree]))),
        );
        for (const [at, key] of keys.entries()) {
          expect(await scope.findAction(key)).toEqual({ kind: "hit", result: expected(at) });
        }
        await opened.reopen();
        const reopened = opened.store.scope(1, "main");
        for (let round = 0; round < 3; round += 1) {
          for (const [at, key] of keys.entries()) {
            expect(recall(reopened, key)).toEqual(expected(at));
          }
          await new Promise((resolve) => setImmediate(resolve));
        }
      }
    });

    test("values live under any key, apart from everything else", async () => {
      await using opened = await open();
      const scope = opened.store.scope(1, "main");
      for (const size of [0, 5, 100_000]) {
        const blob = randomBlob(size);
        const key = `any/key ${size} ?#%é`;
        expect(await scope.putValue(key, pieces(blob.bytes), { sizeBytes: size })).toBe(true);
        const found = await scope.findValue(key);
        expect(found).toMatchObject({ sha256: blob.hash, value: { sizeBytes: size } });
        expect(await storedBytesOf(found?.value)).toEqual(blob.bytes);
        if (size > 0) expect(await missingOf(scope, [blob])).toEqual([blob]);

        const other = randomBlob(70_000);
        expect(await scope.putValue(key, pieces(other.bytes))).toBe(false);
        expect(await storedBytesOf((await scope.findValue(key))?.value)).toEqual(other.bytes);
        expect(await scope.deleteValue(key)).toBe(true);
        expect(await scope.deleteValue(key)).toBe(false);
        expect(await scope.findValue(key)).toBeUndefined();
      }
      expect(opened.store.storedBytes).toBe(0);
    });

    test("a blob's layout is found until the blob goes", async () => {
      await using opened = await open();
      const scope = opened.store.scope(1, "main");
      const blob = randomBlob(100);
      const chunks = listOf([randomBlob(60), randomBlob(40)]);
      await put(scope, blob);
      expect(await scope.findLayout(blob.key)).toBeUndefined();

      await scope.putLayout(blob.key, chunks);
      expect((await scope.findLayout(blob.key)) ?? new DigestList()).toEqual(chunks);
      await opened.store.lose(blob.key);
      expect(await scope.findLayout(blob.key)).toBeUndefined();
    });

    test("what nobody used for longest goes first, ActionResults before what they need", async () => {
      await using opened = await open({ maxBytes: 40_000 });
      const scope = opened.store.scope(1, "main");
      const blobs = [1, 2, 3].map(() => randomBlob(10_000));
      const actions = blobs.map(({ hash }) => blobOf(hash).key);
      for (const [at, blob] of blobs.entries()) {
        await put(scope, blob);
        await scope.putAction(actions[at] ?? blob.key, Buffer.from("result"), listOf([blob]));
        opened.advance(HOUR_MS);
      }
      opened.advance(4 * HOUR_MS);
      expect(await scope.findAction(actions[0] ?? blobs[0]?.key ?? blobOf("").key)).toMatchObject({
        kind: "hit",
      });

      await put(scope, randomBlob(15_000));

      expect(await missingOf(scope, blobs)).toEqual([blobs[1]]);
      const kinds = await Promise.all(
        actions.map(async (key) => (await scope.findAction(key)).kind),
      );
      expect(kinds).toEqual(["hit", "absent", "hit"]);
    });

    test("nothing that was used within the TTL is evicted, whatever else needs the room", async () => {
      await using opened = await open({ maxBytes: 30_000 });
      const scope = opened.store.scope(1, "main");
      const [used, old] = [randomBlob(10_000), randomBlob(10_000)];
      await put(scope, used);
      await put(scope, old);
      opened.advance(4 * HOUR_MS);
      expect(await missingOf(scope, [used])).toEqual([]);
      opened.advance(2 * HOUR_MS);

      await put(scope, randomBlob(15_000));
      expect(await missingOf(scope, [old, used])).toEqual([old]);
      await expect(put(scope, randomBlob(15_000))).rejects.toMatchObject({ code: "STORAGE_FULL" });
      expect(opened.store.isFull).toBe(true);
      expect(await missingOf(scope, [used])).toEqual([]);

      opened.advance(5 * HOUR_MS);
      expect(opened.store.isFull).toBe(false);
      await put(scope, randomBlob(15_000));
    });

    test("a view's own limit holds for all of its scopes together and for no other view", async () => {
      const views = new Map([
        [1, { maxBytes: 25_000 }],
        [2, { maxBytes: undefined }],
      ]);
      await using opened = await open({ views });
      const scopes = [opened.store.scope(1, "main"), opened.store.scope(1, "main/pr")];
      const blobs = [1, 2, 3, 4].map(() => randomBlob(10_000));
      for (const [at, blob] of blobs.entries()) {
        await put(scopes[at % 2] as BazelScope, blob);
        await put(opened.store.scope(2, "dev"), blob);
        opened.advance(HOUR_MS);
      }
      opened.advance(5 * HOUR_MS);

      expect(await opened.store.evict()).toMatchObject({ blobs: 2 });

      expect(await missingOf(opened.store.scope(2, "dev"), blobs)).toEqual([]);
      expect(await missingOf(scopes[0], [blobs[0], blobs[2]] as TestBlob[])).toEqual([blobs[0]]);
      expect(await missingOf(scopes[1], [blobs[1], blobs[3]] as TestBlob[])).toEqual([blobs[1]]);
    });

    test("what a view held is gone when the view is", async () => {
      const views = new Map([
        [1, { maxBytes: undefined }],
        [2, { maxBytes: undefined }],
      ]);
      await using opened = await open({ views });
      const blob = randomBlob(100_000);
      for (const viewId of [1, 2]) {
        const scope = opened.store.scope(viewId, "main");
        await put(scope, blob);
        await scope.putAction(blob.key, Buffer.from("result"), listOf([blob]));
        await scope.putValue("key", pieces(blob.bytes));
      }

      views.delete(1);
      await opened.store.evict();

      expect(await opened.store.scope(1, "main").usage()).toMatchObject({
        blobs: 0,
        storedBytes: 0,
      });
      expect(await opened.store.scope(1, "main").findAction(blob.key)).toEqual({ kind: "absent" });
      expect(await read(opened.store.scope(2, "main"), blob)).toEqual(blob.bytes);
      views.delete(2);
      await opened.store.evict();
      expect(opened.store.storedBytes).toBe(0);
    });

    test("usage counts what a scope holds", async () => {
      await using opened = await open();
      const scope = opened.store.scope(1, "main");
      await put(scope, randomBlob(1000));
      await put(scope, randomBlob(100_000));
      await scope.putAction(blobOf("a").key, Buffer.alloc(50), new DigestList());

      expect(await scope.usage()).toMatchObject({ blobs: 2, actions: 1, keyedValues: 0 });
      expect((await scope.usage()).storedBytes).toBe(opened.store.storedBytes);
    });

    test("a memory of a few entries gives the same answers", async () => {
      await using opened = await open({ memoryBytes: 4096 });
      const scope = opened.store.scope(1, "main");
      const blobs = Array.from({ length: 5000 }, (_, at) => blobOf(`content ${at}`));
      await Promise.all(blobs.map((blob) => put(scope, blob)));
      const strangers = Array.from({ length: 100 }, (_, at) => blobOf(`stranger ${at}`));
      await scope.putAction(blobOf("all").key, Buffer.from("all"), listOf(blobs));
      await opened.store.flush();

      expect(await missingOf(scope, [...blobs, ...strangers])).toEqual(strangers);
      expect(await read(scope, blobs[7] as TestBlob)).toEqual(blobs[7]?.bytes);
    });
  });
}

/** Uploads a blob in one piece when it is small, else in many. */
export function put(scope: BazelScope, blob: TestBlob): Promise<"stored" | "present"> {
  const source = blob.sizeBytes <= 5000 ? blob.bytes : pieces(blob.bytes);
  return scope.putBlob({ ...blob, form: "identity", source });
}

/** The content of a blob, decoded. */
export async function read(scope: BazelScope, blob: TestBlob): Promise<Buffer | undefined> {
  const stored = await scope.findBlob(blob);
  if (stored === undefined) return undefined;
  const bytes = await storedBytesOf(stored);
  if (stored.form === "identity") return bytes;
  return Buffer.concat(await Array.fromAsync(decodeBlob(pieces(bytes), stored.sizeBytes)));
}

async function storedBytesOf(stored: StoredBlob | undefined): Promise<Buffer> {
  if (stored === undefined) throw new Error("It is absent");
  if (stored.bytes !== undefined) return stored.bytes;
  await using blob = await stored.open();
  return Buffer.concat(await Array.fromAsync(blob.stream()));
}

/** Of the blobs, those that are absent. */
export async function missingOf<Name extends BlobName>(
  scope: BazelScope | undefined,
  blobs: readonly Name[],
): Promise<Name[]> {
  const missing = (await scope?.findMissing(listOf(blobs))) ?? [];
  return missing.flatMap((index) => blobs[index] ?? []);
}

/** The ActionResult that is found at once. */
export function recall(scope: BazelScope, key: DigestKey): Buffer | undefined {
  const found = scope.lookUpAction(listOf([{ key, sizeBytes: 0 }]), 0);
  return found?.kind === "hit" ? found.result : undefined;
}
