import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { type CircuitBreaker, createCircuitBreaker } from "./circuit-breaker.ts";

const OPEN_MS = 2000;
const MAX_OPEN_MS = 30_000;

interface World {
  readonly breaker: CircuitBreaker;
  readonly changes: ("open" | "closed")[];
  nowMs: number;
}

function createWorld(): World {
  const changes: ("open" | "closed")[] = [];
  const world = { changes, nowMs: 0 };
  const breaker = createCircuitBreaker({
    nowMs: () => world.nowMs,
    onChange: (state) => changes.push(state),
  });
  return Object.assign(world, { breaker });
}

function openOne(): World {
  const world = createWorld();
  for (let failure = 0; failure < 3; failure += 1) world.breaker.failed();
  return world;
}

type Step = { readonly kind: "admit" | "succeeded" | "failed" } | { readonly passMs: number };
const steps: fc.Arbitrary<readonly Step[]> = fc.array(
  fc.oneof(
    fc.constantFrom<Step>({ kind: "admit" }, { kind: "succeeded" }, { kind: "failed" }),
    fc.record({ passMs: fc.integer({ min: 0, max: 40_000 }) }),
  ),
  { maxLength: 80 },
);

describe("circuit breaker", () => {
  test("three failures one after the other open it, a success in between starts the count anew", () => {
    const { breaker, changes } = createWorld();
    for (const outcome of ["failed", "failed", "succeeded", "failed", "failed"] as const) {
      breaker[outcome]();
    }
    expect(breaker.admit()).toBe("pass");
    breaker.failed();
    expect(breaker.admit()).toBe("reject");
    expect(changes).toEqual(["open"]);
  });

  test("once its time is up one request tries, and its success lets all pass", () => {
    const world = openOne();
    world.nowMs = OPEN_MS;
    expect([world.breaker.admit(), world.breaker.admit()]).toEqual(["probe", "reject"]);
    world.breaker.succeeded();
    expect(world.breaker.admit()).toBe("pass");
    expect(world.changes).toEqual(["open", "closed"]);
  });

  test("each failed probe doubles the time, up to the most", () => {
    const world = openOne();
    for (const pauseMs of [2000, 4000, 8000, 16_000, 30_000, 30_000]) {
      world.nowMs += pauseMs - 1;
      expect(world.breaker.admit()).toBe("reject");
      world.nowMs += 1;
      expect(world.breaker.admit()).toBe("probe");
      world.breaker.failed();
    }
    expect(world.changes).toEqual(["open"]);
  });

  test("a probe that nobody reports is followed by another", () => {
    const world = openOne();
    world.nowMs = OPEN_MS;
    expect(world.breaker.admit()).toBe("probe");
    world.nowMs += OPEN_MS;
    expect(world.breaker.admit()).toBe("probe");
  });

  test("an answer to a request of before does not close it", () => {
    const { breaker } = openOne();
    breaker.succeeded();
    expect(breaker.admit()).toBe("reject");
  });

  test("an upstream that asks for a pause gets it at once, and no shorter one after it", () => {
    const world = createWorld();
    world.breaker.rest(10_000);
    world.breaker.rest(1000);
    world.nowMs = 9999;
    expect(world.breaker.admit()).toBe("reject");
    world.nowMs = 10_000;
    expect(world.breaker.admit()).toBe("probe");
    expect(world.changes).toEqual(["open"]);
  });

  test("it never keeps requests back for longer than the most, nor lets two probes out at once", () => {
    fc.assert(
      fc.property(steps, (history) => {
        const world = createWorld();
        let lastProbeMs: number | undefined;
        for (const step of history) {
          if ("passMs" in step) world.nowMs += step.passMs;
          else if (step.kind !== "admit") {
            world.breaker[step.kind]();
            lastProbeMs = undefined;
          } else if (world.breaker.admit() === "probe") {
            if (lastProbeMs !== undefined) {
              expect(world.nowMs - lastProbeMs).toBeGreaterThanOrEqual(OPEN_MS);
            }
            lastProbeMs = world.nowMs;
          }
        }
        world.nowMs += MAX_OPEN_MS;
        expect(world.breaker.admit()).not.toBe("reject");
        world.breaker.succeeded();
        expect(world.breaker.admit()).toBe("pass");
      }),
    );
  });

  test("changes are told alternately, opening first, and agree with what it does", () => {
    fc.assert(
      fc.property(steps, (history) => {
        const world = createWorld();
        for (const step of history) {
          if ("passMs" in step) world.nowMs += step.passMs;
          else world.breaker[step.kind]();
          expect(world.breaker.state === "closed").toBe(world.changes.at(-1) !== "open");
        }
        const expected = world.changes.map((_, at) => (at % 2 === 0 ? "open" : "closed"));
        expect(world.changes).toEqual(expected);
      }),
    );
  });
});
