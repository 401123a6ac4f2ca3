import { setImmediate } from "node:timers/promises";

import type { CacheIndex, ViewRecord } from "../index/cache-index.ts";
import { formatSignedNarInfo } from "./narinfo-text.ts";

const PATHS_PER_STEP = 200;

/** Signs every path of a view anew with its present keys, step by step while the server serves others. */
export async function resignView(index: CacheIndex, view: ViewRecord): Promise<void> {
  const keys = await index.listSigningKeys(view.id);
  let after: string | undefined;
  for (;;) {
    const page = { limit: PATHS_PER_STEP, ...(after === undefined ? {} : { after }) };
    const paths = await index.listPaths(view.id, page);
    await index.replaceNarInfos(
      view.id,
      paths.map((path) => ({
        storePathHash: path.storePathHash,
        narInfo: formatSignedNarInfo(path, path, { storeDir: view.storeDir, keys }),
      })),
    );
    after = paths.at(-1)?.storePathHash;
    if (paths.length < PATHS_PER_STEP) return;
    await setImmediate();
  }
}
