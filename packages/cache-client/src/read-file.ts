import { close, constants, fstat, open, read, type Stats } from "node:fs";
import { promisify } from "node:util";

import { CacheError } from "@glorious/core";

// Promises over bare descriptors: half the cost of FileHandle for a tree of many small files.
const openFile = promisify(open) as (path: Buffer, flags: number) => Promise<number>;
const statFile = promisify(fstat) as (descriptor: number) => Promise<Stats>;
const closeFile = promisify(close);

// NOFOLLOW and NONBLOCK: what was a file when listed may be a link or a pipe now.
const FLAGS = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
const CHUNK_BYTES = 2 ** 20;
/** One in the consumer's hands, one it kept back, one being read ahead, and one to spare. */
const REUSED_BUFFERS = 4;

/** A regular file, read whole when it is small. */
export interface OpenedFile {
  readonly sizeBytes: number;
  readonly executable: boolean;
  readonly contents: Iterable<Uint8Array> | AsyncIterable<Uint8Array>;
}

/** How {@link openRegularFile} reads. */
export interface ReadOptions {
  /** A file of at most this size is read at once. */
  readonly wholeBytes: number;
  /** What a larger one is read into, chunk by chunk. */
  readonly nextBuffer: BufferSource;
}

/** Gives a buffer of the size asked for, or a larger one. */
export type BufferSource = (sizeBytes: number) => Buffer;

/**
 * Where chunks of large files come from. Either each is the consumer's to keep, or the same few are used again and
 * again: a chunk is good until two more have been asked for, of this file or the next.
 */
export function createBufferSource(reuseBuffers: boolean): BufferSource {
  if (!reuseBuffers) return (sizeBytes) => Buffer.allocUnsafeSlow(sizeBytes);
  const buffers: Buffer[] = [];
  let next = 0;
  return (sizeBytes) => {
    let buffer = buffers[next];
    if (buffer === undefined || buffer.length < sizeBytes) {
      buffer = Buffer.allocUnsafeSlow(sizeBytes);
      buffers[next] = buffer;
    }
    next = (next + 1) % REUSED_BUFFERS;
    return buffer;
  };
}

/**
 * Opens the regular file at `path`; a small one is read at once, in four system calls, a
 * larger one chunk by chunk when its contents are iterated. Nothing stays open in between.
 *
 * @param shown - The path for messages.
 * @throws {CacheError} `UNSUPPORTED` when it is no regular file, `CORRUPT` when it changes while it is
 * read; system errors as they are.
 */
export async function openRegularFile(
  path: Buffer,
  shown: string,
  { wholeBytes, nextBuffer }: ReadOptions,
): Promise<OpenedFile> {
  const descriptor = await openFile(path, FLAGS);
  try {
    const stats = await statFile(descriptor);
    requireRegular(stats, shown);
    // The owner's bit, as Nix looks at it.
    const executable = (stats.mode & constants.S_IXUSR) !== 0;
    if (stats.size > wholeBytes) {
      const contents = readLarge(path, shown, stats, nextBuffer);
      return { sizeBytes: stats.size, executable, contents };
    }
    const contents = await readWhole(descriptor, stats.size, shown);
    return { sizeBytes: stats.size, executable, contents: [contents] };
  } finally {
    await closeFile(descriptor);
  }
}

function requireRegular(stats: Stats, shown: string): void {
  if (!stats.isFile()) throw unsupportedFile(shown);
}

/** The error for what a NAR cannot hold. */
export function unsupportedFile(shown: string): CacheError {
  return new CacheError("UNSUPPORTED", `${shown} is no regular file, directory or symbolic link`, {
    hint: "A NAR cannot hold sockets, pipes or devices; remove it and rebuild the path.",
  });
}

async function readWhole(descriptor: number, sizeBytes: number, shown: string): Promise<Buffer> {
  // One byte more than expected, so that a file which grew is noticed by the same call.
  const buffer = Buffer.allocUnsafe(sizeBytes + 1);
  let length = 0;
  while (length <= sizeBytes) {
    const readBytes = await readAt(descriptor, buffer, length, buffer.length - length, length);
    if (readBytes === 0) break;
    length += readBytes;
  }
  if (length !== sizeBytes) throw changed(shown);
  return buffer.subarray(0, sizeBytes);
}

async function* readLarge(
  path: Buffer,
  shown: string,
  seen: Stats,
  nextBuffer: BufferSource,
): AsyncGenerator<Buffer, void, undefined> {
  const descriptor = await openFile(path, FLAGS);
  let ahead: Promise<Buffer> | undefined;
  try {
    requireUnchanged(seen, await statFile(descriptor), shown);
    const readChunk = (offset: number): Promise<Buffer> | undefined => {
      if (offset >= seen.size) return undefined;
      const chunkBytes = Math.min(CHUNK_BYTES, seen.size - offset);
      const target = nextBuffer(chunkBytes).subarray(0, chunkBytes);
      const chunk = readExactly(descriptor, offset, target, shown);
      // The consumer may stop before it asks for this one.
      chunk.catch(() => {});
      return chunk;
    };
    ahead = readChunk(0);
    for (let offset = 0; ahead !== undefined;) {
      const chunk = await ahead;
      offset += chunk.length;
      // Read the next chunk while the consumer hashes this one.
      ahead = readChunk(offset);
      yield chunk;
    }
    requireUnchanged(seen, await statFile(descriptor), shown);
  } finally {
    // A descriptor must not be closed, and its number used again, under a read that still runs.
    await ahead?.catch(() => {});
    await closeFile(descriptor);
  }
}

async function readExactly(
  descriptor: number,
  position: number,
  target: Buffer,
  shown: string,
): Promise<Buffer> {
  for (let length = 0; length < target.length;) {
    const left = target.length - length;
    const readBytes = await readAt(descriptor, target, length, left, position + length);
    if (readBytes === 0) throw changed(shown);
    length += readBytes;
  }
  return target;
}

function readAt(
  descriptor: number,
  buffer: Buffer,
  offset: number,
  length: number,
  position: number,
): Promise<number> {
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  read(descriptor, buffer, offset, length, position, (error, readBytes) => {
    if (error === null) resolve(readBytes);
    else reject(error);
  });
  return promise;
}

function requireUnchanged(before: Stats, after: Stats, shown: string): void {
  const isSame =
    before.ino === after.ino &&
    before.dev === after.dev &&
    before.size === after.size &&
    before.mtimeMs === after.mtimeMs &&
    before.ctimeMs === after.ctimeMs;
  if (!isSame) throw changed(shown);
}

function changed(shown: string): CacheError {
  return new CacheError("CORRUPT", `${shown} changed while it was read`, {
    hint: "Something writes to the Nix store; repair the path and try again.",
  });
}
