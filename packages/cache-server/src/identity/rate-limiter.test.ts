import fc from "fast-check";
import { expect, test } from "vitest";

import { createRateLimiter } from "./rate-limiter.ts";

function createLimiter(options: { readonly maxKeys?: number } = {}) {
  let nowMs = 1_000_000;
  const limiter = createRateLimiter({
    burst: 3,
    perSecond: 2,
    maxKeys: options.maxKeys ?? 100,
    now: () => nowMs,
  });
  return {
    advance: (ms: number) => {
      nowMs += ms;
    },
    take: (key: string): boolean => {
      if (!limiter.mayPass(key)) return false;
      limiter.charge(key);
      return true;
    },
  };
}

test("a key has its burst, then its rate, and another key has its own", () => {
  const { take, advance } = createLimiter();
  expect([take("a"), take("a"), take("a"), take("a")]).toEqual([true, true, true, false]);
  expect(take("b")).toBe(true);
  advance(500);
  expect([take("a"), take("a")]).toEqual([true, false]);
});

test("a clock that goes back gives nothing and takes nothing", () => {
  const { take, advance } = createLimiter();
  for (const _ of [1, 2, 3]) take("a");
  advance(-60_000);
  expect(take("a")).toBe(false);
  advance(60_500);
  expect(take("a")).toBe(true);
});

test("no more keys are remembered than allowed", () => {
  const { take } = createLimiter({ maxKeys: 2 });
  for (const _ of [1, 2, 3]) take("a");
  take("b");
  take("c");
  expect(take("a")).toBe(true);
});

test("in any time nobody gets more than the burst and what the time gives", () => {
  fc.assert(
    fc.property(fc.array(fc.nat({ max: 2000 }), { maxLength: 200 }), (waits) => {
      const { take, advance } = createLimiter();
      let passed = 0;
      for (const wait of waits) {
        advance(wait);
        if (take("a")) passed += 1;
      }
      const seconds = waits.reduce((sum, wait) => sum + wait, 0) / 1000;
      expect(passed).toBeLessThanOrEqual(3 + seconds * 2);
    }),
  );
});
