const MIB = 2 ** 20;

/**
 * The stored encoding of a NAR: what {@link encodeNar} writes and what {@link createZstdScanner}
 * accepts from a client.
 *
 * A NAR is one zstd object of frames that decode on their own. Every frame states its content size,
 * so a reader knows from a few bytes how much memory the rest can ask for.
 */
export const NAR_ENCODING: {
  /** NAR bytes in every frame that {@link encodeNar} writes, apart from the last. */
  readonly frameBytes: number;
  /** The least content of an accepted frame that is not the last one, in bytes. */
  readonly minFrameBytes: number;
  /** The most content of an accepted frame, in bytes. */
  readonly maxFrameBytes: number;
  /** The largest window a reader has to keep in memory, in bytes. */
  readonly maxWindowBytes: number;
  /** The least average content of the blocks in an accepted frame, in bytes. */
  readonly minAverageBlockBytes: number;
  /** The most an encoded NAR may be larger than the NAR; see {@link maxEncodedBytes}. */
  readonly maxOverheadRatio: number;
  /** The zstd level of {@link encodeNar}. */
  readonly level: number;
} = Object.freeze({
  frameBytes: 8 * MIB,
  minFrameBytes: 64 * 1024,
  maxFrameBytes: 16 * MIB,
  maxWindowBytes: 8 * MIB,
  minAverageBlockBytes: 1024,
  maxOverheadRatio: 1.01,
  level: 3,
});

/** Headers of a tiny NAR weigh more than 1 %; no encoder needs more than this for one frame. */
const FIXED_OVERHEAD_BYTES = 64;

/**
 * The largest acceptable encoded size of a NAR, in bytes; what is larger was padded and is encoded
 * again.
 */
export function maxEncodedBytes(narSizeBytes: number): number {
  return Math.floor(narSizeBytes * NAR_ENCODING.maxOverheadRatio) + FIXED_OVERHEAD_BYTES;
}
