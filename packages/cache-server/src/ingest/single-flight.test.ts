import { expect, test } from "vitest";

import { createSingleFlight } from "./single-flight.ts";

const LONG_MS = 60_000;

test("the second caller of a key waits and finds the work done", async () => {
  const flight = createSingleFlight();
  const first = await flight.enter("k", LONG_MS);
  const second = flight.enter("k", LONG_MS);
  if (first.kind === "lead") first.finish(true);
  expect(await second).toEqual({ kind: "done" });
});

test("when the work fails, exactly one of those waiting takes over", async () => {
  const flight = createSingleFlight();
  const first = await flight.enter("k", LONG_MS);
  const waiting = [flight.enter("k", LONG_MS), flight.enter("k", LONG_MS)];
  if (first.kind === "lead") first.finish(false);
  const next = await Promise.race(waiting);
  expect(next.kind).toBe("lead");
  if (next.kind === "lead") next.finish(true);
  expect((await Promise.all(waiting)).map((turn) => turn.kind).toSorted()).toEqual([
    "done",
    "lead",
  ]);
});

test("a slow leader does not hold anybody up for longer than the bound", async () => {
  const flight = createSingleFlight();
  await flight.enter("k", LONG_MS);
  expect((await flight.enter("k", 1)).kind).toBe("lead");
});

test("other keys and finished keys do not wait", async () => {
  const flight = createSingleFlight();
  const first = await flight.enter("a", LONG_MS);
  expect((await flight.enter("b", LONG_MS)).kind).toBe("lead");
  if (first.kind === "lead") first.finish(true);
  expect((await flight.enter("a", LONG_MS)).kind).toBe("lead");
});

test("a caller that is given up stops waiting, and the leader is not disturbed", async () => {
  const flight = createSingleFlight();
  const first = await flight.enter("k", LONG_MS);
  const gone = new AbortController();
  const waiting = flight.enter("k", LONG_MS, gone.signal);
  const patient = flight.enter("k", LONG_MS);
  const reason = new Error("the client went away");
  gone.abort(reason);
  await expect(waiting).rejects.toBe(reason);
  if (first.kind === "lead") first.finish(true);
  expect(await patient).toEqual({ kind: "done" });
});
