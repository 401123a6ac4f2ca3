import { expect, test } from "vitest";

import { isWorthPushing, lockedName } from "./store-names.ts";

const HASH = "0c5b8vw40dr178xlpddw65q9gf1h2186";

test.each([
  [`${HASH}-hello.lock`, `${HASH}-hello`],
  [`${HASH}-hello.drv.lock`, `${HASH}-hello.drv`],
  [`${HASH}-hello`, undefined],
  [".links", undefined],
  ["x.lock", undefined],
])("%s is the lock of %s", (name, expected) => {
  expect(lockedName(name)).toBe(expected);
});

test.each([
  [`${HASH}-hello`, true],
  [`${HASH}-hello-2.12.drv.txt`, true],
  [`${HASH}-source`, true],
  [`${HASH}-hello.drv`, false],
  [`${HASH}-hello.lock`, false],
  [`${HASH}-hello.drv.chroot`, false],
  [`${HASH}-hello.check`, false],
  [`${HASH}-`, false],
  [HASH, false],
  [".links", false],
  ["tmp-1234-0", false],
  [`.tmp-link-1-2`, false],
])("%s is pushed: %s", (name, expected) => {
  expect(isWorthPushing(name, { skipSources: false })).toBe(expected);
});

test("sources are left out when that is asked for", () => {
  expect(isWorthPushing(`${HASH}-source`, { skipSources: true })).toBe(false);
  expect(isWorthPushing(`${HASH}-resources`, { skipSources: true })).toBe(true);
});
