import fc from "fast-check";
import { expect, test } from "vitest";

import { splitPreamble, takeBytes } from "./upload-framing.ts";

async function* cut(bytes: Buffer, sizes: readonly number[]): AsyncGenerator<Buffer> {
  let offset = 0;
  for (const size of [...sizes, bytes.length]) {
    if (offset >= bytes.length) return;
    yield bytes.subarray(offset, offset + size);
    offset += size;
  }
}

async function collect(chunks: AsyncIterable<Buffer>): Promise<Buffer> {
  return Buffer.concat(await Array.fromAsync(chunks));
}

const body = fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes));
const cuts = fc.array(fc.integer({ min: 1, max: 60 }));

test("a preamble and the rest are the body, however it arrives", async () => {
  await fc.assert(
    fc.asyncProperty(body, cuts, fc.nat(200), async (bytes, sizes, wanted) => {
      const sizeBytes = Math.min(wanted, bytes.length);
      const { head, rest } = await splitPreamble(cut(bytes, sizes), sizeBytes);
      expect(head).toEqual(bytes.subarray(0, sizeBytes));
      expect(await collect(rest)).toEqual(bytes.subarray(sizeBytes));
    }),
  );
});

test("a preamble longer than the body is truncated, with both numbers", async () => {
  await expect(splitPreamble(cut(Buffer.alloc(10), [4]), 11)).rejects.toMatchObject({
    code: "TRUNCATED",
    message: "The body ended after 10 of the preamble's 11 bytes",
  });
});

test("taking bytes ends exactly there", async () => {
  await fc.assert(
    fc.asyncProperty(body, cuts, fc.nat(250), async (bytes, sizes, wanted) => {
      expect(await collect(takeBytes(cut(bytes, sizes), wanted))).toEqual(
        bytes.subarray(0, wanted),
      );
    }),
  );
});
