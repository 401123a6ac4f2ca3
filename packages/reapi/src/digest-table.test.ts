import { isCacheError } from "@glorious/core";
import fc from "fast-check";
import { expect, test } from "vitest";

import { DigestList } from "./digest-list.ts";
import { DigestTable } from "./digest-table.ts";
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

test("a table does what a map of texts does, through growth and deletion", () => {
  const list = new DigestList();
  for (let index = 0; index < 200; index++) {
    list.pushHash(digestOf(Buffer.from(String(index))).hash, index);
  }
  const steps = fc.array(fc.tuple(fc.constantFrom("add", "add", "delete", "find"), fc.nat(199)), {
    maxLength: 400,
    size: "max",
  });
  fc.assert(
    fc.property(steps, (list_) => {
      const table = new DigestTable({ capacity: 1 });
      const model = new Map<string, number>();
      for (const [step, index] of list_) {
        const hash = list.hash(index);
        const known = model.get(hash);
        if (step === "add") {
          const id = table.add(list, index);
          expect(known === undefined ? [...model.values()].includes(id) : id !== known).toBe(false);
          model.set(hash, id);
        } else if (step === "delete" && known !== undefined) {
          table.delete(known);
          model.delete(hash);
        } else expect(table.find(list, index)).toBe(known ?? -1);
      }
      expect(table.size).toBe(model.size);
      for (let index = 0; index < list.length; index++) {
        const id = model.get(list.hash(index));
        expect(table.find(list, index)).toBe(id ?? -1);
        if (id !== undefined) expect(formatHash(table.key(id))).toBe(list.hash(index));
      }
    }),
    { numRuns: 200 },
  );
});

test("numbers stay small: those of deleted digests are used again", () => {
  const list = new DigestList();
  const table = new DigestTable();
  for (let index = 0; index < 5000; index++) {
    list.clear();
    list.pushHash(digestOf(Buffer.from(String(index))).hash, 1);
    const id = table.add(list, 0);
    expect(id).toBeLessThan(1);
    table.delete(id);
  }
  expect(table.size).toBe(0);
});
