import { setImmediate } from "node:timers/promises";

import type { CacheIndex, ViewRecord } from "../index/cache-index.ts";
import { formatSignedNarInfo } from "./narinfo-text.ts";

const PATHS_PER_STEP = 100;

/**
 * Signs the view's paths anew that were signed with older keys than it has now, step by step while the server
 * serves others. What is interrupted goes on where it was at the next call. Several may run at once, in several
 * processes too.
 *
 * @returns How many paths it signed.
 */
export async function resignView(
  index: CacheIndex,
  view: Pick<ViewRecord, "id" | "storeDir">,
  signal?: AbortSignal,
): Promise<number> {
  let signed = 0;
  for (;;) {
    signal?.throwIfAborted();
    // In this order, so that a change of keys in between leaves these paths outdated.
    const keyGeneration = await index.signingKeyGeneration(view.id);
    const keys = await index.listSigningKeys(view.id);
    const paths = await index.listOutdatedPaths(view.id, PATHS_PER_STEP);
    // A view that was deleted meanwhile has neither keys nor paths.
    if (paths.length === 0) return signed;
    await index.replaceNarInfos(
      view.id,
      paths.map((path) => ({
        storePathHash: path.storePathHash,
        replaces: path.narInfo,
        narInfo: formatSignedNarInfo(path, path, { storeDir: view.storeDir, keys }),
        keyGeneration,
      })),
    );
    signed += paths.length;
    await setImmediate();
  }
}
