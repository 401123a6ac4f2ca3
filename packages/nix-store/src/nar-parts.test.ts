import fc from "fast-check";
import { expect, test } from "vitest";

import { encodeNar } from "./nar-encoder.ts";
import { NAR_ENCODING } from "./nar-encoding.ts";
import { countNarParts, encodeNarParts, narPartSize, type NarParts } from "./nar-parts.ts";

const { frameBytes } = NAR_ENCODING;

const anyParts = fc.record({
  narSize: fc.integer({ min: 1, max: 2 ** 40 }),
  partBytes: fc.integer({ min: 1, max: 1024 }).map((frames) => frames * frameBytes),
});

test("the parts of a NAR are full but for the last, and together have its size", () => {
  fc.assert(
    fc.property(anyParts, ({ narSize, partBytes }) => {
      const parts = { narSize, partBytes };
      const count = countNarParts(parts);
      expect((count - 1) * partBytes + narPartSize(parts, count - 1)).toBe(narSize);
      expect(narPartSize(parts, count - 1)).toBeGreaterThan(0);
      if (count > 1) expect(narPartSize(parts, 0)).toBe(partBytes);
    }),
  );
});

test("a number that no part has stands for no byte", () => {
  fc.assert(
    fc.property(anyParts, fc.oneof(fc.integer(), fc.double()), (parts, number) => {
      const isPart = Number.isInteger(number) && number >= 0 && number < countNarParts(parts);
      expect(narPartSize(parts, number) > 0).toBe(isPart);
    }),
  );
});

/** A line for every 64 bytes, no two alike. */
const NAR = Buffer.concat(
  Array.from({ length: (5 * frameBytes) / 64 + 100 }, (_, line) =>
    Buffer.from(`${line}`.padEnd(63, "-") + "\n"),
  ),
);

async function* cut(bytes: Buffer, pieceBytes: number): AsyncGenerator<Buffer> {
  for (let start = 0; start < bytes.length; start += pieceBytes) {
    yield bytes.subarray(start, start + pieceBytes);
  }
}

const whole = Buffer.concat(await Array.fromAsync(encodeNar(cut(NAR, 2 ** 20))));

async function encodeParts(
  parts: NarParts,
  pieceBytes: number,
  isWanted: (number: number) => boolean,
): Promise<Map<number, Buffer>> {
  const encoded = new Map<number, Buffer>();
  const nar = cut(NAR.subarray(0, parts.narSize), pieceBytes);
  for await (const { number, pieces } of encodeNarParts(nar, parts, { isWanted })) {
    encoded.set(number, Buffer.concat(pieces));
  }
  return encoded;
}

test("whichever parts are made, each is the same, and all of them are the NAR's one encoding", async () => {
  const parts = { narSize: NAR.length, partBytes: 2 * frameBytes };
  const all = await encodeParts(parts, 2 ** 20, () => true);
  expect([...all.keys()]).toEqual([0, 1, 2]);
  expect(Buffer.concat([...all.values()]).equals(whole)).toBe(true);
  await fc.assert(
    fc.asyncProperty(
      fc.subarray([0, 1, 2]),
      fc.integer({ min: 100_000, max: 20_000_000 }),
      async (wanted, pieceBytes) => {
        const made = await encodeParts(parts, pieceBytes, (number) => wanted.includes(number));
        expect([...made.keys()]).toEqual(wanted);
        for (const [number, bytes] of made)
          expect(bytes.equals(all.get(number) as Buffer)).toBe(true);
      },
    ),
    { numRuns: 8 },
  );
});

test("a NAR that turns out wrong at its end never yields its last wanted part", async () => {
  async function* damaged(): AsyncGenerator<Buffer> {
    yield* cut(NAR, 2 ** 20);
    throw new Error("the hash is wrong");
  }
  const parts = { narSize: NAR.length, partBytes: frameBytes };
  for (const wanted of [[0, 1, 2], [5], []]) {
    const made: number[] = [];
    const making = (async () => {
      const isWanted = (number: number): boolean => wanted.includes(number);
      for await (const { number } of encodeNarParts(damaged(), parts, { isWanted }))
        made.push(number);
    })();
    await expect(making).rejects.toThrow("the hash is wrong");
    expect(made).not.toContain(wanted.at(-1) ?? 0);
  }
});

test("parts that would not be whole frames are refused", async () => {
  const parts = { narSize: NAR.length, partBytes: frameBytes + 1 };
  await expect(encodeParts(parts, 2 ** 20, () => true)).rejects.toThrow("multiple");
});
