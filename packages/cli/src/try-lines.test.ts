import { execFileSync } from "node:child_process";

import { expect, test } from "vitest";

import { formatTryLines } from "./try-lines.ts";

const OPTIONS = {
  flywheel: "/home/a/it's mine/bin/flywheel",
  url: "http://127.0.0.1:7480",
  view: "main",
  substituter: "http://127.0.0.1:7480/main",
  publicKey: "main-1:AAAA=",
  tokenFile: "/data/admin.token",
  netrcFile: "/data/netrc",
  needsNix: false,
  needsSudo: false,
};

test("the lines are one command of a POSIX shell", () => {
  const lines = formatTryLines(OPTIONS);
  expect(execFileSync("sh", ["-n"], { input: lines.join("\n"), encoding: "utf8" })).toBe("");
  expect(lines[0]).toBe("(");
  expect(lines.at(-1)).toBe(")");
  // zsh takes no comments on its command line.
  expect(lines.join("\n")).not.toContain("#");
});

test("where Nix is absent, they start with its installation", () => {
  expect(formatTryLines({ ...OPTIONS, needsNix: true })[0]).toMatch(/^apt-get .*nix-bin$/);
  expect(formatTryLines({ ...OPTIONS, needsNix: true, needsSudo: true })[0]).toMatch(
    /^sudo apt-get update && sudo apt-get install/,
  );
});
