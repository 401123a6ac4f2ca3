import { CacheError, isCacheError } from "@glorious/core";

import { openAdminClient } from "../admin-client.ts";
import { note, warn } from "../cli-context.ts";
import { type Command, defineCommand } from "../command.ts";
import { pinNameOf } from "../pin-name.ts";
import {
  chooseServer,
  requireView,
  SERVER_ENVIRONMENT,
  SERVER_OPTIONS,
  VIEW_OPTION,
} from "../server-options.ts";

export const command: Command = defineCommand({
  name: "path unpin",
  summary: "Keep what a pin kept no longer than other paths",
  description: "Nothing is deleted by it at once. Needs the delete permission.",
  args: [
    {
      name: "NAME",
      help: "The pin's name, or the store path that was pinned without one",
      isRepeated: true,
      completes: "nothing",
    },
  ],
  options: { ...SERVER_OPTIONS, ...VIEW_OPTION },
  environment: SERVER_ENVIRONMENT,
  examples: [{ comment: "Remove a pin", command: "flywheel path unpin release --view main" }],
  async run({ options, args }, context) {
    const choice = await chooseServer(options, context);
    const view = requireView(options.view, choice);
    await using admin = await openAdminClient(choice, context);
    let absent = 0;
    for (const name of args.map(pinNameOf)) {
      try {
        await admin.deletePin(view, name);
        note(context, `Removed the pin ${name} from ${view}.`);
      } catch (error) {
        if (!isCacheError(error, "NOT_FOUND")) throw error;
        absent += 1;
        warn(context, error.message);
      }
    }
    if (absent > 0)
      throw new CacheError("NOT_FOUND", `${absent} of ${args.length} pins could not be removed`);
  },
});
