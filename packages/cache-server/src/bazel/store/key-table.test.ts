import { createHash } from "node:crypto";

import fc from "fast-check";
import { expect, test } from "vitest";

import { MemoryPool } from "../memory/memory-pool.ts";
import { KeyTable } from "./key-table.ts";

/** The words of some hash. */
function wordsOf(name: number): Int32Array {
  const bytes = new Uint8Array(createHash("sha256").update(String(name)).digest());
  return new Int32Array(bytes.buffer);
}

const command = fc.oneof(
  fc.record({ do: fc.constant("add" as const), scope: fc.nat(2), name: fc.nat(3000) }),
  fc.record({ do: fc.constant("remove" as const), scope: fc.nat(2), name: fc.nat(3000) }),
  fc.record({ do: fc.constant("touch" as const), scope: fc.nat(2), name: fc.nat(3000) }),
  fc.record({ do: fc.constant("flush" as const), isDone: fc.boolean() }),
  fc.record({ do: fc.constant("release" as const), sizeBytes: fc.nat(100_000) }),
);

test("whatever is added and removed, what is found is what was put there", () => {
  fc.assert(
    fc.property(fc.array(command, { maxLength: 3000, size: "max" }), (commands) => {
      const pool = new MemoryPool(2 ** 40);
      const memory = pool.join({ usedAtMs: 0, release: () => {} });
      const table = new KeyTable<string>({
        maxEntries: 1500,
        maxValueBytes: 20_000,
        valueSize: (value) => value.length,
        memory,
      });
      const added = new Map<string, number>();
      const dirty = new Set<string>();
      for (const each of commands) {
        if (each.do === "flush") {
          table.beginFlush();
          table.endFlush(each.isDone);
          if (each.isDone) dirty.clear();
          continue;
        }
        if (each.do === "release") {
          table.release(each.sizeBytes);
          expect(pool.usedBytes).toBe(table.bytes);
          continue;
        }
        const { scope, name } = each;
        const words = wordsOf(name);
        const key = `${scope}/${name}`;
        const slot = table.find(scope, words);
        // Entries go to make room, and never come by themselves.
        if (slot !== 0) expect(table.sizeOf(slot)).toBe(added.get(key));
        if (dirty.has(key)) expect(slot).not.toBe(0);
        if (each.do === "add" && slot === 0) {
          const entry = { sizeBytes: added.size, accessed: 1 };
          const made = table.add(scope, words, 0, entry);
          if (made === 0) continue;
          added.set(key, entry.sizeBytes);
          table.putValue(made, key);
          expect(table.find(scope, words)).toBe(made);
          expect(table.scopeOf(made)).toBe(scope);
        } else if (each.do === "remove" && slot !== 0) {
          const generation = table.generationOf(slot);
          table.remove(slot);
          dirty.delete(key);
          expect(table.find(scope, words)).toBe(0);
          expect(table.generationOf(slot)).not.toBe(generation);
        } else if (each.do === "touch" && slot !== 0) {
          const value = table.value(slot);
          if (value !== undefined) expect(value).toBe(key);
          if (table.touchedOf(slot) === 1) dirty.add(key);
          table.touch(slot, 2);
          expect(table.touchedOf(slot)).toBe(2);
        }
        expect(table.count).toBeLessThanOrEqual(1500);
        expect(table.valueBytes).toBeLessThanOrEqual(20_000);
      }
    }),
    { numRuns: 30 },
  );
});

test("when every entry waits for the index to know its use, there is no room for another", () => {
  const table = new KeyTable<never>({
    maxEntries: 1024,
    maxValueBytes: 0,
    valueSize: () => 0,
    memory: plenty(),
  });
  for (let name = 0; name < 1024; name += 1) {
    table.touch(table.add(1, wordsOf(name), 0, { sizeBytes: 1, accessed: 0 }), 1);
  }
  expect(table.add(1, wordsOf(5000), 0, { sizeBytes: 1, accessed: 0 })).toBe(0);
  table.beginFlush();
  expect(table.add(1, wordsOf(5000), 0, { sizeBytes: 1, accessed: 0 })).toBe(0);
  table.endFlush(true);
  expect(table.add(1, wordsOf(5000), 0, { sizeBytes: 1, accessed: 0 })).not.toBe(0);
});

test("a table that had room for all knows that it is whole until one has to go", () => {
  const table = new KeyTable<never>({
    maxEntries: 1024,
    maxValueBytes: 0,
    valueSize: () => 0,
    memory: plenty(),
  });
  for (let name = 0; name < 1024; name += 1) {
    table.learn(1, wordsOf(name), 0, { sizeBytes: 1, accessed: 0 });
    table.learn(1, wordsOf(name), 0, { sizeBytes: 1, accessed: 0 });
  }
  expect(table.count).toBe(1024);
  expect(table.losses).toBe(0);
  table.isWhole = true;
  table.remove(table.find(1, wordsOf(5)));
  table.add(1, wordsOf(2000), 0, { sizeBytes: 1, accessed: 0 });
  expect(table.isWhole).toBe(true);

  table.add(1, wordsOf(2001), 0, { sizeBytes: 1, accessed: 0 });

  expect(table.isWhole).toBe(false);
  expect(table.count).toBe(1024);
});

function plenty(): ReturnType<MemoryPool["join"]> {
  return new MemoryPool(2 ** 40).join({ usedAtMs: 0, release: () => {} });
}
