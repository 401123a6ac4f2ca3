import type { Writable } from "node:stream";

import type { ChunkBuffers } from "./chunk-buffers.ts";

/** What was written, measured while it passed. */
export interface Written {
  /** The SHA-256 of the bytes, 64 lowercase hex digits. */
  readonly sha256: string;
  readonly sizeBytes: number;
}

/** A blob that {@link BlobStore.put} made durable. */
export interface PutResult extends Written {
  readonly key: string;
}

/** Options of {@link BlobStore.put}. */
export interface PutOptions {
  /**
   * The name of the blob; see {@link isBlobKey} for its form.
   *
   * A function is asked after the last byte and before anything is visible, so the name may depend
   * on the content. When it gives undefined the bytes are discarded and `put` gives undefined; when
   * it throws, they are discarded and `put` throws the same.
   */
  readonly key: string | ((written: Written) => string | undefined | Promise<string | undefined>);
  /** What the bytes must turn out to be. */
  readonly expected?: { readonly sha256?: string; readonly sizeBytes?: number };
  readonly maxSizeBytes?: number;
  readonly signal?: AbortSignal | undefined;
  /** Given every chunk of the source when nothing reads it any more; not those of a put that fails. */
  readonly giveBack?: ((chunk: Uint8Array) => void) | undefined;
}

/** Options of {@link BlobStore.adopt}. */
export interface AdoptOptions {
  readonly key: string;
  readonly signal?: AbortSignal | undefined;
}

/** A part of a blob, in bytes. */
export interface ByteRange {
  readonly start: number;
  /** Exclusive. */
  readonly end: number;
}

/** Options of {@link BlobStore.get}. */
export interface GetOptions {
  /** The part to read; the whole blob by default. */
  readonly range?: ByteRange | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** An existing blob. */
export interface BlobStat {
  readonly key: string;
  readonly sizeBytes: number;
  /** When the blob was last put. */
  readonly modifiedAtMs: number;
}

/** Options of {@link Blob.stream}. */
export interface StreamOptions {
  /**
   * The largest chunk; two are in memory at once. By default what is fastest for a few readers; hundreds at a time
   * want less.
   */
  readonly chunkBytes?: number | undefined;
  /** Where the chunks' memory comes from, which then is not the consumer's: it gives each back when it has done with it. */
  readonly buffers?: ChunkBuffers | undefined;
}

/**
 * A blob opened for reading, or a part of one. Its bytes stay the same even when the blob is
 * replaced or deleted meanwhile. Dispose of it when it was not read to its end.
 */
export interface Blob extends AsyncDisposable {
  /** The size of the whole blob, whatever part is read. */
  readonly sizeBytes: number;
  /** The part that is read. */
  readonly range: ByteRange;
  /**
   * The bytes in order. Every chunk belongs to the consumer, unless it is lent from `buffers`. A blob is read once, by this or by
   * {@link Blob.sendTo}.
   */
  stream(options?: StreamOptions): AsyncIterable<Buffer>;
  /**
   * Writes all bytes to `writable` as fast as it takes them, and leaves it open.
   *
   * @throws {CacheError} `CANCELLED` when `signal` aborts or `writable` closes first; `CORRUPT` when
   * the blob is shorter than it was; a system error's code when reading fails.
   */
  sendTo(writable: Writable, signal?: AbortSignal): Promise<void>;
}

/** Options of {@link BlobStore.cleanUp}. */
export interface CleanUpOptions {
  /**
   * For drivers that cannot tell a dead writer from a living one: what is older than this may go.
   * Longer than the slowest upload. Default one day.
   */
  readonly olderThanMs?: number;
  readonly signal?: AbortSignal | undefined;
}

/** What {@link BlobStore.cleanUp} removed. */
export interface CleanUpResult {
  readonly removedFiles: number;
  readonly removedBytes: number;
}

/**
 * Keeps blobs under keys. What every driver promises, and `describeBlobStore` checks:
 *
 * - A blob is visible whole or not at all, and only after its size and hash were verified.
 * - When `put` returns, the blob survives a crash of the process, and of the machine as far as the
 *   driver's documentation says.
 * - Putting an existing key replaces the blob in one step. Readers that opened it before keep the
 *   old bytes.
 * - Absence is undefined or false, never an error.
 *
 * Every method throws `INVALID` for a key that {@link isBlobKey} refuses, `STORAGE_FULL` when no
 * room is left, and `UNAVAILABLE` when the store cannot be reached or has run out of handles.
 * Nothing in the contract assumes files: an object store fits it with one upload per `put`, copied
 * or completed to its name once the key is known.
 */
export interface BlobStore extends AsyncDisposable {
  /**
   * Stores the bytes of `source`. Its chunks are handed over: they must not change after they were
   * yielded. Memory is bounded by a few MiB or two chunks. When `put` throws, nothing is left
   * behind, and `source` is stopped if it was begun.
   *
   * @throws {CacheError} `CORRUPT` when the hash differs from the expected one, or more bytes come
   * than expected; `TRUNCATED` when fewer come; `TOO_LARGE` as soon as more than `maxSizeBytes` come
   * or are expected; `CANCELLED` when the signal aborts. Errors of `source` and of the key function
   * come through as they are.
   */
  put(
    source: AsyncIterable<Uint8Array>,
    options: PutOptions & { readonly key: string },
  ): Promise<PutResult>;
  put(source: AsyncIterable<Uint8Array>, options: PutOptions): Promise<PutResult | undefined>;

  /**
   * Makes a file of this machine a blob, as durable and as sudden as a `put` of its bytes: moved where that can be
   * done, copied otherwise. What has it open goes on reading it. The file is gone then; when this throws, it is still
   * there, or a blob.
   *
   * The caller vouches for what is in it: nothing is measured.
   *
   * @throws {CacheError} `CANCELLED` when the signal aborts.
   */
  adopt(file: string, options: AdoptOptions): Promise<void>;

  /**
   * Opens a blob, or a part of it, for reading.
   *
   * @throws {CacheError} `RANGE`, naming the size, when the range is empty or not within the blob.
   */
  get(key: string, options?: GetOptions): Promise<Blob | undefined>;

  stat(key: string): Promise<BlobStat | undefined>;

  /**
   * Where a blob's bytes would lie as a file, relative to the store's directory, with forward slashes: for web
   * servers that send files themselves. Only drivers have it that keep each blob as one file.
   */
  locate?(key: string): string;

  /** Deletes a blob, as durably as `put` stores one; false when there was none. */
  delete(key: string): Promise<boolean>;

  /**
   * The blobs whose keys start with `prefix`, in no particular order; the empty prefix means all.
   * Blobs that are put or deleted meanwhile may be missing or listed.
   */
  list(prefix: string): AsyncIterable<BlobStat>;

  /** Removes what writers left behind that died before they finished. */
  cleanUp(options?: CleanUpOptions): Promise<CleanUpResult>;

  /** Really writes, reads and deletes a blob; throws when any of it fails. */
  ping(): Promise<void>;

  /** Waits for running puts, then gives everything free. */
  [Symbol.asyncDispose](): Promise<void>;
}
