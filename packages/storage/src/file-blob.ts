import type { FileHandle } from "node:fs/promises";
import type { Writable } from "node:stream";

import { CacheError, cancelledError } from "@glorious/core";

import type { Blob, ByteRange } from "./blob-store.ts";
import { createBufferPool } from "./buffer-pool.ts";
import { fromSystemError } from "./system-errors.ts";

/** Pieces of this size kept one connection and sixteen busiest in measurements. */
const PIECE_BYTES = 512 * 1024;
/** For small blobs, and for everybody when slow readers hold all large buffers. */
const SMALL_PIECE_BYTES = 64 * 1024;
const MAX_POOLED_BUFFERS = 64;

const sendBuffers = createBufferPool(PIECE_BYTES, MAX_POOLED_BUFFERS);

/** What {@link FileBlob} reads. */
export interface FileBlobOptions {
  readonly key: string;
  /** The size of the whole file. */
  readonly sizeBytes: number;
  readonly range: ByteRange;
  readonly signal: AbortSignal | undefined;
}

/** A range of an open file. It owns the handle and closes it after reading, or when disposed of. */
export class FileBlob implements Blob {
  readonly sizeBytes: number;
  readonly range: ByteRange;
  readonly #key: string;
  readonly #file: FileHandle;
  readonly #signal: AbortSignal | undefined;
  #isUsed = false;
  #closing: Promise<void> | undefined;

  constructor(file: FileHandle, options: FileBlobOptions) {
    this.#file = file;
    this.#key = options.key;
    this.#signal = options.signal;
    this.sizeBytes = options.sizeBytes;
    this.range = options.range;
  }

  stream(): AsyncIterable<Buffer> {
    this.#use();
    return this.#chunks();
  }

  async sendTo(writable: Writable, signal?: AbortSignal): Promise<void> {
    this.#use();
    try {
      await this.#send(writable, signal);
    } finally {
      await this.#close();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#close();
  }

  #use(): void {
    if (this.#isUsed) throw new Error(`The blob ${this.#key} was read already`);
    this.#isUsed = true;
  }

  async *#chunks(): AsyncGenerator<Buffer, void, undefined> {
    let position = this.range.start;
    const readNext = async (): Promise<Buffer> => {
      const chunk = Buffer.allocUnsafe(Math.min(PIECE_BYTES, this.range.end - position));
      return chunk.subarray(0, await this.#read(chunk, position));
    };
    let reading: Promise<Buffer> | undefined;
    try {
      while (position < this.range.end) {
        const chunk = await (reading ?? readNext());
        position += chunk.length;
        reading = position < this.range.end ? readNext() : undefined;
        // Its error is thrown when the consumer comes for it.
        reading?.catch(() => {});
        this.#requireWanted(this.#signal);
        yield chunk;
      }
    } finally {
      await this.#close();
    }
  }

  async #send(writable: Writable, signal: AbortSignal | undefined): Promise<void> {
    let position = this.range.start;
    const remainingBytes = this.range.end - position;
    this.#requireWanted(signal);
    this.#requireWanted(this.#signal);
    if (remainingBytes === 0) return;

    using end = watchForEnd(writable, this.#key, [signal, this.#signal]);
    const buffers = takeBuffers(remainingBytes);
    const lent = new Set<Buffer>();
    const readInto = (buffer: Buffer): Promise<number> =>
      this.#read(buffer.subarray(0, Math.min(buffer.length, this.range.end - position)), position);
    let reading = readInto(buffers.present);
    try {
      while (position < this.range.end) {
        const present = buffers.present;
        const pieceBytes = await end.orGone(reading);
        position += pieceBytes;
        if (position < this.range.end) {
          buffers.swap();
          reading = readInto(buffers.present);
          reading.catch(() => {});
        }
        lent.add(present);
        const writing = write(writable, present.subarray(0, pieceBytes)).then(() => {
          lent.delete(present);
        });
        await end.orGone(writing);
      }
    } catch (error) {
      throw end.explain(error);
    } finally {
      // A buffer is free only when the file system and the writable have both let go of it.
      await reading.catch(() => {});
      buffers.release(lent);
    }
  }

  /** Reads at least one byte. */
  async #read(into: Buffer, position: number): Promise<number> {
    let bytesRead: number;
    try {
      ({ bytesRead } = await this.#file.read(into, 0, into.length, position));
    } catch (error) {
      throw fromSystemError(error, `read ${this.#key}`);
    }
    if (bytesRead > 0) return bytesRead;
    throw new CacheError(
      "CORRUPT",
      `The blob ${this.#key} ends at byte ${position}, it had ${this.sizeBytes} bytes when it was opened`,
      { hint: "Something else writes to the data directory; put the blob again." },
    );
  }

  #requireWanted(signal: AbortSignal | undefined): void {
    if (signal?.aborted === true) throw cancelledError(`Reading ${this.#key}`, signal);
  }

  #close(): Promise<void> {
    this.#closing ??= this.#file.close();
    return this.#closing;
  }
}

interface BufferPair {
  /** The buffer to read into next. */
  readonly present: Buffer;
  swap(): void;
  /** Gives both back, except those that are still lent. */
  release(lent: ReadonlySet<Buffer>): void;
}

function takeBuffers(remainingBytes: number): BufferPair {
  const take = (): Buffer => {
    const pooled = remainingBytes > SMALL_PIECE_BYTES ? sendBuffers.take() : undefined;
    return pooled ?? Buffer.allocUnsafe(Math.min(remainingBytes, SMALL_PIECE_BYTES));
  };
  let present = take();
  // What one read gives needs no second buffer.
  let other: Buffer | undefined;
  return {
    get present() {
      return present;
    },
    swap() {
      [present, other] = [other ?? take(), present];
    },
    release(lent) {
      for (const buffer of [present, other]) {
        if (buffer === undefined) continue;
        if (lent.has(buffer)) sendBuffers.abandon(buffer);
        else sendBuffers.give(buffer);
      }
    },
  };
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

function watchForEnd(
  writable: Writable,
  key: string,
  signals: readonly (AbortSignal | undefined)[],
): EndWatch {
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
  for (const signal of signals) signal?.addEventListener("abort", onAbort);
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
      for (const signal of signals) signal?.removeEventListener("abort", onAbort);
    },
  };
}
