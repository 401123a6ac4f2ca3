import { expect, test } from "vitest";

import { createStatistics } from "./statistics.ts";

test("a summary has the figures of what ran, and no others", () => {
  let nowMs = 1000;
  const statistics = createStatistics({ nowMs: () => nowMs, startedAt: new Date(0) });
  expect(statistics.snapshot()).toEqual({
    status: "ready",
    breakers: [],
    startedAt: "1970-01-01T00:00:00.000Z",
    durationMs: 0,
    warnings: [],
  });
  statistics.status = "read-only";
  statistics.nix.hit(10, "main");
  statistics.nix.hit(5, "shared");
  statistics.nix.miss("absent");
  nowMs += 50;
  expect(statistics.snapshot()).toMatchObject({
    status: "read-only",
    durationMs: 50,
    nix: {
      ...{ hits: 2, bytes: 15, misses: { absent: 1, "breaker-open": 0 } },
      views: { main: { hits: 1, bytes: 10 }, shared: { hits: 1, bytes: 5 } },
    },
  });
  expect(statistics.snapshot()).not.toHaveProperty("bazel");
});

test("a breaker's time counts while it is open", () => {
  let nowMs = 0;
  const statistics = createStatistics({ nowMs: () => nowMs });
  statistics.breaker("nix", "open");
  nowMs = 100;
  expect(statistics.snapshot().breakers).toEqual([{ face: "nix", opened: 1, openMs: 100 }]);
  statistics.breaker("nix", "closed");
  nowMs = 500;
  statistics.breaker("nix", "open");
  statistics.breaker("nix", "open");
  nowMs = 520;
  expect(statistics.snapshot().breakers).toEqual([{ face: "nix", opened: 2, openMs: 120 }]);
});

test("a warning is said once", () => {
  const statistics = createStatistics();
  statistics.warn("The server is slow.");
  statistics.warn("The server is slow.");
  expect(statistics.snapshot().warnings).toEqual(["The server is slow."]);
});
