import type { Command } from "./command.ts";
import { describeOption, formatOption, formatUsage } from "./format-help.ts";

/** The text of `docs/reference/cli.md`. */
export function formatReference(commands: readonly Command[]): string {
  const lines = [
    "# Command line",
    "",
    "<!-- Made by `pnpm --filter @glorious/cli docs` from the command table. Do not edit. -->",
    "",
    "`flywheel --help` and `flywheel COMMAND --help` show the same. Results go to standard output, all",
    "else to standard error. Exit codes: 0 done, 1 failed, 2 the command line makes no sense.",
    "",
    "| Command | Does |",
    "| --- | --- |",
    ...commands.map(
      ({ name, summary }) =>
        `| [\`flywheel ${name}\`](#flywheel-${name.replaceAll(" ", "-")}) | ${summary} |`,
    ),
  ];
  for (const command of commands) lines.push("", ...formatCommand(command));
  return `${lines.join("\n")}\n`;
}

function formatCommand(command: Command): string[] {
  const lines = [`## flywheel ${command.name}`, "", `${command.summary}.`];
  if (command.description !== undefined) lines.push("", command.description.replaceAll("\n", " "));
  lines.push("", "```text", formatUsage(command), "```", "");
  lines.push("| Argument or option | Meaning |", "| --- | --- |");
  for (const argument of command.args ?? []) {
    lines.push(`| \`${argument.name}\` | ${escapeCell(argument.help)} |`);
  }
  for (const [name, option] of Object.entries(command.options)) {
    lines.push(`| \`${formatOption(name, option)}\` | ${escapeCell(describeOption(option))} |`);
  }
  for (const [name, help] of command.environment ?? []) {
    lines.push(`| \`${name}\` (environment) | ${escapeCell(help)} |`);
  }
  lines.push("| `-h, --help` | Show help |", "", "```sh");
  for (const [index, example] of command.examples.entries()) {
    if (index > 0) lines.push("");
    lines.push(`# ${example.comment}`, example.command);
  }
  return [...lines, "```"];
}

function escapeCell(text: string): string {
  return text.replaceAll("|", "\\|").replaceAll("*", "\\*").replaceAll("_", "\\_");
}
