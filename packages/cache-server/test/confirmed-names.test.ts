import { expect, test } from "vitest";

import { createConfirmedNames } from "../src/identity/confirmed-names.ts";
import { openSqliteIndex } from "../src/index/sqlite-index.ts";

const DAY_MS = 86_400_000;
const CONFIRMED = Date.parse("2026-11-20");
const NAME = {
  key: "acme",
  place: "tenants.acme.scopes[0].organization.confirmed",
  confirmedAtMs: CONFIRMED,
  reconfirmAfterSeconds: 30 * 24 * 3600,
};

test("a name counts for as long as no gap between its uses is too long", async () => {
  await using index = await openSqliteIndex({ file: ":memory:" });
  let nowMs = CONFIRMED;
  const names = createConfirmedNames(index, () => nowMs);
  const useAfter = async (days: number): Promise<string | undefined> => {
    nowMs += days * DAY_MS;
    return await names.check(NAME);
  };
  for (const days of [30, 30, 30, 1]) expect(await useAfter(days)).toBeUndefined();

  const problem = await useAfter(31);

  expect(problem).toMatch(
    /confirmed on 2026-11-20 and seen last on 2027-02-19, more than 30 d ago/,
  );
  expect(problem).toMatch(/set tenants\.acme\.scopes\[0\]\.organization\.confirmed to 2027-03-22/);
  // Asking in vain is no use of the name, and another name's use is none of this one.
  expect(await names.check({ ...NAME, key: "globex", confirmedAtMs: nowMs })).toBeUndefined();
  expect(await useAfter(0)).toBe(problem);
  expect(await names.check({ ...NAME, confirmedAtMs: nowMs - DAY_MS })).toBeUndefined();
  expect(await useAfter(1)).toBeUndefined();
});

test("a name that was never used counts from its confirmation on", async () => {
  await using index = await openSqliteIndex({ file: ":memory:" });
  const check = (nowMs: number) => createConfirmedNames(index, () => nowMs).check(NAME);
  expect(await check(CONFIRMED + 30 * DAY_MS + 1)).toMatch(/seen never/);
  expect(await check(CONFIRMED + 30 * DAY_MS)).toBeUndefined();
});
