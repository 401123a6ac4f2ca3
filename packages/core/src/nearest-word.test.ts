import fc from "fast-check";
import { expect, test } from "vitest";

import { editDistance, nearestWord } from "./nearest-word.ts";

test.each([
  ["pusj", "push"],
  ["psuh", "push"],
  ["lgin", "login"],
  ["comp", "completion"],
  ["zzz", undefined],
  ["x", undefined],
])("%s was meant to be %s", (typed, meant) => {
  expect(nearestWord(typed, ["up", "login", "push", "use", "completion"])).toBe(meant);
});

test("the distance is that of an edit script in both directions", () => {
  const word = fc.string({ unit: fc.constantFrom("a", "b", "c"), maxLength: 6 });
  fc.assert(
    fc.property(word, word, (left, right) => {
      const distance = editDistance(left, right);
      expect(distance).toBe(editDistance(right, left));
      expect(distance === 0).toBe(left === right);
      expect(distance).toBeLessThanOrEqual(Math.max(left.length, right.length));
      expect(distance).toBeGreaterThanOrEqual(Math.abs(left.length - right.length));
    }),
  );
});
