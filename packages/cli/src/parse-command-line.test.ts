import fc from "fast-check";
import { expect, test } from "vitest";

import { defineCommand, flag, list, text, value } from "./command.ts";
import { parseCommandLine } from "./parse-command-line.ts";
import { wholeNumber } from "./parse-number.ts";
import { UsageError } from "./usage-error.ts";

const COMMAND = defineCommand({
  name: "bake",
  summary: "Bake things",
  args: [
    { name: "CAKE", help: "What to bake" },
    { name: "TOPPING", help: "What goes on it", isOptional: true, isRepeated: true },
  ],
  options: {
    dryRun: flag("Do not heat", { short: "n" }),
    heatLimit: value("N", "How hot", wholeNumber(1, 300), { short: "l", environment: "HEAT" }),
    tokenFile: text("FILE", "The recipe"),
    pull: list("NAME", "From where", (name) => name),
    push: list("NAME", "To where", (name) => name),
  },
  examples: [],
  run: async () => {},
});

function parse(words: string[], env: Record<string, string> = {}) {
  return parseCommandLine(COMMAND, words, env);
}

test("options and arguments mix freely", () => {
  expect(parse(["--pull", "a", "pie", "-n", "--heat-limit=7", "--pull=b", "sugar"])).toMatchObject({
    kind: "run",
    args: ["pie", "sugar"],
    options: { dryRun: true, heatLimit: 7, tokenFile: undefined, pull: ["a", "b"], push: [] },
  });
});

test("short options join and take values", () => {
  expect(parse(["-nl", "9", "pie"])).toMatchObject({ options: { dryRun: true, heatLimit: 9 } });
  expect(parse(["-l9", "pie"])).toMatchObject({ options: { heatLimit: 9 } });
});

test("after -- everything is an argument", () => {
  expect(parse(["--", "--dry-run", "-n"])).toMatchObject({
    args: ["--dry-run", "-n"],
    options: { dryRun: false },
  });
});

test("the order of options is kept across their names", () => {
  expect(parse(["--push", "b", "--pull=a", "--push", "c", "pie"])).toMatchObject({
    given: [
      ["push", "b"],
      ["pull", "a"],
      ["push", "c"],
    ],
  });
});

test("a variable stands in for an option, an empty one does not", () => {
  expect(parse(["pie"], { HEAT: "5" })).toMatchObject({ options: { heatLimit: 5 } });
  expect(parse(["pie", "-l", "6"], { HEAT: "nonsense" })).toMatchObject({
    options: { heatLimit: 6 },
  });
  expect(parse(["pie"], { HEAT: "" })).toMatchObject({ options: { heatLimit: undefined } });
});

test.each([["--help"], ["-h"], ["pie", "--help"], ["--help", "--nonsense"]])(
  "%s asks for help",
  (...words) => {
    expect(parse(words)).toEqual({ kind: "help" });
  },
);

test.each([
  [["--dryrun"], /There is no option "--dryrun"/, /--dry-run/],
  [["pie", "-x"], /There is no option "-x"/, /--help/],
  [["--dry-run=yes", "pie"], /takes no value/, /--help/],
  [["pie", "--token-file"], /needs a value: FILE/, /--token-file=FILE/],
  [["pie", "--token-file", "--dry-run"], /needs a value/, /--token-file=FILE/],
  [["--token-file", "a", "--token-file", "b", "pie"], /given twice/, /--help/],
  [["--heat-limit", "999", "pie"], /--heat-limit: "999"/, undefined],
  [[], /needs CAKE: What to bake/, /--help/],
])("%j is refused with what to do", (words, message, hint) => {
  const error = catchError(() => parse(words));
  expect(error).toBeInstanceOf(UsageError);
  expect(error).toMatchObject({ message: expect.stringMatching(message) });
  expect((error as UsageError).hint ?? "").toMatch(hint ?? /^$/);
});

test("a wrong variable is named", () => {
  expect(() => parse(["pie"], { HEAT: "hot" })).toThrow(/^HEAT: /);
});

test("a surplus argument is refused", () => {
  const single = { ...COMMAND, args: [{ name: "CAKE", help: "What" }] };
  expect(() => parseCommandLine(single, ["pie", "tart"], {})).toThrow(/"tart"/);
});

test("any words are understood or refused, never more", () => {
  const word = fc.oneof(
    fc.string(),
    fc.constantFrom(
      "--pull",
      "--pull=",
      "-n",
      "-l",
      "--",
      "-",
      "--no-dry-run",
      "--__proto__",
      "--=x",
    ),
  );
  fc.assert(
    fc.property(fc.array(word), (words) => {
      const result = catchError(() => parse(words));
      expect(result === undefined || result instanceof UsageError).toBe(true);
    }),
  );
});

function catchError(action: () => unknown): unknown {
  try {
    action();
    return undefined;
  } catch (error) {
    return error;
  }
}
