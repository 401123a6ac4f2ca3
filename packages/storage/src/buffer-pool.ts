/** A bounded set of equal buffers that are used again and again. */
export interface BufferPool {
  /** A buffer with any content; undefined when fewer than `spare` others would be left. */
  take(spare?: number): Buffer | undefined;
  /** Gives a buffer back that nothing reads or writes any more. */
  give(buffer: Buffer): void;
  /** Gives up a buffer that somebody may still read; another takes its place. */
  abandon(buffer: Buffer): void;
}

/** Buffers are allocated when first needed and then kept; other buffers given back are ignored. */
export function createBufferPool(bufferBytes: number, maxBuffers: number): BufferPool {
  const idle: Buffer[] = [];
  const taken = new Set<Buffer>();
  return {
    take(spare = 0) {
      if (taken.size + spare >= maxBuffers) return undefined;
      const buffer = idle.pop() ?? Buffer.allocUnsafeSlow(bufferBytes);
      taken.add(buffer);
      return buffer;
    },
    give(buffer) {
      if (taken.delete(buffer)) idle.push(buffer);
    },
    abandon(buffer) {
      taken.delete(buffer);
    },
  };
}
