/** A bounded set of equal buffers that are used again and again. */
export interface BufferPool {
  /** A buffer with any content; undefined when fewer than `spare` others would be left. */
  take(spare?: number): Buffer | undefined;
  /** Gives a buffer back that nothing reads or writes any more. */
  give(buffer: Buffer): void;
  /** Gives up a buffer that somebody may still read; another takes its place. */
  abandon(buffer: Buffer): void;
}

/** What a {@link BufferPool} holds. */
export interface BufferPoolOptions {
  readonly bufferBytes: number;
  /** Buffers that may be taken at once. */
  readonly maxTaken: number;
  /** Buffers kept while nobody needs them; default all. */
  readonly maxIdle?: number;
}

/** Buffers are allocated when first needed; those given back are kept, strange ones ignored. */
export function createBufferPool(options: BufferPoolOptions): BufferPool {
  const { bufferBytes, maxTaken, maxIdle = maxTaken } = options;
  const idle: Buffer[] = [];
  const taken = new Set<Buffer>();
  return {
    take(spare = 0) {
      if (taken.size + spare >= maxTaken) return undefined;
      const buffer = idle.pop() ?? Buffer.allocUnsafeSlow(bufferBytes);
      taken.add(buffer);
      return buffer;
    },
    give(buffer) {
      if (taken.delete(buffer) && idle.length < maxIdle) idle.push(buffer);
    },
    abandon(buffer) {
      taken.delete(buffer);
    },
  };
}
