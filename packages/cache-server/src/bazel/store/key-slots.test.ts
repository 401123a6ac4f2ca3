import { createHash } from "node:crypto";

import fc from "fast-check";
import { expect, test } from "vitest";

import { KeySlots } from "./key-slots.ts";

const NAMES = 4000;
const HASHES = Array.from({ length: NAMES }, (_, name) => {
  const bytes = new Uint8Array(createHash("sha256").update(String(name)).digest());
  return new Int32Array(bytes.buffer);
});

const step = fc.record({
  isRemoval: fc.boolean(),
  scope: fc.integer({ min: 1, max: 2 }),
  // Runs of names, so that the table fills, empties and grows.
  from: fc.nat(NAMES - 1),
  length: fc.integer({ min: 1, max: 600 }),
  sizeBytes: fc.maxSafeNat(),
  flags: fc.nat(255),
});

test("what is found is what was added and not removed, with all that was noted of it", () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const slots = new KeySlots();
      const model = new Map<string, { slot: number; sizeBytes: number; flags: number }>();
      for (const { isRemoval, scope, from, length, sizeBytes, flags } of steps) {
        for (let name = from; name < Math.min(NAMES, from + length); name += 1) {
          const key = `${scope}/${name}`;
          const words = HASHES[name] as Int32Array;
          const known = model.get(key);
          const slot = slots.find(scope, words, 0);
          expect(slot).toBe(known?.slot ?? 0);
          if (known !== undefined && isRemoval) {
            const generation = slots.generationOf(slot);
            slots.remove(slot);
            model.delete(key);
            expect(slots.generationOf(slot)).not.toBe(generation);
            expect(slots.find(scope, words, 0)).toBe(0);
          } else if (known === undefined && !isRemoval) {
            const added = slots.add(scope, words, 0, { sizeBytes, accessed: name });
            expect(slots.flagsOf(added)).toBe(0);
            expect(slots.placeOf(added)).toBe(0);
            slots.setFlags(added, flags);
            slots.setPlace(added, sizeBytes % 2 ** 32);
            model.set(key, { slot: added, sizeBytes, flags });
          }
        }
      }
      expect(slots.count).toBe(model.size);
      const copy = new Int32Array(8);
      for (const [key, { slot, sizeBytes, flags }] of model) {
        const [scope = "", name = ""] = key.split("/");
        expect(slots.scopeOf(slot)).toBe(Number(scope));
        expect(slots.sizeOf(slot)).toBe(sizeBytes);
        expect(slots.flagsOf(slot)).toBe(flags);
        expect(slots.placeOf(slot)).toBe(sizeBytes % 2 ** 32);
        expect(slots.touchedOf(slot)).toBe(Number(name));
        slots.copyHash(slot, copy, 0);
        expect(copy).toEqual(HASHES[Number(name)]);
      }
      for (let name = 0; name < NAMES; name += 97) {
        for (const scope of [1, 2]) {
          const words = HASHES[name] as Int32Array;
          expect(slots.find(scope, words, 0)).toBe(model.get(`${scope}/${name}`)?.slot ?? 0);
        }
      }
    }),
    { numRuns: 40 },
  );
});

test("entries that differ in one word of the hash, or in the scope alone, are different ones", () => {
  const slots = new KeySlots();
  const words = new Int32Array(8);
  const found = new Set<number>();
  for (let word = 0; word < 8; word += 1) {
    for (let bit = 0; bit < 32; bit += 1) {
      words.fill(0);
      words[word] = 1 << bit;
      expect(slots.find(1, words, 0)).toBe(0);
      found.add(slots.add(1, words, 0, { sizeBytes: 0, accessed: 0 }));
      found.add(slots.add(2, words, 0, { sizeBytes: 0, accessed: 0 }));
    }
  }
  expect(found.size).toBe(8 * 32 * 2);
});
