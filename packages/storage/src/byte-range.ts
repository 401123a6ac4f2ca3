import { CacheError } from "@glorious/core";

import type { ByteRange } from "./blob-store.ts";

/**
 * The part of a blob of `sizeBytes` to read: `range`, or all of it.
 *
 * @throws {CacheError} `RANGE` when the range is empty or not within the blob.
 */
export function resolveRange(
  range: ByteRange | undefined,
  sizeBytes: number,
  key: string,
): ByteRange {
  if (range === undefined) return { start: 0, end: sizeBytes };
  const { start, end } = range;
  const isWithin =
    Number.isSafeInteger(start) &&
    Number.isSafeInteger(end) &&
    start >= 0 &&
    start < end &&
    end <= sizeBytes;
  if (!isWithin) {
    throw new CacheError(
      "RANGE",
      `Bytes ${start} to ${end} (exclusive) are not within ${key}, which has ${sizeBytes} bytes`,
      { hint: "Ask for a part of the blob, or for all of it." },
    );
  }
  return { start, end };
}
