import type { Logger } from "@glorious/core";

import type { CacheIndex } from "../index/cache-index.ts";

/** Deletes the overlays that nobody has written to for their retention, and returns how many. */
export async function expireOverlays(
  { index, logger, now }: ExpireOverlaysOptions,
  signal: AbortSignal,
): Promise<number> {
  let expired = 0;
  for (const { name, writtenAtMs, retentionSeconds } of await index.listViews()) {
    signal.throwIfAborted();
    if (writtenAtMs === undefined || retentionSeconds === undefined || retentionSeconds === 0) {
      continue;
    }
    if (now() - writtenAtMs < retentionSeconds * 1000) continue;
    if (await index.deleteView(name)) expired += 1;
    logger.info("deleted an overlay that nobody wrote to any more", { view: name });
  }
  return expired;
}

interface ExpireOverlaysOptions {
  readonly index: Pick<CacheIndex, "listViews" | "deleteView">;
  readonly logger: Logger;
  readonly now: () => number;
}
