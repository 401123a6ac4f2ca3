import { openAdminClient } from "../admin-client.ts";
import { note } from "../cli-context.ts";
import { type Command, defineCommand, flag } from "../command.ts";
import { confirm } from "../read-secret.ts";
import { chooseServer, SERVER_ENVIRONMENT, SERVER_OPTIONS } from "../server-options.ts";
import { UsageError } from "../usage-error.ts";

export const command: Command = defineCommand({
  name: "view destroy",
  summary: "Remove a view and all it holds",
  description: "Cannot be undone. Asks first on a terminal, and needs --yes elsewhere.",
  args: [{ name: "VIEW", help: "The view", completes: "nothing" }],
  options: { ...SERVER_OPTIONS, yes: flag("Do not ask", { short: "y" }) },
  environment: SERVER_ENVIRONMENT,
  examples: [
    { comment: "Remove a view, after a question", command: "flywheel view destroy old" },
    { comment: "Remove it in a script", command: "flywheel view destroy old --yes" },
  ],
  async run({ options, args }, context) {
    const [view = ""] = args;
    const choice = await chooseServer(options, context);
    if (!options.yes) {
      if (context.stdin.isTTY !== true || options.tokenFile === "-") {
        throw new UsageError(`Destroying ${view} needs --yes where nobody can be asked`);
      }
      const question = `Remove the view ${view} of ${choice.server} and all it holds?`;
      if (!(await confirm(question, context))) return note(context, "Nothing was removed.");
    }
    await using admin = await openAdminClient(choice, context);
    await admin.destroyView(view);
    note(context, `Removed the view ${view}.`);
  },
});
