import { readFileSync } from "node:fs";

import { isCacheError } from "@glorious/core";
import fc from "fast-check";
import { expect, test } from "vitest";

import {
  FAST_CDC_PARAMS,
  type FastCdcParams,
  createFastCdcChunker,
  digestOf,
} from "../src/index.ts";

const SMALL: FastCdcParams = { averageBytes: 1024, seed: 0 };

/** The lengths of the chunks of `content`, written in the pieces that end at `cuts`. */
function chunkLengths(content: Uint8Array, params: FastCdcParams, cuts: number[] = []): number[] {
  const chunker = createFastCdcChunker(params);
  const lengths: number[] = [];
  let from = 0;
  for (const to of [...cuts, content.length]) {
    lengths.push(...chunker.write(content.subarray(from, to)));
    from = to;
  }
  const last = chunker.end();
  return last === undefined ? lengths : [...lengths, last];
}

/** Content as the program made it that the vectors come from. */
function vectorContent(bytes: number, kind: number): Uint8Array {
  const content = new Uint8Array(bytes);
  let state = 12_345 + kind;
  for (let index = 0; index < bytes; index++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    if (kind === 0) content[index] = state >>> 8;
    else if (kind === 2) content[index] = ((state >>> 8) & 7) === 0 ? state >>> 16 : index % 251;
    else if (kind === 3) content[index] = (state >>> 8) & 3;
  }
  return content;
}

// Made with FastCDC::with_level_and_seed of the Rust crate fastcdc 5.0.0 (v2020, level 2), which the
// contract names as an implementation to agree with.
const vectors = readFileSync(new URL("fixtures/fast-cdc-vectors.txt", import.meta.url), "utf8")
  .trim()
  .split("\n")
  .slice(1)
  .map((line) => line.split(" "));

const contents = [...new Set(vectors.map((vector) => vector.slice(0, 3).join(" ")))];

test.each(contents)("the cuts are another implementation's (average, bytes, kind: %s)", (name) => {
  const [, bytes = 0, kind = 0] = name.split(" ").map(Number);
  const content = vectorContent(bytes, kind);
  for (const vector of vectors.filter((each) => each.slice(0, 3).join(" ") === name)) {
    const [averageBytes = 0, , , seed = 0] = vector.slice(0, 4).map(Number);

    const lengths = chunkLengths(content, { averageBytes, seed });

    const summary = digestOf(Buffer.from(lengths.join(","))).hash.slice(0, 16);
    expect([String(lengths.length), lengths.slice(0, 12).join(","), summary]).toEqual(
      vector.slice(4),
    );
  }
});

test("the cuts do not depend on the pieces that the content comes in", () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ minLength: 0, maxLength: 20_000, size: "max" }),
      fc.array(fc.nat(20_000), { maxLength: 30 }),
      fc.boolean(),
      (content, places, isBytewise) => {
        const cuts = places.filter((place) => place < content.length).toSorted((a, b) => a - b);
        const bytewise = Array.from({ length: content.length }, (_, index) => index);

        const whole = chunkLengths(content, SMALL);

        expect(chunkLengths(content, SMALL, isBytewise ? bytewise : cuts)).toEqual(whole);
      },
    ),
    { numRuns: 60 },
  );
});

test("chunks keep to their limits and add up to the content", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 30_000, size: "max" }), (content) => {
      const lengths = chunkLengths(content, SMALL);

      expect(lengths.reduce((sum, length) => sum + length, 0)).toBe(content.length);
      expect(lengths.every((length) => length > 0 && length <= 4096)).toBe(true);
      expect(lengths.slice(0, -1).every((length) => length >= 256)).toBe(true);
    }),
    { numRuns: 60 },
  );
});

test("bytes put in front change the first chunks only", () => {
  const content = vectorContent(400_000, 0);
  const changed = Buffer.concat([Buffer.from("something new"), content]);

  const before = new Set(chunkHashes(content));
  const after = chunkHashes(changed);

  expect(after.filter((hash) => !before.has(hash)).length).toBeLessThan(6);
  expect(after.length).toBeGreaterThan(300);
});

function chunkHashes(content: Uint8Array): string[] {
  let from = 0;
  return chunkLengths(content, SMALL).map((length) => {
    from += length;
    return digestOf(content.subarray(from - length, from)).hash;
  });
}

test("a chunker that has ended starts afresh", () => {
  const chunker = createFastCdcChunker();
  chunker.write(new Uint8Array(1000));

  expect(chunker.end()).toBe(1000);
  expect(chunker.end()).toBeUndefined();
  expect(FAST_CDC_PARAMS.averageBytes).toBe(524_288);
});

test.each([0, -1, 1000, 512, 2_097_152, Number.NaN])(
  "an average of %d is refused",
  (averageBytes) => {
    let refusal: unknown;
    try {
      createFastCdcChunker({ averageBytes, seed: 0 });
    } catch (error) {
      refusal = error;
    }
    expect(isCacheError(refusal, "INVALID")).toBe(true);
  },
);
