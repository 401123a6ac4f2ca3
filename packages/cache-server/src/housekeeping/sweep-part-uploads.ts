import type { BlobStore } from "@glorious/storage";

import type { CacheIndex } from "../index/cache-index.ts";
import { deletePartBlobs, listPartBlobs } from "../ingest/part-blobs.ts";

const UPLOADS_PER_STEP = 100;

/**
 * Removes uploads in parts that have expired, and parts that no upload knows: bytes that were stored while
 * their upload ended. Bytes go first, so what a crash interrupts is still found by the next sweep.
 */
export async function sweepPartUploads(
  {
    index,
    store,
    now,
  }: {
    readonly index: CacheIndex;
    readonly store: BlobStore;
    readonly now: () => number;
  },
  signal: AbortSignal,
): Promise<number> {
  let removed = 0;
  for (;;) {
    const expired = await index.listExpiredUploads(now(), UPLOADS_PER_STEP);
    for (const upload of expired) {
      signal.throwIfAborted();
      await deletePartBlobs(store, upload);
      await index.deleteUpload(upload.id);
      removed += 1;
    }
    if (expired.length < UPLOADS_PER_STEP) break;
  }
  const known = new Map<string, boolean>();
  for await (const { key, upload } of listPartBlobs(store)) {
    signal.throwIfAborted();
    let isKnown = known.get(upload.id);
    if (isKnown === undefined) {
      isKnown = (await index.findUpload(upload.viewId, upload.id)) !== undefined;
      known.set(upload.id, isKnown);
    }
    if (!isKnown) await store.delete(key);
  }
  return removed;
}
