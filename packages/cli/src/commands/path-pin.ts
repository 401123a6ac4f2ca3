import { openAdminClient } from "../admin-client.ts";
import { note } from "../cli-context.ts";
import { type Command, defineCommand, text } from "../command.ts";
import { pinNameOf } from "../pin-name.ts";
import {
  chooseServer,
  requireView,
  SERVER_ENVIRONMENT,
  SERVER_OPTIONS,
  VIEW_OPTION,
} from "../server-options.ts";
import { UsageError } from "../usage-error.ts";

export const command: Command = defineCommand({
  name: "path pin",
  summary: "Keep store paths and all they refer to",
  description: `Whatever the view's retention and size limit. A name that is taken moves to the new path. Needs the push
permission.`,
  args: [
    {
      name: "PATH",
      help: "A store path that the view has",
      isRepeated: true,
      completes: "file",
    },
  ],
  options: {
    ...SERVER_OPTIONS,
    ...VIEW_OPTION,
    name: text("NAME", "What to call the pin; default is the path's name with its hash"),
  },
  environment: SERVER_ENVIRONMENT,
  examples: [
    {
      comment: "Keep the latest release",
      command:
        "flywheel path pin /nix/store/0c5b8vw40dr178xlpddw65q9gf1h2186-hello-2.12 --name release",
    },
  ],
  async run({ options, args }, context) {
    if (options.name !== undefined && args.length > 1) {
      throw new UsageError("--name is for one PATH", "Pin the paths one by one, or leave it out.");
    }
    const choice = await chooseServer(options, context);
    const view = requireView(options.view, choice);
    await using admin = await openAdminClient(choice, context);
    for (const path of args) {
      const name = options.name ?? pinNameOf(path);
      const kind = await admin.putPin(view, name, path);
      const verb = kind === "created" ? "is kept by" : "is now kept by";
      note(context, `${path} ${verb} the pin ${name} of ${view}.`);
    }
  },
});
