import { CacheError } from "@glorious/core";
import fc from "fast-check";
import { expect, test } from "vitest";

import type { Clock } from "./clock.ts";
import { toResponseError } from "./response-error.ts";
import {
  isTransient,
  parseRetryAfterMs,
  planRetryMs,
  type RetryPolicy,
  withRetry,
} from "./retry.ts";

const POLICY: RetryPolicy = {
  maxAttempts: 5,
  baseDelayMs: 100,
  maxDelayMs: 1000,
  maxTotalMs: 10_000,
};

/** A clock that jumps instead of sleeping. */
function createFakeClock(): Clock & { readonly sleepsMs: number[] } {
  let nowMs = 0;
  const sleepsMs: number[] = [];
  return {
    sleepsMs,
    nowMs: () => nowMs,
    sleep: async (durationMs, signal) => {
      signal?.throwIfAborted();
      sleepsMs.push(durationMs);
      nowMs += durationMs;
    },
  };
}

function failWith(status: number, retryAfterMs?: number): CacheError {
  return toResponseError({ request: "GET http://cache", status, body: "", retryAfterMs });
}

const policies = fc.record({
  maxAttempts: fc.integer({ min: 1, max: 20 }),
  baseDelayMs: fc.integer({ min: 1, max: 5000 }),
  maxDelayMs: fc.integer({ min: 1, max: 60_000 }),
  maxTotalMs: fc.integer({ min: 0, max: 600_000 }),
});
const chance = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });

test("a wait is never longer than the doubled bound, never shorter than Retry-After, and never passes the total", () => {
  fc.assert(
    fc.property(
      policies,
      fc.integer({ min: 1, max: 30 }),
      fc.nat(700_000),
      fc.option(fc.nat(100_000), { nil: undefined }),
      chance,
      (policy, failedAttempts, elapsedMs, retryAfterMs, random) => {
        const delayMs = planRetryMs(policy, { failedAttempts, elapsedMs, retryAfterMs }, random);
        if (delayMs === undefined) {
          const shortestMs = retryAfterMs ?? 0;
          const bound = Math.min(policy.maxDelayMs, policy.baseDelayMs * 2 ** (failedAttempts - 1));
          expect(
            failedAttempts >= policy.maxAttempts ||
              elapsedMs + shortestMs + bound > policy.maxTotalMs,
          ).toBe(true);
          return;
        }
        const floorMs = retryAfterMs ?? 0;
        expect(failedAttempts).toBeLessThan(policy.maxAttempts);
        expect(elapsedMs + delayMs).toBeLessThanOrEqual(policy.maxTotalMs);
        expect(delayMs).toBeGreaterThanOrEqual(floorMs);
        expect(delayMs - floorMs).toBeLessThanOrEqual(
          Math.min(policy.maxDelayMs, policy.baseDelayMs * 2 ** (failedAttempts - 1)),
        );
      },
    ),
  );
});

test("attempts and waiting are bounded whatever a server answers", async () => {
  await fc.assert(
    fc.asyncProperty(
      policies,
      fc.infiniteStream(
        fc.record({
          status: fc.constantFrom(408, 429, 500, 502, 503, 504),
          retryAfterMs: fc.option(fc.nat(50_000), { nil: undefined }),
        }),
      ),
      chance,
      async (policy, answers, random) => {
        const clock = createFakeClock();
        let attempts = 0;
        const run = withRetry(
          async () => {
            attempts += 1;
            const { status, retryAfterMs } = answers.next().value;
            throw failWith(status, retryAfterMs);
          },
          { what: "test", policy, clock, random: () => random },
        );
        await expect(run).rejects.toBeInstanceOf(CacheError);
        expect(attempts).toBeLessThanOrEqual(policy.maxAttempts);
        expect(clock.nowMs()).toBeLessThanOrEqual(policy.maxTotalMs);
      },
    ),
    { numRuns: 50 },
  );
});

test.each([400, 401, 403, 404, 405, 409, 413, 422, 501, 505, 507])(
  "an answer of %d is final: the request is not repeated",
  async (status) => {
    let attempts = 0;
    const run = withRetry(
      async () => {
        attempts += 1;
        throw failWith(status);
      },
      { what: "test", policy: POLICY, clock: createFakeClock(), random: () => 0 },
    );
    await expect(run).rejects.toMatchObject({ status });
    expect(attempts).toBe(1);
  },
);

test("a body that our server received cut short is sent again", () => {
  const body = JSON.stringify({ code: 400, error: "TRUNCATED", message: "received 5 of 10 bytes" });
  expect(isTransient(toResponseError({ request: "PUT http://cache", status: 400, body }))).toBe(
    true,
  );
});

test("a local failure is not repeated, even one about truncated files", () => {
  expect(isTransient(new CacheError("TRUNCATED", "file got shorter"))).toBe(false);
  expect(isTransient(new CacheError("CORRUPT", "damaged"))).toBe(false);
  expect(isTransient(new CacheError("CANCELLED", "stopped"))).toBe(false);
  expect(isTransient(new Error("bug"))).toBe(false);
});

test("the total is counted from the first failure, so a long first attempt keeps its second chance", async () => {
  const clock = createFakeClock();
  let attempts = 0;
  const answer = await withRetry(
    async () => {
      attempts += 1;
      if (attempts > 1) return "done";
      await clock.sleep(60 * POLICY.maxTotalMs);
      throw failWith(503);
    },
    { what: "test", policy: POLICY, clock, random: () => 0.5 },
  );
  expect(answer).toBe("done");
});

test("a Retry-After beyond the total ends the attempts at once", async () => {
  const clock = createFakeClock();
  const run = withRetry(() => Promise.reject(failWith(503, 3_600_000)), {
    what: "test",
    policy: POLICY,
    clock,
    random: () => 0,
  });
  await expect(run).rejects.toMatchObject({ status: 503 });
  expect(clock.sleepsMs).toEqual([]);
});

test("a signal that fires while waiting ends it with CANCELLED", async () => {
  const controller = new AbortController();
  const run = withRetry(
    () => {
      controller.abort();
      return Promise.reject(failWith(503));
    },
    {
      what: "upload",
      policy: POLICY,
      clock: createFakeClock(),
      random: () => 0,
      signal: controller.signal,
    },
  );
  await expect(run).rejects.toMatchObject({ code: "CANCELLED", message: "upload was cancelled" });
});

test.each([
  ["120", 120_000],
  [" 0 ", 0],
  ["Wed, 21 Oct 2015 07:28:10 GMT", 10_000],
  ["Wed, 21 Oct 2015 07:27:00 GMT", 0],
  ["soon", undefined],
  ["-5", undefined],
  [undefined, undefined],
])("Retry-After %j is %j ms", (value, expected) => {
  expect(parseRetryAfterMs(value, Date.parse("2015-10-21T07:28:00Z"))).toBe(expected);
});
