import { expect, test } from "vitest";

import { type BazelEntry, BazelHistory } from "./bazel-history.ts";

const [A, B] = ["a", "b"].map((path): BazelEntry => ({
  kind: "value",
  path,
  bytes: Buffer.from(path),
  needs: [],
})) as [BazelEntry, BazelEntry];

async function succeed(
  history: BazelHistory,
  deed: "put" | "delete",
  entry: BazelEntry,
): Promise<void> {
  await history.record(deed, entry, async () => {});
}

/** `here`, `gone` or `either` for each entry. */
function describe(history: BazelHistory, eventCount?: number): string[] {
  return history.expect(eventCount).map(({ mayBePresent, mayBeAbsent }) => {
    if (mayBePresent && mayBeAbsent) return "either";
    return mayBePresent ? "here" : "gone";
  });
}

test("what was acknowledged is so, and before its answer it may be", async () => {
  const history = new BazelHistory();
  await succeed(history, "put", A);
  await succeed(history, "delete", A);
  expect([0, 1, 2, 3, 4].map((count) => describe(history, count))).toEqual([
    [],
    ["either"],
    ["here"],
    ["either"],
    ["gone"],
  ]);
});

test("what was found is what is true from there on", async () => {
  const history = new BazelHistory();
  await succeed(history, "put", A);
  const failing = history.record("put", B, () => Promise.reject(new Error("cut")));
  await expect(failing).rejects.toThrow("cut");
  expect(describe(history)).toEqual(["here", "either"]);
  expect(describe(history.settle(history.eventCount, new Set([A])))).toEqual(["here", "gone"]);
});
