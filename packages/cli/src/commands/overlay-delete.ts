import { openAdminClient } from "../admin-client.ts";
import { note } from "../cli-context.ts";
import { type Command, defineCommand, text } from "../command.ts";
import {
  chooseServer,
  requireView,
  SERVER_ENVIRONMENT,
  SERVER_OPTIONS,
  VIEW_OPTION,
} from "../server-options.ts";
import { UsageError } from "../usage-error.ts";

export const command: Command = defineCommand({
  name: "overlay delete",
  summary: "Remove the overlays of a branch or pull request",
  description: `An overlay goes by itself some time after its last write; this is for a branch that is gone before. A trusted job may
delete those of its own repository, a pull request's job its own one, an administrator any. What is not there, or not
yours, is not deleted, and that is no failure.`,
  options: {
    ...SERVER_OPTIONS,
    ...VIEW_OPTION,
    ref: text("REF", "The overlays of this ref, such as refs/heads/topic", {
      completes: "nothing",
    }),
    pullRequest: text("NUMBER", "The overlays of this pull or merge request", {
      completes: "nothing",
    }),
    name: text("OVERLAY", "The overlay of this full name", { completes: "nothing" }),
  },
  environment: SERVER_ENVIRONMENT,
  examples: [
    {
      comment: "In a trusted job, once a branch is gone",
      command: "flywheel overlay delete --ref refs/heads/topic",
    },
    {
      comment: "In the job of a pull request that was closed",
      command: "flywheel overlay delete --pull-request 12",
    },
  ],
  async run({ options }, context) {
    const { ref, pullRequest, name } = options;
    if ([ref, pullRequest, name].filter((given) => given !== undefined).length !== 1) {
      throw new UsageError("Give one of --ref, --pull-request and --name");
    }
    const choice = await chooseServer(options, context);
    const view = requireView(options.view, choice);
    await using admin = await openAdminClient(choice, context);
    const deleted = await admin.deleteOverlays(view, { ref, pullRequest, name });
    for (const overlay of deleted) note(context, `Removed the overlay ${overlay}.`);
    if (deleted.length === 0) {
      note(context, `There was no such overlay over the view ${view} that is yours.`);
    }
  },
});
