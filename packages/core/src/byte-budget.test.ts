import fc from "fast-check";
import { expect, test } from "vitest";

import { createByteBudget } from "./byte-budget.ts";

test("the budget is never overdrawn, everyone is served in turn, and all of it comes back", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 1, max: 100 }),
      fc.array(fc.integer({ min: 0, max: 150 }), { maxLength: 30 }),
      fc.scheduler(),
      async (totalBytes, sizes, scheduler) => {
        const budget = createByteBudget(totalBytes);
        const served: number[] = [];
        const work = Promise.all(
          sizes.map(async (sizeBytes, index) => {
            using _ = await budget.acquire(sizeBytes);
            served.push(index);
            expect(budget.freeBytes).toBeGreaterThanOrEqual(0);
            await scheduler.schedule(Promise.resolve());
          }),
        );
        await scheduler.waitFor(work);
        expect(served).toEqual(sizes.map((_, index) => index));
        expect(budget.freeBytes).toBe(totalBytes);
      },
    ),
    { numRuns: 100 },
  );
});

test("someone who gives up waiting lets those behind pass", async () => {
  const budget = createByteBudget(10);
  const held = await budget.acquire(6);
  const controller = new AbortController();
  const large = budget.acquire(10, controller.signal);
  const small = budget.acquire(4);
  controller.abort();
  await expect(large).rejects.toMatchObject({ code: "CANCELLED" });
  (await small)[Symbol.dispose]();
  held[Symbol.dispose]();
  expect(budget.freeBytes).toBe(10);
});
