import { CacheError } from "@glorious/core";

/** Bytes `start` to `end` (exclusive) of a representation. */
export interface ByteRange {
  readonly start: number;
  readonly end: number;
}

/**
 * Reads a `Range` header against a representation of `sizeBytes`.
 *
 * `undefined` means the whole representation: there is no header, its unit is unknown, it is malformed, or
 * it asks for several ranges, all of which RFC 9110 lets a server ignore.
 *
 * @throws {CacheError} `RANGE` when the one range asked for lies outside.
 */
export function parseRange(header: string | undefined, sizeBytes: number): ByteRange | undefined {
  const match = /^bytes=\s*(\d*)-(\d*)\s*$/i.exec(header ?? "");
  const [, first = "", last = ""] = match ?? [];
  if (first === "" && last === "") return undefined;
  const range =
    first === ""
      ? { start: Math.max(0, sizeBytes - Number(last)), end: sizeBytes }
      : {
          start: Number(first),
          end: Math.min(last === "" ? sizeBytes : Number(last) + 1, sizeBytes),
        };
  if (first !== "" && last !== "" && Number(last) < Number(first)) return undefined;
  if (range.start >= sizeBytes || range.start >= range.end) {
    throw new CacheError(
      "RANGE",
      `The range ${header} lies outside the ${sizeBytes} bytes there are`,
    );
  }
  return range;
}
