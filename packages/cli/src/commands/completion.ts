import { printLine } from "../cli-context.ts";
import { type Command, defineCommand } from "../command.ts";
import { COMPLETION_SHELLS, formatCompletion, isCompletionShell } from "../format-completion.ts";
import { UsageError } from "../usage-error.ts";

export const command: Command = defineCommand({
  name: "completion",
  summary: "Print a completion script for your shell",
  args: [{ name: "SHELL", help: "bash, zsh or fish", completes: COMPLETION_SHELLS }],
  options: {},
  examples: [
    { comment: "bash, for this session", command: 'eval "$(flywheel completion bash)"' },
    { comment: "zsh, for good", command: 'flywheel completion zsh > "${fpath[1]}/_flywheel"' },
    {
      comment: "fish, for good",
      command: "flywheel completion fish > ~/.config/fish/completions/flywheel.fish",
    },
  ],
  async run({ args }, context) {
    const [shell = ""] = args;
    if (!isCompletionShell(shell)) {
      throw new UsageError(
        `There is no completion for ${JSON.stringify(shell)}`,
        `Choose one of ${COMPLETION_SHELLS.join(", ")}.`,
      );
    }
    // Only here: the table names this module.
    const { loadCommands } = await import("../command-table.ts");
    printLine(context, formatCompletion(shell, await loadCommands()).trimEnd());
  },
});
