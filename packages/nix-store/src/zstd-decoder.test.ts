import { setImmediate as nextTurn } from "node:timers/promises";
import { constants, zstdCompressSync } from "node:zlib";

import { expect, test } from "vitest";

import { decodeZstd, type DecodeZstdOptions } from "./zstd-decoder.ts";

const SKIPPABLE = Buffer.from("5f2a4d1804000000aabbccdd", "hex");

function frame(content: Uint8Array, params: Record<number, number> = {}): Buffer {
  return zstdCompressSync(content, { pledgedSrcSize: content.length, params });
}

async function* from(...chunks: Uint8Array[]): AsyncGenerator<Uint8Array> {
  yield* chunks;
}

async function* brokenSource(): AsyncGenerator<Uint8Array> {
  yield frame(Buffer.alloc(10)).subarray(0, 5);
  throw new Error("connection reset");
}

async function* silentSource(): AsyncGenerator<Uint8Array> {
  yield frame(Buffer.alloc(10));
  await new Promise(() => {});
}

async function decode(chunks: Uint8Array[], options?: DecodeZstdOptions): Promise<Buffer> {
  return Buffer.concat(await Array.fromAsync(decodeZstd(from(...chunks), options)));
}

test("every frame of one chunk is decoded, across skippable and empty ones", async () => {
  const contents = [300_000, 0, 65_536, 0, 0, 262_144, 1].map((size) =>
    Buffer.alloc(size, `${size}`),
  );
  const bytes = Buffer.concat([SKIPPABLE, ...contents.flatMap((each) => [frame(each), SKIPPABLE])]);

  expect((await decode([bytes])).equals(Buffer.concat(contents))).toBe(true);
  expect((await decode([...bytes].map((byte) => Buffer.from([byte])))).length).toBe(627_681);
});

test("nothing but skippable frames is empty", async () => {
  expect(await decode([SKIPPABLE, SKIPPABLE])).toHaveLength(0);
});

test("a changed content size is CORRUPT, though the blocks are sound", async () => {
  const bytes = frame(Buffer.alloc(3000, "hello"));
  expect(bytes[4]).toBe(0x60);
  for (const delta of [1, -1, 100]) {
    const lie = Buffer.from(bytes);
    lie.writeUInt16LE(lie.readUInt16LE(5) + delta, 5);
    await expect(decode([lie])).rejects.toMatchObject({ code: "CORRUPT" });
  }
});

test("a wrong checksum is CORRUPT", async () => {
  const bytes = frame(Buffer.from("some text"), { [constants.ZSTD_c_checksumFlag]: 1 });
  bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1;
  await expect(decode([bytes])).rejects.toMatchObject({ code: "CORRUPT" });
});

test.each([
  ["trailing garbage", [frame(Buffer.from("a")), Buffer.from("garbage")], "CORRUPT"],
  ["one trailing byte", [frame(Buffer.from("a")), Buffer.from([0])], "TRUNCATED"],
  ["nothing", [], "TRUNCATED"],
  ["a frame without its end", [frame(Buffer.alloc(99)).subarray(0, -1)], "TRUNCATED"],
  ["a window of 256 MiB", [Buffer.from("28b52ffd009001000061", "hex")], "TOO_LARGE"],
  ["a dictionary", [Buffer.from("28b52ffd2107010900000061", "hex")], "UNSUPPORTED"],
])("%s is refused with its code", async (_name, chunks, code) => {
  await expect(decode(chunks)).rejects.toMatchObject({ code });
});

test("the window limit is the caller's", async () => {
  const bytes = zstdCompressSync(Buffer.alloc(100_000), {
    params: { [constants.ZSTD_c_windowLog]: 17, [constants.ZSTD_c_contentSizeFlag]: 0 },
  });
  expect(await decode([bytes], { maxWindowLog: 17 })).toHaveLength(100_000);
  await expect(decode([bytes], { maxWindowLog: 16 })).rejects.toMatchObject({
    code: "TOO_LARGE",
    message: "A zstd frame needs a window of 131072 bytes, the limit is 65536",
  });
});

test("an error of the source comes through as it is", async () => {
  await expect(Array.fromAsync(decodeZstd(brokenSource()))).rejects.toThrow("connection reset");
});

test("a slow consumer holds the source back, and stopping it stops the source", async () => {
  const zeros = frame(Buffer.alloc(4 * 2 ** 20));
  let pulled = 0;
  let isReturned = false;
  const source = async function* (): AsyncGenerator<Uint8Array> {
    try {
      while (true) {
        pulled += 1;
        yield Buffer.concat([zeros, frame(Buffer.alloc(0))]);
      }
    } finally {
      isReturned = true;
    }
  };
  for await (const chunk of decodeZstd(source())) {
    expect(chunk.length).toBeGreaterThan(0);
    for (let turn = 0; turn < 200; turn += 1) await nextTurn();
    break;
  }
  expect(isReturned).toBe(true);
  // Frames of zeros are tiny: what is pulled ahead is bounded by the decoder's input buffer.
  expect(pulled * zeros.length).toBeLessThan(512 * 1024);
});

test("an aborted signal ends decoding though the source is silent", async () => {
  const abort = new AbortController();
  const decoding = Array.fromAsync(decodeZstd(silentSource(), { signal: abort.signal }));
  abort.abort();
  await expect(decoding).rejects.toMatchObject({ code: "CANCELLED" });
  await expect(decode([], { signal: abort.signal })).rejects.toMatchObject({ code: "CANCELLED" });
});

test("a source that is copied may use its memory again for the next chunk", async () => {
  const contents = [300_000, 1, 65_536, 700_000].map((size) =>
    Buffer.from(Uint8Array.from({ length: size }, (_, at) => (at * at * size) >>> 3)),
  );
  const bytes = Buffer.concat([SKIPPABLE, ...contents.flatMap((each) => [frame(each), SKIPPABLE])]);
  for (const pieceBytes of [7, 10_000, 262_144, bytes.length]) {
    const piece = Buffer.alloc(pieceBytes);
    const reused = async function* (): AsyncGenerator<Uint8Array> {
      for (let at = 0; at < bytes.length; at += pieceBytes) {
        yield piece.subarray(0, bytes.copy(piece, 0, at, at + pieceBytes));
        piece.fill(0xff);
      }
    };
    const decoded = await Array.fromAsync(decodeZstd(reused(), { copiesSource: true }));
    expect(Buffer.concat(decoded).equals(Buffer.concat(contents))).toBe(true);
  }
});
