/** Equal buffers for the chunks of streams, used again and again: as garbage they outweigh everything else. */
export interface ChunkBuffers {
  /** A buffer with any content. */
  take(): Buffer;
  /** Gives a buffer back, by any part of it, that nothing reads or writes any more. One that never comes is no loss. */
  give(chunk: Uint8Array): void;
}

/** @param options.maxIdle Buffers kept while nobody needs them. */
export function createChunkBuffers(options: {
  readonly chunkBytes: number;
  readonly maxIdle: number;
}): ChunkBuffers {
  const idle: Buffer[] = [];
  /** Those that somebody has, by their memory. */
  const taken = new WeakMap<ArrayBufferLike, Buffer>();
  return {
    take() {
      const buffer = idle.pop() ?? Buffer.allocUnsafeSlow(options.chunkBytes);
      taken.set(buffer.buffer, buffer);
      return buffer;
    },
    give({ buffer: memory }) {
      const buffer = taken.get(memory);
      if (buffer === undefined) return;
      taken.delete(memory);
      if (idle.length < options.maxIdle) idle.push(buffer);
    },
  };
}
