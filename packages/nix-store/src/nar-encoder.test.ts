import { createHash } from "node:crypto";
import { zstdDecompressSync } from "node:zlib";

import fc from "fast-check";
import { expect, test } from "vitest";

import { encodeNar, type EncodeNarOptions } from "./nar-encoder.ts";
import { maxEncodedBytes, NAR_ENCODING } from "./nar-encoding.ts";
import { decodeZstd } from "./zstd-decoder.ts";
import { createZstdFrameReader } from "./zstd-frames.ts";
import { createZstdScanner } from "./zstd-scanner.ts";

/** Bytes that compress somewhat, and differ everywhere. */
function makeBytes(sizeBytes: number, seed = 1): Buffer {
  const bytes = Buffer.alloc(sizeBytes);
  let state = seed;
  for (let index = 0; index < sizeBytes; index += 1) {
    state = (state * 1_103_515_245 + 12_345) & 0x7fff_ffff;
    bytes[index] = (state >> 16) & (index % 3 === 0 ? 0xff : 0x07);
  }
  return bytes;
}

async function* cut(bytes: Buffer, pieceBytes: number): AsyncGenerator<Buffer> {
  for (let start = 0; start < bytes.length; start += pieceBytes) {
    yield bytes.subarray(start, start + pieceBytes);
  }
}

async function encode(bytes: Buffer, pieceBytes: number, options?: EncodeNarOptions) {
  return Buffer.concat(await Array.fromAsync(encodeNar(cut(bytes, pieceBytes), options)));
}

/** What each frame's header says. */
function contentSizes(encoded: Buffer): (number | undefined)[] {
  const sizes: (number | undefined)[] = [];
  const reader = createZstdFrameReader({ frame: ({ contentBytes }) => sizes.push(contentBytes) });
  reader.write(encoded);
  reader.end();
  return sizes;
}

async function* brokenSource(): AsyncGenerator<Buffer> {
  yield LARGE;
  throw new Error("the disk is gone");
}

async function* silentSource(): AsyncGenerator<Buffer> {
  yield Buffer.from("a");
  await new Promise(() => {});
}

const LARGE = makeBytes(2 * NAR_ENCODING.frameBytes + 12_345);

test("a NAR becomes one frame for each 8 MiB, which any decoder reads back", async () => {
  const encoded = await encode(LARGE, 100_000);

  expect(contentSizes(encoded)).toEqual([NAR_ENCODING.frameBytes, NAR_ENCODING.frameBytes, 12_345]);
  expect(zstdDecompressSync(encoded).equals(LARGE)).toBe(true);
});

test("the bytes are the same however the input is cut and however many threads work", async () => {
  const one = await encode(LARGE, LARGE.length, { concurrency: 1 });
  for (const [pieceBytes, concurrency] of [
    [65_536, 1],
    [NAR_ENCODING.frameBytes, 2],
    [NAR_ENCODING.frameBytes + 1, 3],
    [1_000_003, 8],
  ] as const) {
    const other = await encode(LARGE, pieceBytes, { concurrency });
    expect(other.equals(one)).toBe(true);
  }
});

test("encoding then decoding gives the same bytes, and the scanner accepts them", async () => {
  const compressible = fc
    .array(
      fc.tuple(fc.uint8Array({ minLength: 1, maxLength: 40 }), fc.integer({ min: 1, max: 400 })),
    )
    .map((runs) =>
      Buffer.concat(runs.flatMap(([run, times]) => Array<Uint8Array>(times).fill(run))),
    );
  await fc.assert(
    fc.asyncProperty(
      fc.oneof(
        compressible,
        fc.uint8Array({ maxLength: 5000 }).map((bytes) => Buffer.from(bytes)),
      ),
      fc.integer({ min: 1, max: 70_000 }),
      fc.integer({ min: 1, max: 70_000 }),
      async (bytes, writtenBytes, readBytes) => {
        const encoded = await encode(bytes, writtenBytes);
        const scanner = createZstdScanner();
        for await (const piece of cut(encoded, readBytes)) scanner.write(piece);
        scanner.end();
        expect(scanner.violation).toBeUndefined();
        expect(scanner.contentBytes).toBe(bytes.length);
        expect(encoded.length).toBeLessThanOrEqual(maxEncodedBytes(bytes.length));
        const decoded = await Array.fromAsync(decodeZstd(cut(encoded, readBytes)));
        expect(Buffer.concat(decoded).equals(bytes)).toBe(true);
      },
    ),
    { numRuns: 60 },
  );
});

test.each([1, 12, 19, 22])("level %d keeps the limits of the stored encoding", async (level) => {
  const scanner = createZstdScanner();
  for (const frame of await Array.fromAsync(
    encodeNar(cut(Buffer.alloc(NAR_ENCODING.frameBytes + 1, "level "), 2 ** 20), { level }),
  )) {
    scanner.write(frame);
  }
  scanner.end();
  expect(scanner.violation).toBeUndefined();
});

test("empty input is one empty frame", async () => {
  expect((await encode(Buffer.alloc(0), 1)).toString("hex")).toBe("28b52ffd2000010000");
});

test("an exact multiple of the frame size has no empty frame at its end", async () => {
  const encoded = await encode(LARGE.subarray(0, 2 ** 23), 2 ** 20);
  expect(contentSizes(encoded)).toEqual([2 ** 23]);
});

test("incompressible bytes stay within the overhead that is accepted", async () => {
  let digest = createHash("sha512").update("seed").digest();
  const pieces = Array.from({ length: 20_000 }, () => {
    digest = createHash("sha512").update(digest).digest();
    return digest;
  });
  const bytes = Buffer.concat(pieces);
  for (const sizeBytes of [1, 100, 100_000, bytes.length]) {
    const encoded = await encode(bytes.subarray(0, sizeBytes), 65_536);
    expect(encoded.length).toBeLessThanOrEqual(maxEncodedBytes(sizeBytes));
  }
});

test("the source may reuse its chunk", async () => {
  const chunk = Buffer.alloc(1000);
  const source = async function* (): AsyncGenerator<Buffer> {
    for (let value = 0; value < 100; value += 1) yield chunk.fill(value);
  };
  const decoded = zstdDecompressSync(Buffer.concat(await Array.fromAsync(encodeNar(source()))));
  expect([decoded.length, decoded[0], decoded[50_500], decoded.at(-1)]).toEqual([
    100_000, 0, 50, 99,
  ]);
});

test("an error of the source ends the encoding with that error", async () => {
  await expect(Array.fromAsync(encodeNar(brokenSource()))).rejects.toThrow("the disk is gone");
});

test("a consumer that stops early stops the source", async () => {
  let isReturned = false;
  const source = async function* (): AsyncGenerator<Buffer> {
    try {
      while (true) yield LARGE;
    } finally {
      isReturned = true;
    }
  };
  for await (const frame of encodeNar(source())) {
    expect(frame.length).toBeGreaterThan(0);
    break;
  }
  expect(isReturned).toBe(true);
});

test("an aborted signal ends the encoding though the source is silent", async () => {
  const abort = new AbortController();
  const encoding = Array.fromAsync(encodeNar(silentSource(), { signal: abort.signal }));
  abort.abort();
  await expect(encoding).rejects.toMatchObject({ code: "CANCELLED" });
});

test.each([{ level: 0 }, { level: 23 }, { level: 1.5 }, { concurrency: 0 }])(
  "%j is a programming mistake",
  async (options) => {
    await expect(encode(Buffer.alloc(1), 1, options)).rejects.toThrow(RangeError);
  },
);
