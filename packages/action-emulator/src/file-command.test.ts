import { isCacheError } from "@glorious/core";
import fc from "fast-check";
import { expect, test } from "vitest";

import { parseFileCommand, parsePathFile } from "./file-command.ts";

test("lines are names and values, and the first equals sign parts them", () => {
  expect(parseFileCommand("A=1\n\nB=x=y<<z\r\nC=\n")).toEqual([
    ["A", "1"],
    ["B", "x=y<<z"],
    ["C", ""],
  ]);
});

test("a block ends at its delimiter alone, and may hold anything else", () => {
  expect(parseFileCommand("A<<END\none\n END\nB=2\nEND\nC=3\n")).toEqual([
    ["A", "one\n END\nB=2"],
    ["C", "3"],
  ]);
  expect(parseFileCommand("A<<E=F\nx\nE=F\n")).toEqual([["A", "x"]]);
  expect(parseFileCommand("A<<E\nE\n")).toEqual([["A", ""]]);
});

test.each(["nonsense", "=x", "A<<END\nx\n", "<<END\nEND\n", "A<<\n"])(
  "%j fails, as it does on the real runner",
  (text) => {
    expect(() => parseFileCommand(text)).toThrow(
      expect.toSatisfy((error) => isCacheError(error, "INVALID")),
    );
  },
);

test("whatever is written as a block is read back", () => {
  const entry = fc.tuple(fc.stringMatching(/^[A-Za-z_][\w-]*$/), fc.string());
  fc.assert(
    fc.property(fc.array(entry), (entries) => {
      const clean = entries.map(([name, value]) => [name, value.replaceAll("\r", "")] as const);
      const text = clean.map(
        ([name, value]) => `${name}<<ghadelimiter_1\n${value}\nghadelimiter_1\n`,
      );
      expect(parseFileCommand(text.join(""))).toEqual(clean);
    }),
  );
});

test("PATH files hold one folder a line", () => {
  expect(parsePathFile("/a\n/b c\r\n\n")).toEqual(["/a", "/b c"]);
});
