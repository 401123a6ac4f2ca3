import { CacheError } from "@glorious/core";

/**
 * Checks a debug info link, `{"archive": "<where the NAR lies>", "member": "<file in it>"}`.
 *
 * @throws {CacheError} `CORRUPT` when it is anything else.
 * @see `src/libstore/binary-cache-store.cc` in NixOS/nix, which writes it.
 */
export function requireDebugInfo(body: Buffer): void {
  const link = parseJson(body);
  if (typeof link === "object" && link !== null && "archive" in link && "member" in link) {
    if (typeof link.archive === "string" && typeof link.member === "string") return;
  }
  throw new CacheError(
    "CORRUPT",
    'The debug info is not JSON with the texts "archive" and "member"',
  );
}

function parseJson(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString("utf8"));
  } catch {
    return undefined;
  }
}
