import { openAdminClient } from "../admin-client.ts";
import { note } from "../cli-context.ts";
import { type Command, defineCommand, flag } from "../command.ts";
import {
  chooseServer,
  requireView,
  SERVER_ENVIRONMENT,
  SERVER_OPTIONS,
  VIEW_OPTION,
} from "../server-options.ts";
import { waitForSignatures } from "../wait-for-signatures.ts";

export const command: Command = defineCommand({
  name: "key retire",
  summary: "Stop signing a view with a key",
  description: `Its signatures leave old paths too. Clients that trust no other key of the view refuse its paths from then
on. The last key cannot be retired. Needs the configure permission.`,
  args: [{ name: "KEY", help: "The key's name, as key list shows it", completes: "nothing" }],
  options: {
    ...SERVER_OPTIONS,
    ...VIEW_OPTION,
    wait: flag("Wait until its signatures have left every path"),
  },
  environment: SERVER_ENVIRONMENT,
  examples: [
    {
      comment: "Retire a key that no client needs any more",
      command: "flywheel key retire main-0c5b8f40 --view main",
    },
  ],
  async run({ options, args }, context) {
    const [name = ""] = args;
    const choice = await chooseServer(options, context);
    const view = requireView(options.view, choice);
    await using admin = await openAdminClient(choice, context);
    await admin.retireKey(view, name);
    note(context, `${view} is no longer signed with ${name}.`);
    if (!options.wait) return;
    await waitForSignatures(admin, view, context);
    note(context, "Its signatures have left every path.");
  },
});
