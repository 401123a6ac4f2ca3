import fc from "fast-check";
import { expect, test } from "vitest";

import { chunkPool } from "./chunk-pool.ts";
import { UploadBlocks } from "./upload-blocks.ts";

test("pieces are the bytes that came, and memory goes back only when all that lies in it was given back", () => {
  fc.assert(
    fc.property(
      fc.array(fc.record({ bytes: fc.integer({ min: 1, max: 90_000 }), returns: fc.nat(6) }), {
        maxLength: 20,
      }),
      (steps) => {
        const blocks = new UploadBlocks(10 ** 6);
        const waiting: { piece: Buffer; expected: number }[] = [];
        const giveBackFirst = (): void => {
          const first = waiting.shift();
          if (first !== undefined) blocks.giveBack(first.piece);
        };
        for (const [at, { bytes, returns }] of steps.entries()) {
          const pieces = blocks.copy(Buffer.alloc(bytes, at + 1));
          expect(pieces.reduce((sum, { length }) => sum + length, 0)).toBe(bytes);
          waiting.push(...pieces.map((piece) => ({ piece, expected: at + 1 })));
          for (let step = 0; step < returns; step += 1) giveBackFirst();
          // Whatever the pool gives to others now is not what is still in use here.
          const other = chunkPool.take().fill(0);
          for (const { piece, expected } of waiting) {
            expect(piece.every((byte) => byte === expected)).toBe(true);
          }
          chunkPool.give(other);
        }
        blocks.end();
        while (waiting.length > 0) giveBackFirst();
      },
    ),
    { numRuns: 30 },
  );
});

test("a small upload's pieces are its own", () => {
  const bytes = Buffer.from("small");
  const [piece] = new UploadBlocks(5).copy(bytes);
  bytes.fill(0);
  expect(piece?.toString()).toBe("small");
});
