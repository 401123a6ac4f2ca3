import { openAdminClient } from "../admin-client.ts";
import { note } from "../cli-context.ts";
import { type Command, defineCommand, flag } from "../command.ts";
import { chooseServer, SERVER_ENVIRONMENT, SERVER_OPTIONS } from "../server-options.ts";
import { UsageError } from "../usage-error.ts";

export const command: Command = defineCommand({
  name: "upstream use",
  summary: "Say which upstreams a view falls back to",
  description: `In order: of several that have a path, and of the same priority, the first is taken. Replaces those that
the view had. Needs the configure permission on the view.`,
  args: [
    { name: "VIEW", help: "The view", completes: "nothing" },
    {
      name: "NAME",
      help: "Upstreams that an administrator defined",
      isOptional: true,
      isRepeated: true,
      completes: "nothing",
    },
  ],
  options: { ...SERVER_OPTIONS, none: flag("Let the view fall back to nothing") },
  environment: SERVER_ENVIRONMENT,
  examples: [
    { comment: "One substituter is enough", command: "flywheel upstream use main nixos" },
    { comment: "Ask your own first", command: "flywheel upstream use main corp nixos" },
    { comment: "Serve nothing but what was pushed", command: "flywheel upstream use main --none" },
  ],
  async run({ options, args: [view = "", ...names] }, context) {
    if (options.none === names.length > 0) {
      throw new UsageError("upstream use needs a NAME or --none, one of the two");
    }
    await using admin = await openAdminClient(await chooseServer(options, context), context);
    const { upstreams, signsUpstream } = await admin.setViewUpstreams(view, names);
    if (upstreams.length === 0) {
      return note(context, `${view} falls back to nothing.`);
    }
    note(context, `${view} falls back to ${upstreams.map(({ name }) => name).join(", ")}.`);
    if (!signsUpstream) {
      note(context, "Run `flywheel use` on every client, so that it trusts their keys.");
    }
  },
});
