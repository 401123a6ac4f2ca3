import type { Writable } from "node:stream";

import { CacheError, cancelledError } from "@glorious/core";

import type { ByteRange } from "./blob-store.ts";
import { createBufferPool } from "./buffer-pool.ts";

/** Pieces of this size kept one connection and sixteen busiest in measurements. */
const LARGE_PIECE_BYTES = 512 * 1024;
const MAX_LARGE_BUFFERS = 40;
/** For more readers than that: a way to the thread pool and back still counts for little. */
const MEDIUM_PIECE_BYTES = 192 * 1024;
const MAX_MEDIUM_BUFFERS = 128;
/** For small blobs, for newcomers while many hold large buffers, and for readers slower than the disk by far. */
const SMALL_PIECE_BYTES = 32 * 1024;
const MAX_IDLE_SMALL_BUFFERS = 256;
/** Kept for readers that have shown to be fast: a crowd of slow newcomers cannot take all. */
const LARGE_FOR_FAST = 8;
const MEDIUM_FOR_FAST = 112;

/** A reader that leaves a piece waiting for this long is slow. */
const SLOW_AFTER_MS = 100;
/** A slow reader that takes so much in so little time is slow no more. */
const RECOVERED_BYTES = 2 ** 20;
const RECOVERED_WITHIN_MS = 250;

const largeBuffers = createBufferPool({
  bufferBytes: LARGE_PIECE_BYTES,
  maxTaken: MAX_LARGE_BUFFERS,
});
const mediumBuffers = createBufferPool({
  bufferBytes: MEDIUM_PIECE_BYTES,
  maxTaken: MAX_MEDIUM_BUFFERS,
});
/** One or two for each reader; used again, because garbage of this kind outweighs everything else. */
const smallBuffers = createBufferPool({
  bufferBytes: SMALL_PIECE_BYTES,
  maxTaken: Infinity,
  maxIdle: MAX_IDLE_SMALL_BUFFERS,
});

const POOLS = [largeBuffers, mediumBuffers, smallBuffers];

/** What {@link sendRange} reads. */
export interface SendSource {
  readonly key: string;
  readonly range: ByteRange;
  /** Reads at least one byte. */
  read(into: Buffer, position: number): Promise<number>;
}

/**
 * Writes a range to `writable` as fast as it takes it: the next read is under way while the present piece is
 * written.
 *
 * A reader is fast until it leaves a piece waiting. A slow one holds one small piece and has nothing read ahead;
 * larger buffers come from pools for all, together 44 MiB. A thousand slow readers so hold 32 MiB plus what they
 * were caught with, and do not slow the fast ones down.
 *
 * @throws {CacheError} `CANCELLED` when a signal aborts or `writable` closes first; what `read` throws.
 */
export async function sendRange(
  source: SendSource,
  writable: Writable,
  signals: readonly AbortSignal[],
): Promise<void> {
  const { end } = source.range;
  let position = source.range.start;
  using ending = watchForEnd(writable, source.key, signals);
  const pace = new Pace();

  let next = startRead(source, position, pace);
  /** Buffers of ours that the writable has not let go of. */
  const lent = new Set<Buffer>();
  try {
    while (next !== undefined) {
      const present: PendingRead = next;
      const pieceBytes = await ending.orGone(present.bytesRead);
      position += pieceBytes;
      next = pace.isSlow ? undefined : startRead(source, position, pace);
      lent.add(present.buffer);
      const written = write(writable, present.buffer.subarray(0, pieceBytes)).then(() => {
        lent.delete(present.buffer);
        giveBuffer(present.buffer);
      });
      if (!(await ending.orGone(pace.watch(written, writable, pieceBytes)))) {
        // What was read ahead for somebody who does not come for it; it is read again later.
        if (next !== undefined) await release(next);
        next = undefined;
        await ending.orGone(written);
        pace.restart();
      }
      next ??= position < end ? startRead(source, position, pace) : undefined;
    }
  } catch (error) {
    throw ending.explain(error);
  } finally {
    if (next !== undefined) await release(next);
    for (const buffer of lent) {
      for (const pool of POOLS) pool.abandon(buffer);
    }
  }
}

interface PendingRead {
  readonly buffer: Buffer;
  readonly bytesRead: Promise<number>;
}

/** Starts to read the piece at `position`; `undefined` behind the last one. */
function startRead(source: SendSource, position: number, pace: Pace): PendingRead | undefined {
  const remainingBytes = source.range.end - position;
  if (remainingBytes === 0) return undefined;
  const buffer = takeBuffer(remainingBytes, pace);
  const target = buffer.length > remainingBytes ? buffer.subarray(0, remainingBytes) : buffer;
  const bytesRead = source.read(target, position);
  // Its error is thrown when its turn comes.
  bytesRead.catch(() => {});
  return { buffer, bytesRead };
}

function takeBuffer(remainingBytes: number, pace: Pace): Buffer {
  if (remainingBytes > SMALL_PIECE_BYTES && !pace.isSlow) {
    const buffer =
      largeBuffers.take(pace.isFast ? 0 : LARGE_FOR_FAST) ??
      mediumBuffers.take(pace.isFast ? 0 : MEDIUM_FOR_FAST);
    if (buffer !== undefined) return buffer;
  }
  return smallBuffers.take() ?? Buffer.allocUnsafeSlow(SMALL_PIECE_BYTES);
}

function giveBuffer(buffer: Buffer): void {
  for (const pool of POOLS) pool.give(buffer);
}

/** A buffer is free only when the file system has let go of it. */
async function release({ buffer, bytesRead }: PendingRead): Promise<void> {
  await bytesRead.catch(() => {});
  giveBuffer(buffer);
}

/** How a reader takes what it is given. */
class Pace {
  /** It has kept a piece waiting, as any network does, but not for long. */
  isFast = false;
  isSlow = false;
  #sinceMs = 0;
  #takenBytes = 0;

  /** Resolves with true when the piece has gone, and with false when it is still waiting after a while. */
  watch(written: Promise<void>, writable: Writable, pieceBytes: number): Promise<boolean> {
    const { promise, resolve, reject } = Promise.withResolvers<boolean>();
    let isWaiting = false;
    // A response passes on what it was given at the end of the turn.
    process.nextTick(() => {
      isWaiting = writable.writableLength > 0;
    });
    const timer = setTimeout(() => {
      this.isSlow = true;
      this.isFast = false;
      resolve(false);
    }, SLOW_AFTER_MS);
    written
      .then(() => {
        if (this.isSlow) this.#recover(pieceBytes);
        else if (isWaiting) this.isFast = true;
        resolve(true);
      })
      .catch(reject)
      .finally(() => clearTimeout(timer));
    return promise;
  }

  /** Begins to count anew whether the reader has become faster. */
  restart(): void {
    this.#sinceMs = performance.now();
    this.#takenBytes = 0;
  }

  #recover(pieceBytes: number): void {
    if (performance.now() - this.#sinceMs > RECOVERED_WITHIN_MS) this.restart();
    this.#takenBytes += pieceBytes;
    if (this.#takenBytes >= RECOVERED_BYTES) this.isSlow = false;
  }
}

function write(writable: Writable, piece: Buffer): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  writable.write(piece, (error) => {
    if (error === null || error === undefined) resolve();
    else reject(error);
  });
  // Its error may come after the loop has stopped for another reason.
  promise.catch(() => {});
  return promise;
}

interface EndWatch extends Disposable {
  /** The outcome of `work`, or an error as soon as the writable closes or a signal aborts. */
  orGone<T>(work: Promise<T>): Promise<T>;
  /** Says that the reader went away, for an error of the writable. */
  explain(error: unknown): unknown;
}

function watchForEnd(writable: Writable, key: string, signals: readonly AbortSignal[]): EndWatch {
  let gone: CacheError | undefined;
  let rejectWaiting: ((error: CacheError) => void) | undefined;
  const leave = (error: CacheError): void => {
    gone ??= error;
    rejectWaiting?.(gone);
  };
  const goneError = (cause: unknown): CacheError =>
    new CacheError("CANCELLED", `The reader of ${key} went away`, { cause });
  const onClose = (): void => leave(goneError(undefined));
  const onError = (error: unknown): void => leave(goneError(error));
  const onAbort = (event: Event): void => {
    if (event.target instanceof AbortSignal) {
      leave(cancelledError(`Reading ${key}`, event.target));
    }
  };
  writable.on("close", onClose);
  writable.on("error", onError);
  for (const signal of signals) signal.addEventListener("abort", onAbort);
  if (writable.destroyed) onClose();
  return {
    orGone<T>(work: Promise<T>) {
      // Not a race against one long promise: that would keep something of every piece until the end.
      const { promise, resolve, reject } = Promise.withResolvers<T>();
      rejectWaiting = reject;
      if (gone !== undefined) reject(gone);
      work.then(resolve, reject);
      return promise;
    },
    explain: (error) => (error instanceof CacheError ? error : goneError(error)),
    [Symbol.dispose]() {
      writable.off("close", onClose);
      writable.off("error", onError);
      for (const signal of signals) signal.removeEventListener("abort", onAbort);
    },
  };
}
