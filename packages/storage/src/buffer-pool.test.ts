import { expect, test } from "vitest";

import { createBufferPool } from "./buffer-pool.ts";

test("buffers are used again, never by two at once, and never more than the limit", () => {
  const pool = createBufferPool(16, 2);
  const [first, second] = [pool.take(), pool.take()];
  expect(first).not.toBe(second);
  expect(pool.take()).toBeUndefined();

  pool.give(first ?? Buffer.alloc(0));
  expect(pool.take()).toBe(first);
  expect(pool.take()).toBeUndefined();
});

test("an abandoned buffer is replaced and does not come back", () => {
  const pool = createBufferPool(16, 1);
  const first = pool.take() ?? Buffer.alloc(0);
  pool.abandon(first);
  pool.give(first);
  expect(pool.take()).not.toBe(first);
});

test("a buffer that was never taken is not kept", () => {
  const pool = createBufferPool(16, 1);
  const stranger = Buffer.alloc(16);
  pool.give(stranger);
  expect(pool.take()).not.toBe(stranger);
});
