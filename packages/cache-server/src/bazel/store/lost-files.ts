import { MAX_INLINE_BYTES } from "./blob-intake.ts";
import { type Digests, keyAt } from "./packed-digests.ts";
import type { TenantState } from "./tenant-state.ts";

/**
 * How long a file that was found there is taken to be there. Bazel asks for an ActionResult once in a build and
 * starts for longer than this, so that every build's answers are looked after, and those of a crowd of builds only
 * now and then.
 */
export const LOOK_INTERVAL_MS = 5000;

/** Questions to the disk at the same time, of one list. */
const LOOKS_AT_ONCE = 16;

/** Whether some of these lie in files. */
export function needFiles(digests: Digests): boolean {
  for (let index = 0; index < digests.length; index += 1) {
    if (digests.sizeBytes(index) > MAX_INLINE_BYTES) return true;
  }
  return false;
}

/**
 * Looks for the files of those blobs that lie in files. What is gone or has another size is lost: absent in every
 * scope from then on, and healed by the next upload.
 *
 * @throws {CacheError} what the store throws when the disk does not answer.
 */
export async function loseMissingFiles(
  state: TenantState,
  scopeId: number,
  digests: Digests,
): Promise<void> {
  let next = 0;
  const look = async (): Promise<void> => {
    while (next < digests.length) {
      const index = next;
      next += 1;
      if (digests.sizeBytes(index) <= MAX_INLINE_BYTES) continue;
      const key = keyAt(digests.words, 8 * index);
      const place = state.index.findFile(scopeId, key);
      if (place === undefined) continue;
      const stat = await state.files.stat(place.file);
      if (stat?.sizeBytes === place.storedBytes) continue;
      // An eviction or an earlier finding may have been faster.
      if (state.index.findFile(scopeId, key)?.file !== place.file) continue;
      await state.lose(key, stat === undefined ? "gone from the store" : "cut short");
    }
  };
  await Promise.all(Array.from({ length: Math.min(LOOKS_AT_ONCE, digests.length) }, look));
}
