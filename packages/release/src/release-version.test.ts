import fc from "fast-check";
import { expect, test } from "vitest";

import { movesFloatingTag, parseReleaseVersion } from "./release-version.ts";

test.each(["v1.2.3", "1.2", "1", "01.2.3", "1.2.3+build", "1.2.3-", "1.2.3-a..b", "", "1.2.3\n"])(
  "%j is no version",
  (text) => {
    expect(() => parseReleaseVersion(text)).toThrow(/is no version/);
  },
);

test("a version is read as it was written", () => {
  const part = fc.nat(999_999_999);
  fc.assert(
    fc.property(part, part, part, fc.option(fc.constantFrom("rc.1", "alpha")), (a, b, c, pre) => {
      const text = `${a}.${b}.${c}${pre === null ? "" : `-${pre}`}`;
      expect(parseReleaseVersion(text)).toEqual({
        text,
        major: a,
        minor: b,
        patch: c,
        prerelease: pre ?? undefined,
      });
    }),
  );
});

test.each([
  ["1.2.3", [], true],
  ["1.2.3", ["v1.2.2", "v1", "v2.0.0", "latest"], true],
  ["1.10.0", ["v1.9.9"], true],
  ["1.2.4", ["v1.3.0"], false],
  ["1.2.3", ["v1.2.4"], false],
  ["1.2.3", ["v1.3.0-rc.1"], true],
  ["1.3.0-rc.1", [], false],
] as const)(
  "the floating tag follows the newest of its major: %s after %j: %s",
  (text, tags, moves) => {
    expect(movesFloatingTag(parseReleaseVersion(text), tags)).toBe(moves);
  },
);
