import { zstdDecompressSync } from "node:zlib";

import { CacheError } from "@glorious/core";
import { createZstdFrameReader, decodeZstd } from "@glorious/nix-store";

/** Frames that need more memory than this to decode are refused: readers would have to have it too. */
const MAX_WINDOW_LOG = 23;

/** The most bytes that an encoding of so many may have; honest encoders stay far below. */
export function maxEncodedBytes(sizeBytes: number): number {
  return sizeBytes + Math.ceil(sizeBytes / 64) + 1024;
}

/** Watches an encoding pass by. */
export interface FrameWatch {
  /** @throws {CacheError} `CORRUPT` when the bytes are no zstd stream. */
  write(chunk: Uint8Array): void;
  /**
   * Whether the encoding may be served to every client as it is: one frame without anything beside it.
   *
   * Of several frames some decoders read the first only, and skippable frames hold what no decoder shows.
   */
  readonly isServable: boolean;
}

export function watchFrames(): FrameWatch {
  let frames = 0;
  let hasSkippable = false;
  const reader = createZstdFrameReader({
    frame: ({ hasUnusedBit }) => {
      frames += 1;
      if (hasUnusedBit) hasSkippable = true;
    },
    skippable: () => {
      hasSkippable = true;
    },
  });
  return {
    write: (chunk) => reader.write(chunk),
    get isServable() {
      return frames === 1 && !hasSkippable;
    },
  };
}

/** How a blob is decoded. */
export interface DecodeBlobOptions {
  readonly signal?: AbortSignal | undefined;
  /** Neither side keeps a chunk when it asks for the next, so that no memory is left behind. */
  readonly keepsNothing?: boolean;
}

/**
 * Decodes an encoding of at most `sizeBytes`.
 *
 * @throws {CacheError} `CORRUPT` as soon as more than that comes out, and what `decodeZstd` throws.
 */
export async function* decodeBlob(
  source: AsyncIterable<Uint8Array>,
  sizeBytes: number,
  { signal, keepsNothing = false }: DecodeBlobOptions = {},
): AsyncGenerator<Buffer> {
  let decodedBytes = 0;
  const content = decodeZstd(source, {
    maxWindowLog: MAX_WINDOW_LOG,
    signal,
    consumerIsDone: keepsNothing,
    copiesSource: keepsNothing,
  });
  for await (const chunk of content) {
    decodedBytes += chunk.length;
    if (decodedBytes > sizeBytes) {
      throw new CacheError("CORRUPT", `The zstd data decodes to more than ${sizeBytes} bytes`, {
        hint: "Send the digest of the uncompressed content.",
      });
    }
    yield chunk;
  }
}

/** Decodes small bytes that {@link FrameWatch} found servable. */
export function decodeSmall(bytes: Uint8Array, sizeBytes: number): Buffer {
  return zstdDecompressSync(bytes, {
    maxOutputLength: Math.max(1, sizeBytes),
    // A byte more than there is, so that it sees the end without another piece.
    chunkSize: Math.max(64, sizeBytes + 1),
  });
}
