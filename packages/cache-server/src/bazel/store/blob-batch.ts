import type { PutOutcome, WholeBlob } from "./bazel-store.ts";
import type { NewBlobs, NewObject } from "./bazel-writers.ts";
import { takeSmallBlob } from "./blob-intake.ts";

/** The blobs of a batch that were right. */
export interface TakenBlobs {
  /** Where they were in the batch. */
  readonly places: readonly number[];
  readonly blobs: NewBlobs;
}

const HASH_BYTES = 32;

/**
 * Verifies the small blobs at these places of a batch; those that are wrong leave their error in `outcomes`.
 *
 * The others are told to the index in a few pieces of memory: thousands of small ones take many times what they
 * hold, here and on the writer's thread.
 */
export async function takeSmallBlobs(
  blobs: readonly WholeBlob[],
  places: readonly number[],
  outcomes: PutOutcome[],
): Promise<TakenBlobs> {
  const right: number[] = [];
  const objects: NewObject[] = [];
  for (const place of places) {
    const blob = blobs[place] as WholeBlob;
    try {
      objects.push(await takeSmallBlob(blob, blob.source));
      right.push(place);
    } catch (error) {
      outcomes[place] = toError(error);
    }
  }
  const count = objects.length;
  const ends = new Int32Array(count);
  let dataBytes = 0;
  for (const [at, { data }] of objects.entries()) {
    dataBytes += data?.length ?? 0;
    ends[at] = dataBytes;
  }
  const hashes = new Uint8Array(count * HASH_BYTES);
  const data = new Uint8Array(dataBytes);
  for (const [at, object] of objects.entries()) {
    hashes.set((blobs[right[at] as number] as WholeBlob).key, at * HASH_BYTES);
    if (object.data !== undefined) data.set(object.data, at === 0 ? 0 : ends[at - 1]);
  }
  return {
    places: right,
    blobs: {
      hashes,
      ends,
      data,
      forms: Uint8Array.from(objects, ({ form }) => form),
      sizes: Int32Array.from(objects, ({ sizeBytes }) => sizeBytes),
    },
  };
}

/** What was thrown, as the outcome of a blob. */
export function toError(error: unknown): Error {
  return error instanceof Error ? error : new Error("A blob could not be stored", { cause: error });
}
