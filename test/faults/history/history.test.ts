import type { PathInfo } from "@glorious/cache-client";
import { parseStorePath } from "@glorious/nix-store";
import { expect, test } from "vitest";

import { type Attempt, History } from "./history.ts";

function createPath(digit: string): PathInfo {
  return {
    storePath: parseStorePath(`/nix/store/${digit.repeat(32)}-x`),
    narHash: "0".repeat(64),
    narSize: 1,
    references: [],
    signatures: [],
    realPath: "/nowhere",
  };
}

const [A, B] = [createPath("1"), createPath("2")];

async function succeed(history: History, attempt: Attempt): Promise<void> {
  await history.record(attempt, async () => {});
}

async function fail(history: History, attempt: Attempt): Promise<void> {
  const failing = history.record(attempt, () => Promise.reject(new Error("cut")));
  await expect(failing).rejects.toThrow("cut");
}

function push(...paths: readonly PathInfo[]): Attempt {
  return { kind: "push", paths, isAtomic: true };
}

/** `here`, `gone` or `either` for each path. */
function describe(history: History, eventCount?: number): string[] {
  return history.expect(eventCount).paths.map(({ mayBePresent, mayBeAbsent }) => {
    if (mayBePresent && mayBeAbsent) return "either";
    return mayBePresent ? "here" : "gone";
  });
}

test("an acknowledged push is there, a failed one may be", async () => {
  const history = new History();
  await succeed(history, push(A));
  await fail(history, push(B));
  expect(describe(history)).toEqual(["here", "either"]);
});

test("an acknowledged deletion is done, a failed one may be, and a later push counts", async () => {
  const history = new History();
  await succeed(history, push(A));
  await fail(history, { kind: "delete", path: A });
  expect(describe(history)).toEqual(["either"]);
  await succeed(history, { kind: "delete", path: A });
  expect(describe(history)).toEqual(["gone"]);
  await succeed(history, push(A));
  expect(describe(history)).toEqual(["here"]);
});

test("before its answer an attempt is open, before its beginning it is not", async () => {
  const history = new History();
  await succeed(history, push(A));
  expect(describe(history, 0)).toEqual([]);
  expect(describe(history, 1)).toEqual(["either"]);
  expect(describe(history, 2)).toEqual(["here"]);
});

test("a closure is a group, without paths that another attempt touched", async () => {
  const history = new History();
  await fail(history, push(A, B));
  expect(history.expect().groups).toEqual([[A, B]]);
  await fail(history, { kind: "delete", path: B });
  await fail(history, push(B));
  expect(history.expect().groups).toEqual([]);
});

test("what was found is what is true from there on", async () => {
  const history = new History();
  await fail(history, push(A, B));
  const settled = history.settle(history.eventCount, (hash) => hash === A.storePath.hash);
  expect(describe(settled)).toEqual(["here", "gone"]);
});
