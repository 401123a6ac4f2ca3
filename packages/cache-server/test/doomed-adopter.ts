/**
 * Takes over what a merge queue built, as a server does, and kills itself after the second of the steps that make paths
 * visible. Arguments: the index's file, the view, the key that the push presents.
 */
import { silentLogger } from "@glorious/core";

import { createAdopter } from "../src/adoption/adopt-overlays.ts";
import { createPathCommitter } from "../src/commit/path-committer.ts";
import { openSqliteIndex } from "../src/index/sqlite-index.ts";

const DOOMED_STEP = 2;

const [file = "", view = "", key = ""] = process.argv.slice(2);
const index = await openSqliteIndex({ file });
const now = Date.now;
const committer = createPathCommitter({ index, logger: silentLogger, now, onOutdated: () => {} });
let steps = 0;
const adopter = createAdopter({
  index,
  committer: {
    async commit(...args) {
      const result = await committer.commit(...args);
      steps += 1;
      if (steps === DOOMED_STEP) process.kill(process.pid, "SIGKILL");
      return result;
    },
  },
  bazel: undefined,
  logger: silentLogger,
  now,
  roomOf: async () => Infinity,
  maxWaitMs: 60_000,
  onAdopted: () => {},
});
const adopted = await adopter.adopt({
  view,
  key,
  adopter: { principal: "of the server that dies", trust: "trusted", run: "71" },
  subject: "of the server that dies",
});
// A kill that came too late is no kill.
throw new Error(`Everything was taken over: ${JSON.stringify(adopted)}`);
