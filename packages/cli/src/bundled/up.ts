import { CacheError } from "@glorious/core";

import { type Command, defineCommand } from "../command.ts";

/** Stands for `up` in the bundle that runs beside CI jobs: the server is not in it. */
export const command: Command = defineCommand({
  name: "up",
  summary: "Run a cache of your own on this machine",
  description: "This flywheel is the bundle for CI jobs, which holds no server.",
  options: {},
  examples: [{ comment: "Start a cache from a checkout", command: "npm start" }],
  async run() {
    throw new CacheError(
      "UNSUPPORTED",
      "This flywheel is the bundle for CI jobs: it has no server",
      {
        hint: "Start a cache from a checkout of GloriousFlywheel, with `npm start`.",
      },
    );
  },
});
