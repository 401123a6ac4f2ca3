import { expect, test } from "vitest";

import { createChunkBuffers } from "./chunk-buffers.ts";

test("a buffer that came back by a part of it is used again, and nobody else has it meanwhile", () => {
  const buffers = createChunkBuffers({ chunkBytes: 16, maxIdle: 2 });
  const [first, second] = [buffers.take(), buffers.take()];
  expect(first.buffer).not.toBe(second.buffer);

  buffers.give(first.subarray(3, 5));

  expect(buffers.take()).toBe(first);
  expect(buffers.take()).not.toBe(first);
});

test("a buffer that comes back twice, or was never taken, is not given to two", () => {
  const buffers = createChunkBuffers({ chunkBytes: 16, maxIdle: 2 });
  const first = buffers.take();
  const stranger = Buffer.alloc(16);
  for (const chunk of [first, first, stranger]) buffers.give(chunk);

  const next = [buffers.take(), buffers.take()];
  expect(next[0]).toBe(first);
  expect(next).not.toContain(stranger);
  expect(next[1]).not.toBe(first);
});

test("no more idle buffers are kept than wanted", () => {
  const buffers = createChunkBuffers({ chunkBytes: 16, maxIdle: 1 });
  const taken = [buffers.take(), buffers.take()];
  for (const chunk of taken) buffers.give(chunk);

  expect(buffers.take()).toBe(taken[0]);
  expect(taken).not.toContain(buffers.take());
});
