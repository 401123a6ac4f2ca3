import fc from "fast-check";
import { expect, test } from "vitest";

import { isAtticCacheName, isCachePattern, matchesCachePattern } from "./cache-pattern.ts";

test.each([
  ["main", "main", true],
  ["main", "main2", false],
  ["*", "main", true],
  ["*", "", true],
  ["team-*", "team-", true],
  ["team-*", "team", false],
  ["*-ci", "a-ci-ci", true],
  ["a*b*c", "aXbYbZc", true],
  ["a*b*c", "aXcYb", false],
  ["a**c", "ac", true],
  ["Main", "main", false],
])("pattern %s and name %s: %s", (pattern, name, matches) => {
  expect(matchesCachePattern(pattern, name)).toBe(matches);
});

test("matching agrees with the plain regular expression of the pattern", () => {
  const word = fc.string({ unit: fc.constantFrom("a", "b", "+"), maxLength: 9 });
  const pattern = fc.string({ unit: fc.constantFrom("a", "b", "+", "*"), maxLength: 9 });
  fc.assert(
    fc.property(pattern, word, (glob, name) => {
      const regex = new RegExp(`^${glob.replaceAll("+", "\\+").replaceAll("*", ".*")}$`);
      expect(matchesCachePattern(glob, name)).toBe(regex.test(name));
    }),
    { numRuns: 2000 },
  );
});

test("a pattern made to be slow is not", () => {
  const started = performance.now();
  expect(matchesCachePattern("*a".repeat(2000), `${"a".repeat(4000)}b`)).toBe(false);
  // A backtracking matcher would need longer than the universe has; quadratic needs milliseconds.
  expect(performance.now() - started).toBeLessThan(2000);
});

test.each(["main", "A", "team+main", "a_b-c", "0", "a".repeat(50)])(
  "%s is a cache name",
  (text) => {
    expect(isAtticCacheName(text)).toBe(true);
    expect(isCachePattern(text)).toBe(true);
  },
);

test.each(["", "-a", "_api", "+a", "a/b", "a.b", "a b", "ä", "a\n", "a".repeat(51)])(
  "%j is neither cache name nor pattern",
  (text) => {
    expect(isAtticCacheName(text)).toBe(false);
    expect(isCachePattern(text)).toBe(false);
  },
);

test("only a pattern may hold a star", () => {
  expect(isCachePattern("*")).toBe(true);
  expect(isAtticCacheName("a*")).toBe(false);
});
