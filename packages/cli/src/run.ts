import { CacheError, nearestWord } from "@glorious/core";

import { type CliContext, printLine } from "./cli-context.ts";
import { COMMAND_GROUPS, COMMAND_TABLE, type TableEntry } from "./command-table.ts";
import { formatCommandHelp, formatGroupHelp, formatOverview } from "./format-help.ts";
import { parseCommandLine } from "./parse-command-line.ts";
import { toCacheError } from "./system-error.ts";
import { UsageError } from "./usage-error.ts";
import { readVersion } from "./version.ts";

/** Runs one command line and gives the exit code: 0 done, 1 failed, 2 misused. Never throws. */
export async function run(words: readonly string[], context: CliContext): Promise<number> {
  try {
    await dispatch(words, context);
    return 0;
  } catch (error) {
    context.stderr.write(formatError(error));
    return error instanceof UsageError ? 2 : 1;
  }
}

async function dispatch(words: readonly string[], context: CliContext): Promise<void> {
  const [first, second] = words;
  if (first === "--version" || first === "-V") return printLine(context, readVersion());
  if (first === undefined) {
    context.stderr.write(formatOverview(readVersion()));
    throw new UsageError("Which command?", "Choose one of the above, such as `flywheel up`.");
  }
  if (first === "help" || first === "--help" || first === "-h") {
    return second === undefined
      ? void context.stdout.write(formatOverview(readVersion()))
      : dispatch([...words.slice(1), "--help"], context);
  }
  if (first.startsWith("-")) {
    throw new UsageError(
      `There is no option ${JSON.stringify(first)} before a command`,
      "Options stand after the command: flywheel COMMAND --option.",
    );
  }
  if (Object.hasOwn(COMMAND_GROUPS, first) && (second === undefined || second.startsWith("-"))) {
    if (second === "--help" || second === "-h") {
      context.stdout.write(formatGroupHelp(first));
      return;
    }
    context.stderr.write(formatGroupHelp(first));
    throw new UsageError(`${first} needs a command`, `Such as \`${nameOfFirst(first)}\`.`);
  }
  const entry = findEntry(first, second);
  const { command } = await entry.load();
  const rest = words.slice(entry.name.split(" ").length);
  const parsed = parseCommandLine(command, rest, context.env);
  if (parsed.kind === "help") {
    context.stdout.write(formatCommandHelp(command));
    return;
  }
  try {
    await command.run(parsed, context);
  } catch (error) {
    if (!(error instanceof UsageError) || error.hint !== undefined) throw error;
    throw new UsageError(error.message, `See \`flywheel ${command.name} --help\`.`);
  }
}

function nameOfFirst(group: string): string {
  const entry = COMMAND_TABLE.find(({ name }) => name.startsWith(`${group} `));
  return `flywheel ${entry?.name ?? group}`;
}

function findEntry(first: string, second: string | undefined): TableEntry {
  // A command of one word may have others below it: `use` and `use bazel`.
  const longer = COMMAND_TABLE.find(({ name }) => name === `${first} ${second}`);
  if (longer !== undefined) return longer;
  const isGroup = Object.hasOwn(COMMAND_GROUPS, first);
  const wanted = isGroup ? `${first} ${second}` : first;
  const entry = COMMAND_TABLE.find(({ name }) => name === wanted);
  if (entry !== undefined) return entry;
  const known = isGroup
    ? COMMAND_TABLE.flatMap(({ name }) =>
        name.startsWith(`${first} `) ? [name.slice(first.length + 1)] : [],
      )
    : [...Object.keys(COMMAND_GROUPS), ...COMMAND_TABLE.map(({ name }) => name)];
  const nearest = nearestWord(isGroup ? (second ?? "") : first, known);
  const prefix = isGroup ? `flywheel ${first}` : "flywheel";
  throw new UsageError(
    `There is no command ${JSON.stringify(wanted)}`,
    nearest === undefined
      ? `See \`${prefix} --help\`.`
      : `Did you mean \`${prefix} ${nearest}\`? See \`${prefix} --help\`.`,
  );
}

function formatError(error: unknown): string {
  const known = error instanceof UsageError ? error : toCacheError(error);
  if (known instanceof UsageError || known instanceof CacheError) {
    const hint = known.hint === undefined ? "" : `  hint: ${known.hint}\n`;
    return `flywheel: ${known.message}\n${hint}`;
  }
  const trace = error instanceof Error ? (error.stack ?? error.message) : String(error);
  return `flywheel: this is a mistake in flywheel itself: ${trace}\n  hint: Please report it with the lines above.\n`;
}
