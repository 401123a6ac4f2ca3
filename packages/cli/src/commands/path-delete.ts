import { CacheError, isCacheError } from "@glorious/core";

import { openAdminClient } from "../admin-client.ts";
import { note, warn } from "../cli-context.ts";
import { type Command, defineCommand } from "../command.ts";
import {
  chooseServer,
  requireView,
  SERVER_ENVIRONMENT,
  SERVER_OPTIONS,
  VIEW_OPTION,
} from "../server-options.ts";
import { readStorePathHash } from "../store-path-argument.ts";

export const command: Command = defineCommand({
  name: "path delete",
  summary: "Remove store paths from a view",
  description: `Paths that refer to them stay, and can no longer be substituted completely. Needs the delete
permission.`,
  args: [
    {
      name: "PATH",
      help: "A store path, or its hash of 32 characters",
      isRepeated: true,
      completes: "file",
    },
  ],
  options: { ...SERVER_OPTIONS, ...VIEW_OPTION },
  environment: SERVER_ENVIRONMENT,
  examples: [
    {
      comment: "Remove one path",
      command: "flywheel path delete /nix/store/0c5b8vw40dr178xlpddw65q9gf1h2186-hello-2.12",
    },
    {
      comment: "Remove it by its hash from another view",
      command: "flywheel path delete 0c5b8vw40dr178xlpddw65q9gf1h2186 --view ci",
    },
  ],
  async run({ options, args }, context) {
    const hashes = args.map((path) => [path, readStorePathHash(path)] as const);
    const choice = await chooseServer(options, context);
    const view = requireView(options.view, choice);
    await using admin = await openAdminClient(choice, context);
    let absent = 0;
    for (const [path, hash] of hashes) {
      try {
        await admin.deletePath(view, hash);
        note(context, `Removed ${path} from ${view}.`);
      } catch (error) {
        if (!isCacheError(error, "NOT_FOUND")) throw error;
        absent += 1;
        warn(context, error.message);
      }
    }
    if (absent > 0)
      throw new CacheError("NOT_FOUND", `${absent} of ${hashes.length} paths could not be removed`);
  },
});
