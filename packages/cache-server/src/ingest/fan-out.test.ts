import fc from "fast-check";
import { expect, test } from "vitest";

import { fanOut } from "./fan-out.ts";

async function* from(chunks: readonly Uint8Array[]): AsyncGenerator<Buffer> {
  for (const chunk of chunks) yield Buffer.from(chunk);
}

async function collect(chunks: AsyncIterable<Buffer>): Promise<string> {
  const pieces: Buffer[] = [];
  for await (const chunk of chunks) pieces.push(Buffer.from(chunk));
  return Buffer.concat(pieces).toString("hex");
}

test("every consumer gets every byte in order", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.uint8Array({ maxLength: 50 }), { maxLength: 20 }),
      async (chunks) => {
        const whole = Buffer.concat(chunks).toString("hex");
        expect(await fanOut(from(chunks), [collect, collect, collect])).toEqual([
          whole,
          whole,
          whole,
        ]);
      },
    ),
  );
});

test("the source never runs ahead of the slowest consumer", async () => {
  let produced = 0;
  let finished = 0;
  async function* source(): AsyncGenerator<Buffer> {
    for (; produced < 20; produced += 1) yield Buffer.alloc(1);
  }
  const slow = async (chunks: AsyncIterable<Buffer>): Promise<void> => {
    for await (const _ of chunks) {
      await new Promise((resolve) => setImmediate(resolve));
      expect(produced - finished).toBeLessThanOrEqual(1);
      finished += 1;
    }
  };
  await fanOut<[void, string]>(source(), [slow, collect]);
  expect(finished).toBe(20);
});

test("a failing consumer ends the others with its error", async () => {
  const boom = new Error("boom");
  const seen: unknown[] = [];
  const failing = async (chunks: AsyncIterable<Buffer>): Promise<void> => {
    for await (const _ of chunks) throw boom;
  };
  const watching = async (chunks: AsyncIterable<Buffer>): Promise<void> => {
    try {
      for await (const _ of chunks);
    } catch (error) {
      seen.push(error);
      throw error;
    }
  };
  const endless = async function* (): AsyncGenerator<Buffer> {
    for (;;) yield Buffer.alloc(10);
  };
  await expect(fanOut<[void, void]>(endless(), [failing, watching])).rejects.toBe(boom);
  expect(seen).toEqual([boom]);
});

test("a failing source ends every consumer with its error", async () => {
  const cut = new Error("cut");
  async function* source(): AsyncGenerator<Buffer> {
    yield Buffer.alloc(3);
    throw cut;
  }
  await expect(fanOut(source(), [collect, collect])).rejects.toBe(cut);
});

test("a consumer that has enough does not hold up the rest", async () => {
  const first = async (chunks: AsyncIterable<Buffer>): Promise<number> => {
    for await (const chunk of chunks) return chunk.length;
    return 0;
  };
  const chunks = [Buffer.alloc(2), Buffer.alloc(3), Buffer.alloc(4)];
  expect(await fanOut<[number, string]>(from(chunks), [first, collect])).toEqual([
    2,
    "00".repeat(9),
  ]);
});
