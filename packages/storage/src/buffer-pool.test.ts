import { expect, test } from "vitest";

import { createBufferPool } from "./buffer-pool.ts";

test("buffers are used again, never by two at once, and never more than the limit", () => {
  const pool = createBufferPool({ bufferBytes: 16, maxTaken: 2 });
  const [first, second] = [pool.take(), pool.take()];
  expect(first).not.toBe(second);
  expect(pool.take()).toBeUndefined();

  pool.give(first ?? Buffer.alloc(0));
  expect(pool.take()).toBe(first);
  expect(pool.take()).toBeUndefined();
});

test("an abandoned buffer is replaced and does not come back", () => {
  const pool = createBufferPool({ bufferBytes: 16, maxTaken: 1 });
  const first = pool.take() ?? Buffer.alloc(0);
  pool.abandon(first);
  pool.give(first);
  expect(pool.take()).not.toBe(first);
});

test("a buffer that was never taken is not kept", () => {
  const pool = createBufferPool({ bufferBytes: 16, maxTaken: 1 });
  const stranger = Buffer.alloc(16);
  pool.give(stranger);
  expect(pool.take()).not.toBe(stranger);
});

test("a taker that leaves buffers to spare for others gets none of these", () => {
  const pool = createBufferPool({ bufferBytes: 16, maxTaken: 2 });
  expect(pool.take(1)).toBeDefined();
  expect(pool.take(1)).toBeUndefined();
  expect(pool.take()).toBeDefined();
});

test("no more idle buffers are kept than wanted", () => {
  const pool = createBufferPool({ bufferBytes: 16, maxTaken: Infinity, maxIdle: 1 });
  const buffers = [pool.take(), pool.take()].map((buffer) => buffer ?? Buffer.alloc(0));
  for (const buffer of buffers) pool.give(buffer);

  expect(pool.take()).toBe(buffers[0]);
  expect(buffers).not.toContain(pool.take());
});
