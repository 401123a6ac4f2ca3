import type { ServerCall } from "./call-receiver.ts";

/** How much memory a call would like to have. */
export interface MemoryWish {
  /** It cannot go on with less. */
  readonly leastBytes: number;
  /** It has no use for more; what is given in between makes it faster. */
  readonly mostBytes: number;
}

/** Memory that a call has, or waits for. */
export interface MemoryLease {
  /** 0 while the call waits. */
  readonly sizeBytes: number;
  /** Gives the memory back, or the wish up. */
  release(): void;
}

/**
 * Memory for requests, shared by as many connections as its owner likes. A call needs none of it for what fits its
 * first window; beyond that its client may send nothing before memory was given.
 */
export interface RequestMemory {
  /** Asks for memory. `onGranted` is called when it comes later, not when it is there at once. */
  ask(call: ServerCall, wish: MemoryWish, onGranted: () => void): MemoryLease;
}
