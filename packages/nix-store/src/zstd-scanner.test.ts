import { constants, zstdCompressSync } from "node:zlib";

import { isCacheError } from "@glorious/core";
import fc from "fast-check";
import { expect, test } from "vitest";

import { decodeZstd } from "./zstd-decoder.ts";
import { createZstdScanner, type ZstdScanner } from "./zstd-scanner.ts";

const MIB = 2 ** 20;

/** A frame with its content size, as zstd itself writes it. */
function frame(content: Uint8Array, params: Record<number, number> = {}): Buffer {
  return zstdCompressSync(content, { pledgedSrcSize: content.length, params });
}

/** A frame header by hand: descriptor, then the fields that follow it. */
function header(descriptor: number, ...fields: number[]): Buffer {
  return Buffer.from([0x28, 0xb5, 0x2f, 0xfd, descriptor, ...fields]);
}

function block(
  type: "raw" | "rle" | "compressed" | "reserved",
  isLast: boolean,
  body: number[],
  sizeBytes = body.length,
): Buffer {
  const bytes = Buffer.alloc(3 + body.length);
  const typeBits = ["raw", "rle", "compressed", "reserved"].indexOf(type);
  bytes.writeUIntLE(sizeBytes * 8 + typeBits * 2 + Number(isLast), 0, 3);
  bytes.set(body, 3);
  return bytes;
}

const SKIPPABLE = Buffer.from("502a4d1804000000aabbccdd", "hex");
const EMPTY = frame(Buffer.alloc(0));
const SMALL = frame(Buffer.alloc(1000, "small "));
const FULL = frame(Buffer.alloc(64 * 1024, "full "));

function scan(bytes: Uint8Array, pieceBytes = bytes.length): ZstdScanner {
  const scanner = createZstdScanner();
  for (let start = 0; start < bytes.length; start += pieceBytes) {
    scanner.write(bytes.subarray(start, start + pieceBytes));
  }
  scanner.end();
  return scanner;
}

async function decode(bytes: Uint8Array): Promise<Buffer> {
  const source = (async function* () {
    yield bytes;
  })();
  return Buffer.concat(await Array.fromAsync(decodeZstd(source)));
}

test("frames, content sizes and windows are read from the headers", () => {
  const checksummed = frame(Buffer.alloc(300_000, "x"), { [constants.ZSTD_c_checksumFlag]: 1 });
  expect(scan(Buffer.concat([FULL, checksummed, SMALL]))).toMatchObject({
    frames: 3,
    contentBytes: 64 * 1024 + 300_000 + 1000,
    maxContentBytes: 64 * 1024 + 300_000 + 1000,
    windowBytes: 300_000,
    violation: undefined,
  });
});

test.each([
  ["a skippable frame at the start", [SKIPPABLE, FULL], /skippable frame of 4 bytes/],
  ["a skippable frame at the end", [FULL, SKIPPABLE], /skippable/],
  ["nothing but a skippable frame", [SKIPPABLE], /skippable/],
  ["a dictionary", [header(0x21, 7, 5), block("raw", true, [1, 2, 3, 4, 5])], /dictionary 7/],
  [
    "a window of 16 MiB",
    [header(0x80, 14 << 3, 5, 0, 0, 0), block("raw", true, [1, 2, 3, 4, 5])],
    /window of 16777216 bytes/,
  ],
  [
    "a single segment of 9 MiB, which is its own window",
    [frame(Buffer.alloc(9 * MIB), { [constants.ZSTD_c_windowLog]: 24 })],
    /window of 9437184 bytes/,
  ],
  ["a frame over 16 MiB", [frame(Buffer.alloc(17 * MIB))], /holds 17825792 bytes/],
  [
    "no content size",
    [header(0x00, 0x58), block("raw", true, [1, 2, 3])],
    /does not state its content size/,
  ],
  ["the unused bit", [header(0x30, 3), block("raw", true, [1, 2, 3])], /unused bit/],
  ["an empty frame before others", [EMPTY, FULL], /holds 0 bytes/],
  ["an empty frame after others", [FULL, EMPTY], /empty frame/],
  ["a short frame that is not the last", [SMALL, FULL], /holds 1000 bytes/],
  [
    "an empty block that is not the last",
    [header(0x20, 3), block("raw", false, []), block("raw", true, [1, 2, 3])],
    /empty blocks/,
  ],
  [
    "blocks that hold next to nothing",
    [
      header(0x20, 200),
      ...Array.from({ length: 199 }, () => block("rle", false, [9], 1)),
      block("raw", true, [1]),
    ],
    /has 200 blocks, the limit is 17/,
  ],
] satisfies [string, Buffer[], RegExp][])("%s is a violation", async (_name, parts, reason) => {
  const bytes = Buffer.concat(parts);
  for (const pieceBytes of [bytes.length, 1, 7]) {
    expect(scan(bytes, Math.max(pieceBytes, 1)).violation).toMatch(reason);
  }
});

test("the first violation stays", () => {
  expect(scan(Buffer.concat([SKIPPABLE, SMALL, FULL, EMPTY])).violation).toMatch(/skippable/);
});

test.each([
  ["one empty frame", [EMPTY]],
  ["one short frame", [SMALL]],
  ["a short frame at the end", [FULL, SMALL]],
  [
    "an empty last block, as a flushed encoder leaves it",
    [header(0x20, 3), block("raw", false, [1, 2, 3]), block("raw", true, [])],
  ],
] satisfies [string, Buffer[]][])("%s is fine", (_name, parts) => {
  expect(scan(Buffer.concat(parts), 5).violation).toBeUndefined();
});

test.each([
  ["text", Buffer.from("this is no zstd at all")],
  ["gzip", Buffer.from("1f8b0800000000000003", "hex")],
  ["garbage after a frame", Buffer.concat([SMALL, Buffer.from("garbage")])],
  ["the reserved header bit", Buffer.concat([header(0x28, 3), block("raw", true, [1, 2, 3])])],
  ["the reserved block type", Buffer.concat([header(0x20, 3), block("reserved", true, [1, 2, 3])])],
  ["a block over the window", Buffer.concat([header(0x20, 3), block("raw", true, [1, 2, 3, 4])])],
  [
    "a compressed block of one byte",
    Buffer.concat([header(0x20, 3), block("compressed", true, [0])]),
  ],
  [
    "a content size over the blocks'",
    Buffer.concat([header(0x20, 4), block("raw", true, [1, 2, 3])]),
  ],
  [
    "a content size under the blocks'",
    Buffer.concat([header(0x20, 3), block("raw", false, [1, 2]), block("raw", true, [3, 4])]),
  ],
])("%s is CORRUPT for the scanner and the decoder", async (_name, bytes) => {
  for (const pieceBytes of [bytes.length, 1]) {
    expect(() => scan(bytes, pieceBytes)).toThrow(expect.objectContaining({ code: "CORRUPT" }));
  }
  await expect(decode(bytes)).rejects.toMatchObject({ code: "CORRUPT" });
});

test("a stream cut at any byte is TRUNCATED for the scanner and the decoder", async () => {
  const checksummed = frame(Buffer.from("hello hello hello"), {
    [constants.ZSTD_c_checksumFlag]: 1,
  });
  const bytes = Buffer.concat([SMALL, SKIPPABLE, checksummed]);
  const ends = new Set([SMALL.length, SMALL.length + SKIPPABLE.length]);
  for (let length = 0; length < bytes.length; length += 1) {
    if (ends.has(length)) continue;
    const cut = bytes.subarray(0, length);
    expect(() => scan(cut, 3)).toThrow(expect.objectContaining({ code: "TRUNCATED" }));
    await expect(decode(cut)).rejects.toMatchObject({ code: "TRUNCATED" });
  }
});

const streams = fc
  .array(
    fc.oneof(
      fc.record({
        content: fc.uint8Array({ maxLength: 300 }),
        times: fc.integer({ min: 1, max: 50 }),
        level: fc.integer({ min: 1, max: 19 }),
        checksum: fc.integer({ min: 0, max: 1 }),
        isSized: fc.boolean(),
      }),
      fc.constant("skippable" as const),
    ),
    { minLength: 1, maxLength: 4 },
  )
  .map((parts) => {
    const contents: Uint8Array[] = [];
    const frames = parts.map((part) => {
      if (part === "skippable") return SKIPPABLE;
      const content = Buffer.concat(Array<Uint8Array>(part.times).fill(part.content));
      contents.push(content);
      return zstdCompressSync(content, {
        ...(part.isSized ? { pledgedSrcSize: content.length } : {}),
        params: {
          [constants.ZSTD_c_compressionLevel]: part.level,
          [constants.ZSTD_c_checksumFlag]: part.checksum,
          [constants.ZSTD_c_contentSizeFlag]: Number(part.isSized),
        },
      });
    });
    return { bytes: Buffer.concat(frames), content: Buffer.concat(contents) };
  });

test("the scanner and the decoder agree on what encoders write, however it is cut", async () => {
  await fc.assert(
    fc.asyncProperty(
      streams,
      fc.integer({ min: 1, max: 400 }),
      async ({ bytes, content }, cutBytes) => {
        const scanner = scan(bytes, cutBytes);
        expect(scanner.contentBytes ?? content.length).toBe(content.length);
        expect(scanner.maxContentBytes).toBeGreaterThanOrEqual(content.length);
        expect((await decode(bytes)).equals(content)).toBe(true);
      },
    ),
    { numRuns: 150 },
  );
});

test("the scanner never promises another size than a changed stream decodes to", async () => {
  const changes = fc.array(fc.record({ at: fc.nat(), xor: fc.integer({ min: 1, max: 255 }) }), {
    minLength: 1,
    maxLength: 3,
  });
  await fc.assert(
    fc.asyncProperty(streams, changes, async ({ bytes }, edits) => {
      const changed = Buffer.from(bytes);
      for (const { at, xor } of edits) {
        const index = at % changed.length;
        changed[index] = (changed[index] ?? 0) ^ xor;
      }
      const outcome = await decode(changed).then(
        (decoded) => ({ code: "decoded", sizeBytes: decoded.length }),
        (error: unknown) => ({
          code: isCacheError(error) ? error.code : String(error),
          sizeBytes: 0,
        }),
      );
      expect(outcome.code).toMatch(/^(decoded|CORRUPT|TRUNCATED|TOO_LARGE|UNSUPPORTED)$/);
      if (outcome.code !== "decoded") return;
      const { contentBytes = outcome.sizeBytes, maxContentBytes } = scan(changed);
      // Thrown, not expected: nothing is asserted for streams that do not decode.
      if (contentBytes !== outcome.sizeBytes || maxContentBytes < outcome.sizeBytes) {
        throw new Error(
          `promised ${contentBytes} of at most ${maxContentBytes}, got ${outcome.sizeBytes}`,
        );
      }
    }),
    { numRuns: 400 },
  );
});
