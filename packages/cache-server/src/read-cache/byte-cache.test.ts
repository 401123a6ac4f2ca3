import fc from "fast-check";
import { expect, test } from "vitest";

import { createByteCache } from "./byte-cache.ts";

test("a value is found under its key for the version it was put for, and for no other", () => {
  const cache = createByteCache<string>(10_000);
  cache.put("a", 1, "first", 5);

  expect(cache.get("a", 1)).toBe("first");
  expect(cache.get("a", 2)).toBeUndefined();
  expect(cache.get("b", 1)).toBeUndefined();
});

test("a value put again takes the place of the one before and of its bytes", () => {
  const cache = createByteCache<string>(10_000);
  cache.put("a", 1, "first", 500);
  const { sizeBytes } = cache;
  cache.put("a", 2, "second", 500);

  expect(cache.get("a", 2)).toBe("second");
  expect(cache.get("a", 1)).toBeUndefined();
  expect(cache.sizeBytes).toBe(sizeBytes);
});

test("the value that nobody asked for goes first", () => {
  const cache = createByteCache<number>(3000);
  for (let count = 0; count < 20; count += 1) {
    cache.put(String(count), 1, count, 500);
    expect(cache.get("0", 1)).toBe(0);
  }

  expect(cache.get("1", 1)).toBeUndefined();
  expect(cache.get("19", 1)).toBe(19);
});

test("a value larger than the cache is not kept, and pushes nothing out", () => {
  const cache = createByteCache<string>(3000);
  cache.put("small", 1, "s", 100);
  cache.put("large", 1, "l", 3000);

  expect(cache.get("large", 1)).toBeUndefined();
  expect(cache.get("small", 1)).toBe("s");
});

test("whatever is put and asked for, the bytes stay within the bound and no stale value comes back", () => {
  const step = fc.record({
    key: fc.constantFrom("a", "b", "c", "d", "e", "f"),
    version: fc.nat(3),
    sizeBytes: fc.nat(900),
    isPut: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const cache = createByteCache<string>(2000);
      const last = new Map<string, string>();
      for (const { key, version, sizeBytes, isPut } of steps) {
        if (isPut) {
          last.set(key, `${key} ${version}`);
          cache.put(key, version, `${key} ${version}`, sizeBytes);
        } else {
          const value = cache.get(key, version);
          if (value !== undefined) {
            expect(value).toBe(`${key} ${version}`);
            expect(value).toBe(last.get(key));
          }
        }
        expect(cache.sizeBytes).toBeLessThanOrEqual(2000);
      }
    }),
  );
});
