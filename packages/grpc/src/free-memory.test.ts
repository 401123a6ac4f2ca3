import { expect, test } from "vitest";

import { freeMemory } from "./free-memory.ts";

test("memory that is given back is gone for whoever has a view of it", () => {
  const bytes = Buffer.allocUnsafeSlow(64 * 1024);
  const view = bytes.subarray(10, 20);

  freeMemory(bytes);

  expect([bytes.length, view.length]).toEqual([0, 0]);
});

test("a part of memory that others may have a part of too stays, and so do few bytes", () => {
  const whole = Buffer.allocUnsafeSlow(64 * 1024);
  const few = Buffer.from("few bytes");

  freeMemory(whole.subarray(0, 32 * 1024));
  freeMemory(few);

  expect(whole).toHaveLength(64 * 1024);
  expect(few.toString()).toBe("few bytes");
});
