import { execFileSync, spawnSync } from "node:child_process";

import { expect, test } from "vitest";

import { loadCommands } from "./command-table.ts";
import { COMPLETION_SHELLS, formatCompletion } from "./format-completion.ts";

const COMMANDS = await loadCommands();

/** What bash offers for the last of these words. */
function complete(...words: string[]): string[] {
  const script = `${formatCompletion("bash", COMMANDS)}
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
COMPREPLY=()
_flywheel
printf '%s\\n' "\${COMPREPLY[@]}"`;
  const output = execFileSync("bash", ["-c", script, "bash", ...words], { encoding: "utf8" });
  return output.split("\n").filter((word) => word !== "");
}

const HAS = (shell: string): boolean => spawnSync(shell, ["-c", "true"]).status === 0;

test.each(COMPLETION_SHELLS)("%s accepts its script", (shell) => {
  const script = formatCompletion(shell, COMMANDS);
  for (const { name } of COMMANDS) expect(script).toContain(name.split(" ").at(-1));
  if (!HAS(shell)) return;
  const flag = shell === "fish" ? "--no-execute" : "-n";
  expect(spawnSync(shell, [flag], { input: script, encoding: "utf8" })).toMatchObject({
    status: 0,
    stderr: "",
  });
});

test.runIf(HAS("bash")).each([
  [["flywheel", "pu"], ["push"]],
  [["flywheel", "view", "de"], ["destroy"]],
  [
    ["flywheel", "token", ""],
    ["create", "inspect", "revoke"],
  ],
  [["flywheel", "push", "--no"], ["--no-closure"]],
  [["flywheel", "view", "destroy", "--y"], ["--yes"]],
  [
    ["flywheel", "completion", ""],
    ["bash", "zsh", "fish"],
  ],
  [["flywheel", "push", "--token-file", "package.js"], ["package.json"]],
  [["flywheel", "use", ""], ["bazel"]],
])("bash completes %j to %j", (words, offered) => {
  expect(complete(...words)).toEqual(offered);
});
