import fc from "fast-check";
import { expect, test } from "vitest";

import { runParallel } from "./run-parallel.ts";

test("every item runs once, never more than allowed at a time, and after those it waits for", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.array(fc.nat(30), { maxLength: 3 }), { maxLength: 25 }),
      fc.integer({ min: 1, max: 6 }),
      fc.scheduler(),
      async (rows, concurrency, scheduler) => {
        const items = rows.map((_, index) => index);
        const needs = rows.map((row, index) => row.filter((other) => other < index));
        const done = new Set<number>();
        let running = 0;
        const run = runParallel(
          items,
          async (item) => {
            running += 1;
            expect(running).toBeLessThanOrEqual(concurrency);
            expect(done.has(item)).toBe(false);
            for (const other of needs[item] ?? []) expect(done.has(other)).toBe(true);
            await scheduler.schedule(Promise.resolve());
            done.add(item);
            running -= 1;
          },
          { concurrency, after: (item) => [...(needs[item] ?? []), item] },
        );
        await scheduler.waitFor(run);
        expect(done.size).toBe(items.length);
      },
    ),
    { numRuns: 100 },
  );
});

test("the first failure stops the rest, signals the running and is the one thrown", async () => {
  const started: number[] = [];
  const stopped: number[] = [];
  const run = runParallel(
    [0, 1, 2, 3, 4],
    async (item, signal) => {
      started.push(item);
      if (item === 1) throw new Error("first");
      const { promise, resolve } = Promise.withResolvers<void>();
      signal.addEventListener("abort", () => resolve(), { once: true });
      await promise;
      stopped.push(item);
      throw new Error("second");
    },
    { concurrency: 2 },
  );
  await expect(run).rejects.toThrow("first");
  expect(started).toEqual([0, 1]);
  expect(stopped).toEqual([0]);
});

test("a caller's signal reaches the running tasks and ends the run with CANCELLED", async () => {
  const controller = new AbortController();
  const run = runParallel(
    [1, 2, 3],
    async (_, signal) => {
      controller.abort();
      signal.throwIfAborted();
    },
    { concurrency: 1, signal: controller.signal },
  );
  await expect(run).rejects.toMatchObject({ code: "CANCELLED" });
});
