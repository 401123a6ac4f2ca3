import { readFile } from "node:fs/promises";

import { expect, test } from "vitest";

import { COMMAND_GROUPS, COMMAND_TABLE, loadCommands } from "./command-table.ts";
import { formatCommandHelp, formatGroupHelp, formatOverview } from "./format-help.ts";
import { formatReference } from "./format-reference.ts";
import { toFlagName } from "./option-name.ts";
import { parseCommandLine } from "./parse-command-line.ts";

const COMMANDS = await loadCommands();

test("the table says what the commands say of themselves", () => {
  expect(COMMANDS.map(({ name, summary }) => ({ name, summary }))).toEqual(
    COMMAND_TABLE.map(({ name, summary }) => ({ name, summary })),
  );
});

test("the overview fits a terminal and names every command", () => {
  const overview = formatOverview("1.2.3");
  for (const { name } of COMMAND_TABLE) expect(overview).toContain(`\n  ${name} `);
  for (const line of overview.split("\n")) expect(line.length).toBeLessThanOrEqual(100);
});

test("every first word of several commands is a command or a group", () => {
  const names = COMMAND_TABLE.map(({ name }) => name);
  const firsts = names.filter((name) => name.includes(" ")).map((name) => name.split(" ")[0]);
  for (const first of firsts) expect([...names, ...Object.keys(COMMAND_GROUPS)]).toContain(first);
});

test.each(Object.keys(COMMAND_GROUPS))("%s has help with its commands", (group) => {
  expect(formatGroupHelp(group)).toMatch(new RegExp(`Usage: flywheel ${group}[^]*Examples:`));
});

test.each(COMMANDS.map((command) => [command.name, command] as const))(
  "%s has help with usage, every option, and examples",
  (name, command) => {
    const help = formatCommandHelp(command);
    expect(help).toContain(`Usage: flywheel ${name}`);
    expect(command.examples.length).toBeGreaterThan(0);
    for (const option of Object.keys(command.options)) {
      expect(help).toContain(`--${toFlagName(option)}`);
    }
    for (const { command: example } of command.examples) {
      expect(help).toContain(`$ ${example}`);
      expect(example).toContain(`flywheel ${name}`);
    }
    for (const line of help.split("\n")) expect(line.length).toBeLessThanOrEqual(120);
  },
);

test.each(
  COMMANDS.flatMap((command) =>
    command.examples.map(({ command: example }) => [example, command] as const),
  ),
)("the example %s is understood", (example, command) => {
  const [, after = ""] = example.split(`flywheel ${command.name}`);
  const words = after
    .split(/ [|>] |\)"/)[0]
    ?.split(" ")
    .filter((word) => word !== "")
    .map((word) => word.replaceAll("'", ""));
  expect(parseCommandLine(command, words ?? [], {})).toMatchObject({ kind: "run" });
});

test("a name that only one kind of option has everywhere means the same everywhere", () => {
  const kinds = new Map<string, Set<string>>();
  for (const { options } of COMMANDS) {
    for (const [name, { kind }] of Object.entries(options)) {
      kinds.set(name, (kinds.get(name) ?? new Set()).add(kind));
    }
  }
  // `token create --configure`, `--create` and so on take patterns and exist nowhere else.
  expect([...kinds].filter(([, set]) => set.size > 1)).toEqual([]);
});

test("no option takes a secret from the command line", () => {
  for (const { options } of COMMANDS) {
    expect(Object.keys(options)).not.toContain("token");
    expect(Object.keys(options).filter((name) => /secret|password/i.test(name))).toEqual([]);
  }
});

test("docs/reference/cli.md is current: else run `pnpm --filter @glorious/cli run docs`", async () => {
  const page = await readFile(new URL("../../../docs/reference/cli.md", import.meta.url), "utf8");
  expect(page).toBe(formatReference(COMMANDS));
});
