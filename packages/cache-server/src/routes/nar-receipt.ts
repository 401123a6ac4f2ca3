import { CacheError } from "@glorious/core";
import { parseSha256Hex } from "@glorious/nix-store";

import type { ObjectRecord } from "../index/cache-index.ts";
import type { IngestedNar } from "../ingest/nar-ingest.ts";

/** What our own client is told of a NAR it uploaded. */
export function formatReceipt(
  kind: IngestedNar["kind"],
  { narHash, narSize, fileHash, fileSize }: ObjectRecord,
): Readonly<Record<string, string | number>> {
  return {
    kind: kind === "uploaded" ? "Uploaded" : "Deduplicated",
    narHash,
    narSize,
    fileHash,
    fileSize,
  };
}

/** Whether the text is a SHA-256 in any of Nix's notations. */
export function isSha256(text: string): boolean {
  try {
    parseSha256Hex(text);
    return true;
  } catch {
    return false;
  }
}

/** @throws {CacheError} `INVALID` for anything but 64 lowercase hexadecimal digits. */
export function requireSha256(text: string): string {
  if (/^[0-9a-f]{64}$/.test(text)) return text;
  throw new CacheError(
    "INVALID",
    `${JSON.stringify(text.slice(0, 100))} is no hexadecimal SHA-256`,
  );
}
