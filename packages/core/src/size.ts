import { CacheError } from "./cache-error.ts";

const UNITS: Readonly<Record<string, number>> = {
  "": 1,
  B: 1,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
  KIB: 2 ** 10,
  MIB: 2 ** 20,
  GIB: 2 ** 30,
  TIB: 2 ** 40,
};
const BINARY = ["B", "KiB", "MiB", "GiB", "TiB"] as const;

/**
 * Parses a size such as `4096`, `64 MiB` or `1.5GB` into bytes.
 *
 * `KiB`, `MiB`, `GiB` and `TiB` are powers of 1024; `KB`, `MB`, `GB` and `TB` of 1000; no unit means bytes.
 *
 * @throws {CacheError} `INVALID` when the text is no size, or not a whole number of bytes.
 */
export function parseSizeBytes(text: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([a-zA-Z]*)$/.exec(text.trim());
  const unit = UNITS[match?.[2]?.toUpperCase() ?? "?"];
  const sizeBytes = match === null || unit === undefined ? Number.NaN : Number(match[1]) * unit;
  if (!Number.isSafeInteger(sizeBytes)) {
    throw new CacheError("INVALID", `${JSON.stringify(text)} is not a size`, {
      hint: "Write a whole number of bytes, or a number with a unit, such as 64 MiB.",
    });
  }
  return sizeBytes;
}

/** Formats bytes for people with a binary unit and at most one decimal: `1.5 MiB`. */
export function formatSizeBytes(sizeBytes: number): string {
  let value = sizeBytes;
  let unit = 0;
  while (value >= 1024 && unit < BINARY.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 ? value : Number(value.toFixed(1))} ${BINARY[unit]}`;
}
