import type { Command } from "./command.ts";
import { describeOption, formatOption, formatUsage } from "./format-help.ts";

/** The text of `docs/reference/cli.md`. */
export function formatReference(commands: readonly Command[]): string {
  const lines = [
    "# Command line",
    "",
    "<!-- Made by `pnpm --filter @glorious/cli run docs` from the command table. Do not edit. -->",
    "",
    "`flywheel --help` and `flywheel COMMAND --help` show the same. Results go to standard output, all",
    "else to standard error. Exit codes: 0 done, 1 failed, 2 the command line makes no sense.",
    "",
    ...commands.map(
      ({ name, summary }) =>
        `- [flywheel ${name}](#flywheel-${name.replaceAll(" ", "-")}): ${summary}`,
    ),
  ];
  for (const command of commands) lines.push("", ...formatCommand(command));
  return `${lines.join("\n")}\n`;
}

function formatCommand(command: Command): string[] {
  const lines = [`## flywheel ${command.name}`, "", `${command.summary}.`];
  if (command.description !== undefined)
    lines.push("", escape(command.description.replaceAll("\n", " ")));
  lines.push("", "```text", formatUsage(command), "```", "");
  for (const argument of command.args ?? []) {
    lines.push(`- \`${argument.name}\`: ${escape(argument.help)}`);
  }
  for (const [name, option] of Object.entries(command.options)) {
    lines.push(`- \`${formatOption(name, option)}\`: ${escape(describeOption(option))}`);
  }
  for (const [name, help] of command.environment ?? []) {
    lines.push(`- \`${name}\` (environment): ${escape(help)}`);
  }
  lines.push("- `-h, --help`: Show help", "", "```sh");
  for (const [index, example] of command.examples.entries()) {
    if (index > 0) lines.push("");
    lines.push(`# ${example.comment}`, example.command);
  }
  return [...lines, "```"];
}

/** Help is plain text; only what Markdown would take as emphasis needs care. */
function escape(text: string): string {
  return text.replaceAll("*", "\\*");
}
