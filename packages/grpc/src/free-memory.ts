/** Smaller pieces are mostly parts of memory that others share, and too few bytes to matter. */
const LEAST_BYTES = 16 * 1024;

/**
 * Gives the memory of bytes back at once, when they are all there is in it; the collector comes by late, as large pieces
 * outside of its heap hardly count for it. Whoever still has a view of them finds it empty.
 *
 * Only for memory that no system call reads or writes any more.
 */
export function freeMemory({ buffer, byteLength }: Uint8Array): void {
  if (byteLength < LEAST_BYTES || byteLength !== buffer.byteLength) return;
  if (buffer instanceof ArrayBuffer) buffer.transfer(0);
}
