import { join } from "node:path";

import type { CacheIndex } from "../../src/index/cache-index.ts";
import { openSqliteIndex } from "../../src/index/sqlite-index.ts";
import { describeCacheIndex } from "./index-contract.ts";
import { makeDirectory } from "./temporary-directory.ts";

describeCacheIndex("SQLite in memory", () => openSqliteIndex({ file: ":memory:" }), { runs: 300 });

describeCacheIndex("SQLite in a file", openTemporary, { runs: 25 });

/** An index in a directory that goes with it. */
async function openTemporary(): Promise<CacheIndex> {
  const directory = await makeDirectory();
  const index = await openSqliteIndex({ file: join(directory.path, "index.sqlite") });
  const close = index[Symbol.asyncDispose].bind(index);
  return Object.assign(index, {
    async [Symbol.asyncDispose](): Promise<void> {
      await close();
      await directory[Symbol.asyncDispose]();
    },
  });
}
