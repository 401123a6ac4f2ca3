import { createHash } from "node:crypto";
import { constants, zstdDecompressSync } from "node:zlib";

import { createZstdScanner } from "@glorious/nix-store";

import type { NarFacts } from "./measure-nar.ts";

/** Decoded at once, which takes less time than going to another thread and back. */
export const SMALL_NAR_BYTES: number = 256 * 1024;

/** Of a window, which takes memory that nobody admitted. */
const MAX_WINDOW_LOG = 23;

/**
 * Whether a file is one zstd frame, and nothing else, that holds this NAR. Most NARs are small and packed so, and are
 * found right in a tenth of the time that a stream takes. `false` says nothing: the stream's decoder knows.
 */
export function isPlainlyRight(file: Buffer, { narHash, narSize }: NarFacts): boolean {
  try {
    const scanner = createZstdScanner();
    scanner.write(file);
    scanner.end();
    if (scanner.frames !== 1) return false;
    const nar = zstdDecompressSync(file, {
      maxOutputLength: narSize,
      chunkSize: narSize + 64,
      params: { [constants.ZSTD_d_windowLogMax]: MAX_WINDOW_LOG },
    });
    return nar.length === narSize && createHash("sha256").update(nar).digest("hex") === narHash;
  } catch {
    return false;
  }
}
