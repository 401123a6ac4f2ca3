import { isCacheError } from "@glorious/core";
import fc from "fast-check";
import { expect, test } from "vitest";

import { DigestList } from "./digest-list.ts";
import { EMPTY_DIGEST, digestOf, formatHash, parseHash } from "./digest.ts";

test("a hash survives as a key", () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 32, maxLength: 32 }), (bytes) => {
      const hash = Buffer.from(bytes).toString("hex");

      expect([...parseHash(hash)]).toEqual([...bytes]);
      expect(formatHash(parseHash(hash))).toBe(hash);
    }),
  );
});

test("anything but 64 lowercase hexadecimal characters is no hash", () => {
  const almost = fc
    .tuple(fc.nat(63), fc.string({ unit: "grapheme", minLength: 1, maxLength: 1 }))
    .map(
      ([place, character]) =>
        EMPTY_DIGEST.hash.slice(0, place) + character + EMPTY_DIGEST.hash.slice(place + 1),
    );
  fc.assert(
    fc.property(fc.oneof(almost, fc.string()), (text) => {
      let problem: unknown;
      try {
        parseHash(text);
      } catch (error) {
        problem = error;
      }
      expect(problem === undefined).toBe(/^[0-9a-f]{64}$/.test(text));
      expect(problem === undefined || isCacheError(problem, "INVALID")).toBe(true);
    }),
  );
});

test("the empty blob is known by its digest alone", () => {
  const list = new DigestList();
  list.pushHash(EMPTY_DIGEST.hash, 0);
  list.pushHash(EMPTY_DIGEST.hash, 1);
  list.pushHash(digestOf(Buffer.from("x")).hash, 0);

  expect(digestOf(new Uint8Array())).toEqual(EMPTY_DIGEST);
  expect([0, 1, 2].map((index) => list.isEmptyBlob(index))).toEqual([true, false, false]);
});

test("a list keeps its digests when it grows, and another's when they are appended", () => {
  const digests = Array.from({ length: 100 }, (_, index) => digestOf(Buffer.of(index)));
  const list = new DigestList();
  for (const { hash, sizeBytes } of digests) list.pushHash(hash, sizeBytes);
  const copy = new DigestList();
  copy.append(list);

  expect(digests.map((_, index) => copy.hash(index))).toEqual(digests.map(({ hash }) => hash));
  expect(copy.key(99)).toEqual(new Uint8Array(parseHash(digests[99]!.hash)));
  list.clear();
  expect([list.length, copy.length]).toEqual([0, 100]);
});

test("a digest of a generated message is taken when it is a SHA-256 with a size", () => {
  const list = new DigestList();
  const { hash } = EMPTY_DIGEST;
  list.pushMessage({ hash, sizeBytes: 7n }, "chunk_digests[3]");

  expect([list.hash(0), list.sizeBytes(0)]).toEqual([hash, 7]);
  for (const [digest, problem] of [
    [undefined, "the hash is missing"],
    [{ hash: "ab", sizeBytes: 1n }, "the hash has 2 characters"],
    [{ hash: hash.toUpperCase(), sizeBytes: 1n }, "the hash is not lowercase hexadecimal"],
    [{ hash, sizeBytes: -1n }, "the size -1 is negative"],
    [{ hash, sizeBytes: 2n ** 60n }, "is larger than any blob"],
  ] as const) {
    expect(() => list.pushMessage(digest, "chunk_digests[3]")).toThrow(
      new RegExp(`^chunk_digests\\[3\\]: .*${problem}`),
    );
  }
  expect(list.length).toBe(1);
});

test("a list that held very many digests gives their memory back when it is cleared", () => {
  const list = new DigestList();
  for (let index = 0; index < 100_000; index++) list.pushHash(EMPTY_DIGEST.hash, index);

  list.clear();

  expect(list.bytes.length).toBeLessThan(32 * 1000);
});
