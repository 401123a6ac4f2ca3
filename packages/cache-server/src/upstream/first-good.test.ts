import { expect, test } from "vitest";

import { firstGood } from "./first-good.ts";

const never = new Promise<undefined>(() => {});
const no = Promise.resolve(undefined);

test("without anybody to ask there is nothing", async () => {
  expect(await firstGood([], 10_000)).toBeUndefined();
});

test("the first in order wins, though others were sooner", async () => {
  const { promise, resolve } = Promise.withResolvers<string>();
  const found = firstGood([promise, Promise.resolve("second")], 10_000);
  resolve("first");
  expect(await found).toBe("first");
});

test("who says no leaves it to the next at once, and all who say no end it", async () => {
  expect(await firstGood([no, Promise.resolve("second"), never], 10_000)).toBe("second");
  expect(await firstGood([no, no], 10_000)).toBeUndefined();
});

test("a better one that does not come is waited for a moment, and not until the deadline", async () => {
  expect(await firstGood([never, Promise.resolve("second")], 3_600_000)).toBe("second");
});

test("at the deadline there is nothing", async () => {
  expect(await firstGood([no, never], 20)).toBeUndefined();
});
