import { createHash } from "node:crypto";

import { CacheError } from "@glorious/core";
import { sha256HexToNix32 } from "@glorious/nix-store";

/** What tells one NAR from all others. */
export interface NarFacts {
  readonly narHash: string;
  readonly narSize: number;
}

/**
 * Hashes and counts a NAR, and holds it against what was said of it.
 *
 * @throws {CacheError} `TOO_LARGE`, `TRUNCATED` or `CORRUPT`; errors of the source as they are.
 */
export async function measureNar(
  chunks: AsyncIterable<Buffer>,
  expected: Partial<NarFacts>,
  maxNarSizeBytes: number,
): Promise<NarFacts> {
  const limit = Math.min(expected.narSize ?? maxNarSizeBytes, maxNarSizeBytes);
  const hash = createHash("sha256");
  let narSize = 0;
  for await (const chunk of chunks) {
    narSize += chunk.length;
    if (narSize > limit) throw tooManyBytes(limit, expected.narSize);
    hash.update(chunk);
  }
  const narHash = hash.digest("hex");
  if (expected.narSize !== undefined && narSize !== expected.narSize) {
    throw new CacheError(
      "TRUNCATED",
      `Received ${narSize} of the NAR's ${expected.narSize} bytes`,
      {
        hint: "Send it again; a proxy with a body or time limit may have cut it.",
      },
    );
  }
  if (expected.narHash !== undefined && narHash !== expected.narHash) {
    throw new CacheError(
      "CORRUPT",
      `Bad NAR hash: the ${narSize} bytes hash to sha256:${sha256HexToNix32(narHash)}, ` +
        `not to sha256:${sha256HexToNix32(expected.narHash)}`,
      { hint: "The path may be damaged where it was sent from: try `nix-store --repair-path`." },
    );
  }
  return { narHash, narSize };
}

function tooManyBytes(limit: number, expected: number | undefined): CacheError {
  return expected === limit
    ? new CacheError("CORRUPT", `The NAR goes on after the ${expected} bytes it was said to have`)
    : tooLarge(limit);
}

export function tooLarge(limit: number): CacheError {
  return new CacheError("TOO_LARGE", `The NAR is larger than the ${limit} bytes allowed here`, {
    hint: "The server's limits.maxNarSize sets the bound.",
  });
}
