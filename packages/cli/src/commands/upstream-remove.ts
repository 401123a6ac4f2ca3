import { openAdminClient } from "../admin-client.ts";
import { note } from "../cli-context.ts";
import { type Command, defineCommand } from "../command.ts";
import { chooseServer, SERVER_ENVIRONMENT, SERVER_OPTIONS } from "../server-options.ts";

export const command: Command = defineCommand({
  name: "upstream remove",
  summary: "Take an upstream from all views, with what was fetched from it",
  description: "Needs an administrator's token.",
  args: [{ name: "NAME", help: "The upstream", completes: "nothing" }],
  options: { ...SERVER_OPTIONS },
  environment: SERVER_ENVIRONMENT,
  examples: [{ comment: "Fall back to it no more", command: "flywheel upstream remove corp" }],
  async run({ options, args: [name = ""] }, context) {
    await using admin = await openAdminClient(await chooseServer(options, context), context);
    const views = await admin.removeUpstream(name);
    const had = views.length === 0 ? "no view had it" : `from ${views.join(", ")}`;
    note(context, `Removed the upstream ${name}: ${had}.`);
  },
});
