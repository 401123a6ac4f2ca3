import fc from "fast-check";
import { expect, test } from "vitest";

import { evenPart } from "./quotas.ts";

const part = (holdings: readonly number[], at: number, limit: number): number =>
  evenPart({
    ownBytes: holdings[at] ?? 0,
    bytes: holdings.reduce((sum, each) => sum + each, 0),
    holders: holdings.length,
    limit,
  });

test("a holder may keep what the others leave, and never less than its even part", () => {
  expect([0, 1, 2].map((at) => part([10, 20, 30], at, 100))).toEqual([50, 60, 70]);
  expect([0, 1, 2].map((at) => part([10, 80, 60], at, 120))).toEqual([40, 50, 40]);
  expect([0, 1].map((at) => part([500, 500], at, 100))).toEqual([50, 50]);
});

test("holders that keep to their part one after the other end within the limit, and below it nobody gives anything", () => {
  const holdings = fc.array(fc.nat(1000), { minLength: 1, maxLength: 6 });
  const property = fc.property(holdings, fc.integer({ min: 10, max: 3000 }), (before, limit) => {
    const after = [...before];
    for (const at of after.keys()) after[at] = Math.min(after[at] ?? 0, part(after, at, limit));
    const sum = (list: readonly number[]): number => list.reduce((total, each) => total + each, 0);
    expect(sum(after)).toBeLessThanOrEqual(Math.max(limit, 0));
    if (sum(before) <= limit) expect(after).toEqual(before);
  });
  expect(() => fc.assert(property)).not.toThrow();
});
