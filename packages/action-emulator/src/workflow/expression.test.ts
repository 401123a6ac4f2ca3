import { isCacheError } from "@glorious/core";
import { describe, expect, test } from "vitest";

import {
  type Conclusion,
  evaluateCondition,
  evaluateExpression,
  interpolate,
} from "./expression.ts";

const VALUES = {
  github: { ref: "refs/heads/main", event_name: "push", event: { number: 7 } },
  env: { NAME: "x", EMPTY: "" },
  steps: { cache: { outputs: { status: "ready", "can-push": "true" } } },
};
const context = (status: Conclusion = "success"): Parameters<typeof evaluateExpression>[1] => ({
  values: VALUES,
  status,
});

test.each([
  ["github.ref == 'refs/heads/MAIN'", true],
  ["github.event.number == 7", true],
  ["github.event.number == '7'", true],
  ["steps.cache.outputs['can-push'] == 'true' && env.EMPTY || 'none'", "none"],
  ["steps.cache.outputs.can-push", "true"],
  ["!(env.NAME != 'x')", true],
  ["steps.nobody.outputs.x == ''", true],
  [
    "contains(github.ref, 'HEADS') && startsWith(github.ref, 'refs/') && endsWith('it''s', '''s')",
    true,
  ],
  ["format('{1}-{0}', 'a', env.NAME)", "x-a"],
])("%s is %j", (text, value) => {
  expect(evaluateExpression(text, context())).toEqual(value);
});

test("texts have their expressions replaced", () => {
  expect(
    interpolate("on ${{ github.event_name }}: ${{ env.NAME }}${{ env.NONE }}!", context()),
  ).toBe("on push: x!");
});

describe("conditions", () => {
  test.each<[string, Conclusion, boolean]>([
    ["", "success", true],
    ["", "failure", false],
    ["github.event_name == 'push'", "failure", false],
    ["always()", "cancelled", true],
    ["${{ failure() && env.NAME == 'x' }}", "failure", true],
    ["!cancelled()", "failure", true],
    ["!cancelled()", "cancelled", false],
  ])("%j after %s is %s", (text, status, value) => {
    expect(evaluateCondition(text, context(status))).toBe(value);
  });
});

test.each(["hashFiles('x')", "github.*", "vars.X", "a b", "1 +", "'open", "matrix.os"])(
  "%s is refused instead of guessed",
  (text) => {
    expect(() => evaluateExpression(text, context())).toThrow(
      expect.toSatisfy((error) => isCacheError(error, "UNSUPPORTED")),
    );
  },
);
