import { createHash, randomBytes } from "node:crypto";
import { access, mkdtempDisposable, open as openFile, readFile, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough, Readable, Writable } from "node:stream";

import { afterEach, beforeEach, describe, expect, test } from "vitest";

import { type Blob, type BlobStore, createChunkBuffers, type PutOptions } from "../src/index.ts";

/** An open store, empty when the test begins. */
export interface BlobStoreFixture extends AsyncDisposable {
  readonly store: BlobStore;
}

const MIB = 2 ** 20;
const LARGE = randomBytes(3 * MIB + 77);

function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/** A source that yields `bytes` in pieces. */
export async function* cut(bytes: Buffer, pieceBytes = 65_536): AsyncGenerator<Buffer> {
  for (let start = 0; start < bytes.length; start += pieceBytes) {
    yield bytes.subarray(start, start + pieceBytes);
  }
}

/** Reads a blob to its end. */
export async function readAll(blob: Blob | undefined): Promise<Buffer | undefined> {
  return blob === undefined ? undefined : Buffer.concat(await Array.fromAsync(blob.stream()));
}

/** Reads a blob and compares; far faster than an assertion on megabytes. */
export async function holds(blob: Blob | undefined, bytes: Buffer): Promise<boolean> {
  return (await readAll(blob))?.equals(bytes) ?? false;
}

async function listKeys(store: BlobStore, prefix: string): Promise<string[]> {
  const found = await Array.fromAsync(store.list(prefix));
  return found.map(({ key }) => key).sort();
}

async function* failing(bytes: Buffer): AsyncGenerator<Buffer> {
  yield* cut(bytes);
  throw new Error("the client hung up");
}

async function* silent(bytes: Buffer): AsyncGenerator<Buffer> {
  yield bytes;
  await new Promise(() => {});
}

/** Checks what every {@link BlobStore} promises, for one driver. */
export function describeBlobStore(name: string, open: () => Promise<BlobStoreFixture>): void {
  describe(`${name} keeps the blob store contract`, () => {
    let fixture: BlobStoreFixture;
    let store: BlobStore;

    beforeEach(async () => {
      fixture = await open();
      store = fixture.store;
    });
    afterEach(async () => {
      await fixture[Symbol.asyncDispose]();
    });

    const put = (key: string, bytes: Buffer, options: Partial<PutOptions> = {}) =>
      store.put(cut(bytes), { key, ...options });

    describe("put", () => {
      test.each([0, 1, 65_536, LARGE.length])("%d bytes read back as they were", async (size) => {
        const bytes = LARGE.subarray(0, size);
        const result = await put("nar/blob", bytes);

        expect(result).toEqual({ key: "nar/blob", sha256: sha256(bytes), sizeBytes: size });
        expect(await holds(await store.get("nar/blob"), bytes)).toBe(true);
        expect(await store.stat("nar/blob")).toMatchObject({ key: "nar/blob", sizeBytes: size });
      });

      test("many tiny chunks are one blob", async () => {
        const bytes = LARGE.subarray(0, 5000);
        await store.put(cut(bytes, 1), { key: "nar/tiny" });
        expect(await holds(await store.get("nar/tiny"), bytes)).toBe(true);
      });

      test("every chunk is given back once it was written, and may be used for something else", async () => {
        const source = async function* (): AsyncGenerator<Buffer> {
          const free: Buffer[] = [Buffer.alloc(100_000), Buffer.alloc(100_000)];
          given = (chunk) => void free.push(chunk as Buffer);
          for (let start = 0; start < LARGE.length; start += 100_000) {
            const chunk = free.pop() ?? Buffer.alloc(100_000);
            const bytes = LARGE.copy(chunk, 0, start, start + 100_000);
            yield bytes === chunk.length ? chunk : chunk.subarray(0, bytes);
          }
        };
        let given: (chunk: Uint8Array) => void = () => {};
        let backBytes = 0;
        const giveBack = (chunk: Uint8Array): void => {
          backBytes += chunk.length;
          given(chunk);
        };
        await store.put(source(), { key: "nar/lent", giveBack });

        expect(backBytes).toBe(LARGE.length);
        expect(await holds(await store.get("nar/lent"), LARGE)).toBe(true);
      });

      test("the key may depend on the bytes, and is asked for after the last of them", async () => {
        let isAtEnd = false;
        const source = async function* (): AsyncGenerator<Buffer> {
          yield* cut(LARGE);
          isAtEnd = true;
        };
        const result = await store.put(source(), {
          key: async (written) => {
            expect({ isAtEnd, written }).toEqual({
              isAtEnd: true,
              written: { sha256: sha256(LARGE), sizeBytes: LARGE.length },
            });
            expect(await listKeys(store, "")).toEqual([]);
            return `nar/${written.sha256}`;
          },
        });
        expect(result?.key).toBe(`nar/${sha256(LARGE)}`);
        expect(await listKeys(store, "")).toEqual([`nar/${sha256(LARGE)}`]);
      });

      test("a key function that gives undefined discards the bytes", async () => {
        const result = await store.put(cut(LARGE), { key: () => undefined });
        expect(result).toBeUndefined();
        expect(await listKeys(store, "")).toEqual([]);
      });

      test("an error of the key function comes through and discards the bytes", async () => {
        const key = (): never => {
          throw new Error("not wanted");
        };
        await expect(store.put(cut(LARGE), { key })).rejects.toThrow("not wanted");
        expect(await listKeys(store, "")).toEqual([]);
      });

      test("an error of the source comes through and leaves nothing", async () => {
        await expect(store.put(failing(LARGE), { key: "nar/a" })).rejects.toThrow(
          "the client hung up",
        );
        expect(await store.get("nar/a")).toBeUndefined();
        expect(await listKeys(store, "")).toEqual([]);
      });

      test.each([
        [{ expected: { sha256: "0".repeat(64) } }, "CORRUPT", /expected was 0{64}/],
        [{ expected: { sizeBytes: LARGE.length - 1 } }, "CORRUPT", /more than 3145804 bytes/],
        [
          { expected: { sizeBytes: LARGE.length + 1 } },
          "TRUNCATED",
          /^Received 3145805 of 3145806 bytes$/,
        ],
        [{ maxSizeBytes: MIB }, "TOO_LARGE", /1048576/],
        [{ maxSizeBytes: MIB, expected: { sizeBytes: 2 * MIB } }, "TOO_LARGE", /2097152/],
      ] satisfies [Partial<PutOptions>, string, RegExp][])(
        "a blob that is not as promised (%j) is %s and leaves the old one",
        async (options, code, message) => {
          await put("nar/a", Buffer.from("old"));
          await expect(put("nar/a", LARGE, options)).rejects.toMatchObject({
            code,
            message: expect.stringMatching(message),
          });
          expect(await readAll(await store.get("nar/a"))).toEqual(Buffer.from("old"));
        },
      );

      test("a blob that is as promised is stored", async () => {
        const expected = { sha256: sha256(LARGE), sizeBytes: LARGE.length };
        await put("nar/a", LARGE, { expected, maxSizeBytes: LARGE.length });
        expect(await store.stat("nar/a")).toBeDefined();
      });

      test("an endless source is stopped soon after the limit", async () => {
        let yielded = 0;
        let isReturned = false;
        const source = async function* (): AsyncGenerator<Buffer> {
          try {
            for (; ; yielded += 1) yield LARGE.subarray(0, 1000);
          } finally {
            isReturned = true;
          }
        };
        await expect(
          store.put(source(), { key: "nar/a", maxSizeBytes: 100_000 }),
        ).rejects.toMatchObject({ code: "TOO_LARGE" });
        expect({ yielded, isReturned }).toEqual({ yielded: 100, isReturned: true });
      });

      test("an aborted signal ends a put though its source is silent", async () => {
        const abort = new AbortController();
        const putting = store.put(silent(LARGE), { key: "nar/a", signal: abort.signal });
        abort.abort();
        await expect(putting).rejects.toMatchObject({ code: "CANCELLED" });
        expect(await listKeys(store, "")).toEqual([]);
      });

      test("a second put replaces the blob, and open readers keep the first", async () => {
        await put("nar/a", LARGE);
        const before = await store.get("nar/a");
        await put("nar/a", Buffer.from("new"));

        expect(await readAll(await store.get("nar/a"))).toEqual(Buffer.from("new"));
        expect(await holds(before, LARGE)).toBe(true);
      });

      test("a file becomes a blob and is gone; who has either open goes on reading", async () => {
        await put("nar/a", Buffer.from("old"));
        const before = await store.get("nar/a");
        await using directory = await mkdtempDisposable(join(tmpdir(), "blob-store-adopt-"));
        const file = join(directory.path, "file");
        await writeFile(file, LARGE);
        await using opened = await openFile(file, "r");
        await store.adopt(file, { key: "nar/a" });

        expect(await holds(await store.get("nar/a"), LARGE)).toBe(true);
        expect(await readAll(before)).toEqual(Buffer.from("old"));
        expect((await opened.readFile()).equals(LARGE)).toBe(true);
        await expect(access(file)).rejects.toMatchObject({ code: "ENOENT" });
      });

      test("a file that is not there, or comes too late, becomes no blob", async () => {
        await using directory = await mkdtempDisposable(join(tmpdir(), "blob-store-adopt-"));
        const file = join(directory.path, "file");
        await expect(store.adopt(file, { key: "nar/a" })).rejects.toMatchObject({
          code: "INTERNAL",
        });
        await writeFile(file, LARGE);
        const signal = AbortSignal.abort();
        await expect(store.adopt(file, { key: "nar/a", signal })).rejects.toMatchObject({
          code: "CANCELLED",
        });
        expect(await listKeys(store, "")).toEqual([]);
        expect((await readFile(file)).equals(LARGE)).toBe(true);
      });

      test("readers during many replacements see one blob or the other, never a mixture", async () => {
        const blobs = [LARGE.subarray(0, MIB), LARGE.subarray(MIB, 2 * MIB)] as const;
        await put("nar/a", blobs[0]);
        const done = new AbortController();
        const replacing = (async () => {
          for (let round = 1; round <= 10; round += 1) {
            await put("nar/a", blobs[round % 2 === 0 ? 0 : 1]);
          }
          done.abort();
        })();
        const hashes = new Set<string>();
        while (!done.signal.aborted) {
          const bytes = await readAll(await store.get("nar/a"));
          hashes.add(bytes === undefined ? "absent" : sha256(bytes));
        }
        await replacing;
        const allowed = new Set(blobs.map(sha256));
        expect([...hashes].filter((each) => !allowed.has(each))).toEqual([]);
      });

      test("concurrent puts of one key all succeed and leave one whole blob", async () => {
        const blobs = Array.from({ length: 8 }, (_, index) => LARGE.subarray(index, index + MIB));
        const results = await Promise.all(blobs.map((bytes) => put("nar/a", bytes)));

        const stored = (await readAll(await store.get("nar/a"))) ?? Buffer.alloc(0);
        expect(results.map((result) => result?.sha256)).toContain(sha256(stored));
        expect(await listKeys(store, "")).toEqual(["nar/a"]);
      });
    });

    describe("keys", () => {
      const bad = [
        "",
        "nar",
        "nar/",
        "/a",
        "nar/a/b",
        "nar//a",
        "../a",
        "nar/..",
        "nar/.a",
        "nar/a.b",
        "nar/-a",
        "-n/a",
        "Nar/a",
        "nar/A",
        "nar/a_b",
        "nar/a b",
        "nar/a\0",
        "nar/a\n",
        "nar/é",
        "nar\\a",
        `nar/${"a".repeat(201)}`,
        `${"n".repeat(33)}/a`,
      ];
      test.each(bad)("%j is INVALID for every method", async (key) => {
        const invalid = { code: "INVALID", hint: expect.any(String) };
        await expect(put(key, LARGE)).rejects.toMatchObject(invalid);
        await expect(store.put(cut(LARGE), { key: () => key })).rejects.toMatchObject(invalid);
        await expect(store.get(key)).rejects.toMatchObject(invalid);
        await expect(store.stat(key)).rejects.toMatchObject(invalid);
        await expect(store.delete(key)).rejects.toMatchObject(invalid);
        expect(await listKeys(store, "")).toEqual([]);
      });

      test.each(["n/a", "nar/ab", "0/0", "a-b/c-d-", `nar/${"a".repeat(200)}`])(
        "%j is a key",
        async (key) => {
          await put(key, Buffer.from(key));
          expect(await readAll(await store.get(key))).toEqual(Buffer.from(key));
          expect(await listKeys(store, "")).toEqual([key]);
          expect(await store.delete(key)).toBe(true);
        },
      );
    });

    describe("get", () => {
      beforeEach(async () => {
        await put("nar/a", LARGE);
      });

      test("chunks are no larger than asked for", async () => {
        await put("nar/blob", LARGE);
        await using blob = await store.get("nar/blob");
        const chunks = await Array.fromAsync(blob?.stream({ chunkBytes: 10_000 }) ?? []);

        expect(Math.max(...chunks.map(({ length }) => length))).toBeLessThanOrEqual(10_000);
        expect(Buffer.concat(chunks).equals(LARGE)).toBe(true);
      });

      test("chunks that are lent come from where the reader said, and are its own again when it gave them back", async () => {
        await put("nar/blob", LARGE);
        const buffers = createChunkBuffers({ chunkBytes: 50_000, maxIdle: 4 });
        const seen = new Set<ArrayBufferLike>();
        const copies: Buffer[] = [];
        await using blob = await store.get("nar/blob");
        for await (const chunk of blob?.stream({ chunkBytes: 50_000, buffers }) ?? []) {
          seen.add(chunk.buffer);
          copies.push(Buffer.from(chunk));
          buffers.give(chunk.fill(0));
        }

        expect(Buffer.concat(copies).equals(LARGE)).toBe(true);
        expect(seen.size).toBeLessThanOrEqual(2);
      });

      test("an absent blob is undefined, and one in an absent namespace too", async () => {
        expect(await store.get("nar/absent")).toBeUndefined();
        expect(await store.stat("nar/absent")).toBeUndefined();
        expect(await store.get("none/absent")).toBeUndefined();
        expect(await store.get("nar/absent", { range: { start: 9, end: 2 } })).toBeUndefined();
      });

      test.each([
        [0, 1],
        [0, LARGE.length],
        [1, 65_537],
        [MIB - 1, 2 * MIB + 1],
        [LARGE.length - 1, LARGE.length],
      ])("bytes %d to %d are those of the blob", async (start, end) => {
        await using blob = await store.get("nar/a", { range: { start, end } });
        expect(blob).toMatchObject({ sizeBytes: LARGE.length, range: { start, end } });
        expect(await holds(blob, LARGE.subarray(start, end))).toBe(true);
      });

      test.each([
        [0, 0],
        [5, 4],
        [-1, 5],
        [0, LARGE.length + 1],
        [LARGE.length, LARGE.length + 1],
        [0.5, 2],
        [Number.NaN, 2],
      ])("bytes %d to %d are a RANGE error that names the size", async (start, end) => {
        await expect(store.get("nar/a", { range: { start, end } })).rejects.toMatchObject({
          code: "RANGE",
          message: expect.stringContaining(String(LARGE.length)),
        });
      });

      test("no part of an empty blob can be asked for", async () => {
        await put("nar/empty", Buffer.alloc(0));
        await expect(store.get("nar/empty", { range: { start: 0, end: 1 } })).rejects.toMatchObject(
          { code: "RANGE" },
        );
        await using blob = await store.get("nar/empty");
        expect(await readAll(blob)).toHaveLength(0);
      });

      test("a blob is read once", async () => {
        await using blob = await store.get("nar/a");
        await readAll(blob);
        expect(() => blob?.stream()).toThrow("was read already");
      });

      test("a consumer may stop early, or never begin", async () => {
        await using unread = await store.get("nar/a");
        expect(unread).toBeDefined();
        const blob = await store.get("nar/a");
        for await (const chunk of blob?.stream() ?? []) {
          expect(chunk.length).toBeGreaterThan(0);
          break;
        }
        await blob?.[Symbol.asyncDispose]();
        await blob?.[Symbol.asyncDispose]();
      });

      test("an aborted signal ends reading", async () => {
        const abort = new AbortController();
        const blob = await store.get("nar/a", { signal: abort.signal });
        abort.abort();
        await expect(readAll(blob)).rejects.toMatchObject({ code: "CANCELLED" });
        await expect(store.get("nar/a", { signal: abort.signal })).rejects.toMatchObject({
          code: "CANCELLED",
        });
      });
    });

    describe("sendTo", () => {
      beforeEach(async () => {
        await put("nar/a", LARGE);
      });

      test.each([
        [0, LARGE.length],
        [1, 2],
        [100, 65_636],
        [7, 2 * MIB],
      ])("bytes %d to %d arrive through HTTP", async (start, end) => {
        const server = createServer((_request, response) => {
          void (async () => {
            await using blob = await store.get("nar/a", { range: { start, end } });
            await blob?.sendTo(response);
            response.end();
          })();
        }).listen(0, "127.0.0.1");
        try {
          await new Promise((resolve) => server.once("listening", resolve));
          // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- a listening server has one
          const { port } = server.address() as AddressInfo;
          const answer = await fetch(`http://127.0.0.1:${port}/`);
          const bytes = Buffer.from(await answer.arrayBuffer());
          expect(bytes.equals(LARGE.subarray(start, end))).toBe(true);
        } finally {
          server.closeAllConnections();
          server.close();
        }
      });

      test("a slow writable gets every byte, and stays open", async () => {
        const chunks: Buffer[] = [];
        const slow = new Writable({
          highWaterMark: 1,
          write(chunk: Buffer, _encoding, callback) {
            setImmediate(() => {
              // Copied late: a buffer that was reused too early would show here.
              chunks.push(Buffer.from(chunk));
              callback();
            });
          },
        });
        await (await store.get("nar/a"))?.sendTo(slow);
        expect(Buffer.concat(chunks).equals(LARGE)).toBe(true);
        expect({ ended: slow.writableEnded, destroyed: slow.destroyed }).toEqual({
          ended: false,
          destroyed: false,
        });
        expect(slow.listenerCount("close") + slow.listenerCount("error")).toBe(0);
      });

      test("many readers at once get their own bytes", async () => {
        const sums = await Promise.all(
          Array.from({ length: 100 }, async (_, index) => {
            const hash = createHash("sha256");
            const target = new PassThrough();
            const reading = (async () => {
              for await (const chunk of target) hash.update(chunk as Buffer);
            })();
            const blob = await store.get("nar/a", { range: { start: index, end: LARGE.length } });
            await blob?.sendTo(target);
            target.end();
            await reading;
            return hash.digest("hex");
          }),
        );
        expect(sums).toEqual(
          Array.from({ length: 100 }, (_, index) => sha256(LARGE.subarray(index))),
        );
      });

      test.each(["closes", "fails", "was closed before"])(
        "a writable that %s is a CANCELLED read, without waiting",
        async (how) => {
          const stuck = new Writable({ write: () => {} });
          stuck.on("error", () => {});
          const blob = await store.get("nar/a");
          if (how === "was closed before") stuck.destroy();
          const sending = blob?.sendTo(stuck);
          if (how === "closes") setImmediate(() => stuck.destroy());
          if (how === "fails") setImmediate(() => stuck.destroy(new Error("reset")));
          await expect(sending).rejects.toMatchObject({ code: "CANCELLED" });
        },
      );

      test("an aborted signal ends sending to a writable that is stuck", async () => {
        const abort = new AbortController();
        const stuck = new Writable({ write: () => abort.abort() });
        const blob = await store.get("nar/a");
        await expect(blob?.sendTo(stuck, abort.signal)).rejects.toMatchObject({
          code: "CANCELLED",
        });
      });

      test("an empty blob sends nothing", async () => {
        await put("nar/empty", Buffer.alloc(0));
        const target = new PassThrough();
        await (await store.get("nar/empty"))?.sendTo(target);
        target.end();
        expect(await Array.fromAsync(Readable.from(target))).toEqual([]);
      });
    });

    describe("delete", () => {
      test("a blob is deleted once, and open readers keep it", async () => {
        await put("nar/a", LARGE);
        const opened = await store.get("nar/a");
        expect(await store.delete("nar/a")).toBe(true);
        expect(await store.delete("nar/a")).toBe(false);
        expect(await store.get("nar/a")).toBeUndefined();
        expect(await holds(opened, LARGE)).toBe(true);
      });

      test("a deleted blob can be put again", async () => {
        await put("nar/a", LARGE);
        await store.delete("nar/a");
        await put("nar/a", Buffer.from("again"));
        expect(await readAll(await store.get("nar/a"))).toEqual(Buffer.from("again"));
      });
    });

    describe("list", () => {
      const keys = ["log/abc", "nar/a", "nar/ab", "nar/abc", "nar/abcd", "nar/b", "nara/abc"];
      beforeEach(async () => {
        for (const key of keys) await put(key, Buffer.from(key));
      });

      test.each(["", "n", "nar", "nar/", "nar/a", "nar/ab", "nar/abc", "nar/abcd", "x", "nar/x"])(
        "the prefix %j gives exactly the keys that start with it",
        async (prefix) => {
          expect(await listKeys(store, prefix)).toEqual(
            keys.filter((key) => key.startsWith(prefix)),
          );
        },
      );

      test("sizes and times are those of the blobs", async () => {
        const [found] = await Array.fromAsync(store.list("nar/abcd"));
        expect(found).toEqual(await store.stat("nar/abcd"));
        expect(Math.abs((found?.modifiedAtMs ?? 0) - Date.now())).toBeLessThan(60_000);
      });

      test.each(["/", "nar/a/", "../", "nar/.", "N"])(
        "%j is no prefix of a key",
        async (prefix) => {
          await expect(listKeys(store, prefix)).rejects.toMatchObject({ code: "INVALID" });
        },
      );
    });

    describe("upkeep", () => {
      test("cleaning up leaves running puts and finished blobs alone", async () => {
        await put("nar/a", LARGE);
        const gate = Promise.withResolvers<void>();
        const source = async function* (): AsyncGenerator<Buffer> {
          yield* cut(LARGE);
          await gate.promise;
        };
        const putting = store.put(source(), { key: "nar/b" });
        await store.cleanUp();
        gate.resolve();
        await putting;
        expect(await listKeys(store, "")).toEqual(["nar/a", "nar/b"]);
      });

      test("pings succeed, together too, and leave nothing", async () => {
        await Promise.all([store.ping(), store.ping()]);
        await store.ping();
        expect(await listKeys(store, "")).toEqual([]);
      });

      test("closing waits for running puts", async () => {
        const gate = Promise.withResolvers<void>();
        const source = async function* (): AsyncGenerator<Buffer> {
          yield Buffer.from("first ");
          await gate.promise;
          yield Buffer.from("last");
        };
        const putting = store.put(source(), { key: "nar/a" });
        const closing = store[Symbol.asyncDispose]();
        gate.resolve();
        await closing;
        expect(await putting).toMatchObject({ key: "nar/a", sizeBytes: 10 });
        await expect(put("nar/b", LARGE)).rejects.toThrow("closed");
      });
    });
  });
}
