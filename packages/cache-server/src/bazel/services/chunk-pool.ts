import { type ChunkBuffers, createChunkBuffers } from "@glorious/storage";

/** Hundreds of blobs may be on their way at once. */
export const CHUNK_BYTES: number = 128 * 1024;
/** Of chunks that nobody needs just now. */
const MAX_IDLE_CHUNKS = 128;

/** What blobs pass through between files and connections, either way. */
export const chunkPool: ChunkBuffers = createChunkBuffers({
  chunkBytes: CHUNK_BYTES,
  maxIdle: MAX_IDLE_CHUNKS,
});
