import { COMMAND_GROUPS, COMMAND_TABLE } from "./command-table.ts";
import type { Argument, Command, Option } from "./command.ts";
import { toFlagName } from "./option-name.ts";

const OVERVIEW_EXAMPLES = `Examples:
  Start a cache on this machine, then paste the lines it prints:
    $ flywheel up

  Use a cache that others run:
    $ flywheel login https://cache.example.org --token-file token --view main
    $ flywheel use
    $ flywheel push ./result
`;

/** The text of `flywheel --help`. */
export function formatOverview(version: string): string {
  return [
    `flywheel ${version}: your own cache for Nix builds`,
    "",
    "Usage: flywheel COMMAND [OPTIONS] [ARGUMENTS]",
    "",
    "Commands:",
    ...formatRows(COMMAND_TABLE.map((entry) => [entry.name, entry.summary] as const)),
    "",
    "Options:",
    ...formatRows([
      ["-h, --help", "Show help, also after any command"],
      ["-V, --version", "Show the version"],
    ]),
    "",
    OVERVIEW_EXAMPLES,
    "Exit codes: 0 done, 1 failed, 2 the command line makes no sense.",
    "",
  ].join("\n");
}

/** The text of `flywheel GROUP --help`, such as `flywheel view --help`. */
export function formatGroupHelp(group: string): string {
  const entries = COMMAND_TABLE.filter((entry) => entry.name.startsWith(`${group} `));
  return [
    COMMAND_GROUPS[group] ?? group,
    "",
    `Usage: flywheel ${group} COMMAND [OPTIONS] [ARGUMENTS]`,
    "",
    "Commands:",
    ...formatRows(entries.map((entry) => [entry.name, entry.summary] as const)),
    "",
    "Examples:",
    ...entries.slice(0, 1).map((entry) => `  $ flywheel ${entry.name} --help`),
    "",
  ].join("\n");
}

/** The text of a command's `--help`. */
export function formatCommandHelp(command: Command): string {
  const lines = [command.summary, "", `Usage: ${formatUsage(command)}`];
  if (command.description !== undefined) lines.push("", command.description);
  if (command.args !== undefined && command.args.length > 0) {
    lines.push(
      "",
      "Arguments:",
      ...formatRows(command.args.map((argument) => [argument.name, argument.help])),
    );
  }
  const options = Object.entries(command.options).map(
    ([name, option]) => [formatOption(name, option), describeOption(option)] as const,
  );
  lines.push("", "Options:", ...formatRows([...options, ["-h, --help", "Show this help"]]));
  if (command.environment !== undefined) {
    lines.push("", "Environment:", ...formatRows(command.environment));
  }
  lines.push("", "Examples:");
  for (const [index, example] of command.examples.entries()) {
    if (index > 0) lines.push("");
    lines.push(`  ${example.comment}:`, `    $ ${example.command}`);
  }
  return `${lines.join("\n")}\n`;
}

/** The first line of help, such as `flywheel push [OPTIONS] [PATH...]`. */
export function formatUsage(command: Command): string {
  return ["flywheel", command.name, "[OPTIONS]", ...(command.args ?? []).map(formatArgument)].join(
    " ",
  );
}

/** An option with its short form and its value: `-j, --jobs N`. */
export function formatOption(name: string, option: Option): string {
  const short = option.short === undefined ? "" : `-${option.short}, `;
  const placeholder = option.kind === "flag" ? "" : ` ${option.placeholder}`;
  return `${short}--${toFlagName(name)}${placeholder}`;
}

/** What an option does, with its environment variable and whether it can be repeated. */
export function describeOption(option: Option): string {
  if (option.kind === "list") return `${option.help} (can be repeated)`;
  if (option.kind === "flag" || option.environment === undefined) return option.help;
  return `${option.help} (or ${option.environment})`;
}

function formatArgument(argument: Argument): string {
  const name = `${argument.name}${argument.isRepeated === true ? "..." : ""}`;
  return argument.isOptional === true ? `[${name}]` : name;
}

const MAX_LABEL = 28;
const WIDTH = 96;

function formatRows(rows: ReadonlyArray<readonly [label: string, help: string]>): string[] {
  const longest = Math.max(...rows.map(([label]) => label.length));
  const indent = Math.min(longest, MAX_LABEL) + 4;
  return rows.flatMap(([label, help]) => {
    const [first = "", ...rest] = wrap(help, WIDTH - indent);
    const head =
      label.length > MAX_LABEL
        ? [`  ${label}`, `${" ".repeat(indent)}${first}`]
        : [`  ${label.padEnd(indent - 2)}${first}`];
    return [...head, ...rest.map((line) => `${" ".repeat(indent)}${line}`)];
  });
}

function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(" ")) {
    if (line !== "" && line.length + 1 + word.length > width) {
      lines.push(line);
      line = word;
    } else {
      line = line === "" ? word : `${line} ${word}`;
    }
  }
  return [...lines, line];
}
