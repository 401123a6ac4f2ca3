import type { PutOutcome, WholeBlob } from "./bazel-store.ts";
import type { NewObject } from "./bazel-writers.ts";
import { takeSmallBlob } from "./blob-intake.ts";

/** A blob of a batch, as the index is told of it. */
export interface TakenBlob extends NewObject {
  /** In the batch. */
  readonly place: number;
  readonly hash: Uint8Array;
}

const HASH_BYTES = 32;

/**
 * Verifies the small blobs at these places of a batch. Those that are right share one piece of memory, because
 * thousands of pieces take many times what they hold; the others leave their error in `outcomes`.
 */
export async function takeSmallBlobs(
  blobs: readonly WholeBlob[],
  places: readonly number[],
  outcomes: PutOutcome[],
): Promise<readonly TakenBlob[]> {
  const taken: { readonly place: number; readonly object: NewObject }[] = [];
  let sizeBytes = 0;
  for (const place of places) {
    const blob = blobs[place] as WholeBlob;
    try {
      const object = await takeSmallBlob(blob, blob.source);
      sizeBytes += HASH_BYTES + (object.data?.length ?? 0);
      taken.push({ place, object });
    } catch (error) {
      outcomes[place] = toError(error);
    }
  }
  const memory = new Uint8Array(sizeBytes);
  let position = 0;
  const keep = (bytes: Uint8Array): Uint8Array => {
    const start = position;
    memory.set(bytes, start);
    position += bytes.length;
    return memory.subarray(start, position);
  };
  return taken.map(({ place, object }) => ({
    ...object,
    place,
    hash: keep((blobs[place] as WholeBlob).key),
    data: object.data && keep(object.data),
  }));
}

/** What was thrown, as the outcome of a blob. */
export function toError(error: unknown): Error {
  return error instanceof Error ? error : new Error("A blob could not be stored", { cause: error });
}
