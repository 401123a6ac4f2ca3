import { readFileSync } from "node:fs";

import fc from "fast-check";
import { expect, test } from "vitest";

import { limitXzDictionaries, readFirstXzDictionary } from "./xz-dictionaries.ts";

const HEADER_BYTES = 12;

/** `xz --block-size=1000`: several blocks, all with the same dictionary. */
const BLOCKS = readBlocks("blocks");
const PLAIN = readBlocks("plain");

function readBlocks(name: string): Buffer {
  return readFileSync(new URL(`../../test/fixtures/${name}.xz`, import.meta.url));
}

/** A block that stores `data` as it is, with room for a CRC64; its checksums are the decoder's to look at. */
function storedBlock(dictionaryBits: number, data: Buffer): Buffer {
  const chunk = Buffer.from([1, 0, 0]);
  chunk.writeUInt16BE(data.length - 1, 1);
  const body = Buffer.concat([chunk, data, Buffer.alloc(1)]);
  const header = Buffer.from([2, 0, 0x21, 1, dictionaryBits, 0, 0, 0, 0, 0, 0, 0]);
  return Buffer.concat([header, body, Buffer.alloc((4 - (body.length % 4)) % 4), Buffer.alloc(8)]);
}

async function pass(bytes: Buffer, maxBytes: number, chunkBytes: number): Promise<Buffer> {
  async function* chunks(): AsyncGenerator<Buffer> {
    for (let at = 0; at < bytes.length; at += chunkBytes) {
      yield bytes.subarray(at, at + chunkBytes);
    }
  }
  return Buffer.concat(await Array.fromAsync(limitXzDictionaries(chunks(), maxBytes)));
}

test.each([
  ["several blocks", BLOCKS],
  ["one block", PLAIN],
])("a file of %s with one dictionary passes as it is", async (_, file) => {
  const maxBytes = readFirstXzDictionary(file);
  for (const chunkBytes of [1, 7, 4096]) {
    expect((await pass(file, maxBytes, chunkBytes)).equals(file)).toBe(true);
  }
});

test("a later block with a larger dictionary is refused, however the stream is cut", async () => {
  const header = PLAIN.subarray(0, HEADER_BYTES);
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.uint8Array({ minLength: 1, maxLength: 40 }), { minLength: 1, maxLength: 5 }),
      fc.integer({ min: 1, max: 100 }),
      async (contents, chunkBytes) => {
        const small = contents.map((data) => storedBlock(20, Buffer.from(data)));
        const large = storedBlock(24, Buffer.from("large"));
        const good = Buffer.concat([header, ...small]);
        const maxBytes = readFirstXzDictionary(good);
        expect((await pass(good, maxBytes, chunkBytes)).equals(good)).toBe(true);
        await expect(
          pass(Buffer.concat([good, large]), maxBytes, chunkBytes),
        ).rejects.toMatchObject({ code: "UNSUPPORTED" });
      },
    ),
  );
});
