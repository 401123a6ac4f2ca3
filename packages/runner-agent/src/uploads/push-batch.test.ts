import { CacheError, type CacheErrorCode } from "@glorious/core";
import fc from "fast-check";
import { expect, test } from "vitest";

import { pushBatch } from "./push-batch.ts";

function refuse(bad: ReadonlyMap<string, CacheErrorCode>) {
  const calls: string[][] = [];
  const push = async (paths: readonly string[]): Promise<void> => {
    calls.push([...paths]);
    for (const path of paths) {
      const code = bad.get(path);
      if (code !== undefined) throw new CacheError(code, `${path} is bad`);
    }
    return Promise.resolve();
  };
  return { calls, push };
}

test("one damaged path does not keep the others from being pushed", async () => {
  const { push } = refuse(new Map([["c", "CORRUPT"]]));
  const outcome = await pushBatch(["a", "b", "c", "d", "e"], push);
  expect(outcome).toMatchObject({ pushed: ["a", "b", "d", "e"], failed: [], gone: [] });
  expect(outcome.refused.map(({ path }) => path)).toEqual(["c"]);
});

test("a path that was deleted is gone, not refused", async () => {
  const { push } = refuse(new Map([["a", "NOT_FOUND"]]));
  expect(await pushBatch(["a", "b"], push)).toMatchObject({ pushed: ["b"], gone: ["a"] });
});

test.each(["UNAVAILABLE", "TIMEOUT", "UNAUTHENTICATED", "FORBIDDEN", "STORAGE_FULL"] as const)(
  "%s is about the server: all of the batch is tried again, with one request",
  async (code) => {
    const { push, calls } = refuse(new Map([["b", code]]));
    const outcome = await pushBatch(["a", "b", "c"], push);
    expect(outcome).toMatchObject({ pushed: [], failed: ["a", "b", "c"] });
    expect(outcome.error?.code).toBe(code);
    expect(calls.length).toBe(1);
  },
);

test("every path ends in exactly one place", async () => {
  const codes = fc.constantFrom<CacheErrorCode>("CORRUPT", "NOT_FOUND", "UNAVAILABLE", "INVALID");
  await fc.assert(
    fc.asyncProperty(
      fc.uniqueArray(fc.nat(50).map(String)),
      fc.dictionary(fc.nat(50).map(String), codes),
      async (paths, bad) => {
        const { push } = refuse(new Map(Object.entries(bad)));
        const { pushed, gone, refused, failed } = await pushBatch(paths, push);
        const ends = [...pushed, ...gone, ...refused.map(({ path }) => path), ...failed];
        expect(ends.toSorted()).toEqual(paths.toSorted());
      },
    ),
  );
});
