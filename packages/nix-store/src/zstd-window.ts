import { createZstdFrameReader } from "./zstd-frames.ts";

/**
 * The window that the first frame of a zstd stream asks for, in bytes; undefined when its header is not within
 * the bytes given.
 *
 * @throws {CacheError} `CORRUPT` when they are no zstd.
 */
export function readZstdWindow(head: Uint8Array): number | undefined {
  let windowBytes: number | undefined;
  const reader = createZstdFrameReader({
    frame: (header) => (windowBytes ??= header.windowBytes),
  });
  reader.write(head);
  return windowBytes;
}
