import { expect, test } from "vitest";

import { parseWorkflowCommand } from "./workflow-command.ts";

test("a command has a name, properties and data, unescaped", () => {
  expect(
    parseWorkflowCommand("::error file=a%2Cb.ts,line=3,title=A%3A B::one%0Atwo %25 100%"),
  ).toEqual({
    name: "error",
    properties: { file: "a,b.ts", line: "3", title: "A: B" },
    data: "one\ntwo % 100%",
  });
  expect(parseWorkflowCommand("  ::Group::a::b")).toEqual({
    name: "group",
    properties: {},
    data: "a::b",
  });
});

test.each(["echo ::warning::x", "::", "::::", "::warning", "plain"])(
  "%j is ordinary output",
  (line) => {
    expect(parseWorkflowCommand(line)).toBeUndefined();
  },
);
