import { createReadStream } from "node:fs";
import { open, readdir, rename, rm, stat, unlink } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";

import { CacheError, cancelledError, type Logger, silentLogger } from "@glorious/core";

import { type BlobKey, isBlobKey, parseBlobKey, parseBlobKeyPrefix } from "./blob-key.ts";
import type {
  AdoptOptions,
  Blob,
  BlobStat,
  BlobStore,
  CleanUpOptions,
  CleanUpResult,
  GetOptions,
  PutOptions,
  PutResult,
} from "./blob-store.ts";
import { writeBlob } from "./blob-writer.ts";
import { resolveRange } from "./byte-range.ts";
import {
  createDirectoryMaker,
  type DirectoryMaker,
  type FsyncPolicy,
  makeDurableDirectory,
} from "./durable-directory.ts";
import { FileBlob } from "./file-blob.ts";
import { openFile } from "./open-file.ts";
import { onDisk, onDiskIfPresent, systemErrorCode } from "./system-errors.ts";
import { openWriterDirectory, removeDeadWriters, type WriterDirectory } from "./writer-lock.ts";

/** Options of {@link openFilesystemStore}. */
export interface FilesystemStoreOptions {
  /** Made when absent, for this user only. Several processes may share it. */
  readonly directory: string;
  /** See {@link FsyncPolicy}; default `full`. */
  readonly fsync?: FsyncPolicy;
  /** It was filled before: a folder without a store is refused instead of made into one. Default false. */
  readonly mustExist?: boolean;
  readonly logger?: Logger;
}

const BLOBS = "blobs";
const DAY_MS = 86_400_000;
const STATS_AT_ONCE = 32;
const COPY_BYTES = 2 ** 20;

/**
 * Opens a blob store in a directory, and removes what dead writers left there.
 *
 * A blob lies at `blobs/<namespace>/<2 characters>/<1 character>/<name>`; it is written in
 * `tmp/<writer>/` on the same file system, flushed, renamed, and its directory flushed.
 *
 * What is absent is so only while the store's own folder is there: when its volume is unmounted, whatever is asked for is
 * `UNAVAILABLE`, and nothing is written into the place where it was.
 *
 * @throws {CacheError} `CONFIG`, `UNAVAILABLE` or `STORAGE_FULL` when the directory cannot be used.
 */
export async function openFilesystemStore(options: FilesystemStoreOptions): Promise<BlobStore> {
  const { fsync = "full", mustExist = false, logger = silentLogger } = options;
  const directory = resolve(options.directory);
  const blobDirectory = join(directory, BLOBS);
  const tempDirectory = join(directory, "tmp");
  return onDisk(`open the store in ${directory}`, async () => {
    if (mustExist && !(await isThere(blobDirectory))) throw noStoreIn(directory, blobDirectory);
    await makeDurableDirectory(blobDirectory, fsync);
    await makeDurableDirectory(tempDirectory, fsync);
    // Not from the top: what made the store's own folder again would hide that its volume is away.
    const directories = createDirectoryMaker(blobDirectory, fsync);
    const writer = await openWriterDirectory(tempDirectory);
    const store = new FilesystemStore({ directory, directories, writer, fsync });
    const removed = await store.cleanUp();
    if (removed.removedFiles > 0)
      logger.info("removed unfinished blobs of dead writers", { ...removed });
    return store;
  });
}

function noStoreIn(directory: string, blobDirectory: string): CacheError {
  return new CacheError(
    "CONFIG",
    `The stored objects are gone: there is no store in ${directory}`,
    {
      hint: `Mount its volume and start again. If they are lost for good, make the folder ${blobDirectory}: they are absent then, until they are pushed again.`,
    },
  );
}

async function isThere(directory: string): Promise<boolean> {
  return (await onDiskIfPresent("look at the store", () => stat(directory))) !== undefined;
}

interface FilesystemStoreParts {
  readonly directory: string;
  readonly directories: DirectoryMaker;
  readonly writer: WriterDirectory;
  readonly fsync: FsyncPolicy;
}

class FilesystemStore implements BlobStore {
  readonly #blobDirectory: string;
  readonly #tempDirectory: string;
  readonly #directories: DirectoryMaker;
  readonly #writer: WriterDirectory;
  readonly #fsync: FsyncPolicy;
  readonly #running = new Set<Promise<unknown>>();
  #tempFiles = 0;
  #ping: Promise<void> | undefined;
  #closing: Promise<void> | undefined;

  constructor(parts: FilesystemStoreParts) {
    this.#blobDirectory = join(parts.directory, BLOBS);
    this.#tempDirectory = join(parts.directory, "tmp");
    this.#directories = parts.directories;
    this.#writer = parts.writer;
    this.#fsync = parts.fsync;
  }

  put(
    source: AsyncIterable<Uint8Array>,
    options: PutOptions & { readonly key: string },
  ): Promise<PutResult>;
  put(source: AsyncIterable<Uint8Array>, options: PutOptions): Promise<PutResult | undefined>;
  async put(
    source: AsyncIterable<Uint8Array>,
    options: PutOptions,
  ): Promise<PutResult | undefined> {
    return this.#run(() => this.#put(source, options));
  }

  adopt(file: string, options: AdoptOptions): Promise<void> {
    return this.#run(() => this.#adopt(file, options));
  }

  async get(key: string, { range, signal }: GetOptions = {}): Promise<Blob | undefined> {
    const path = this.#pathOf(parseBlobKey(key));
    if (signal?.aborted === true) throw cancelledError(`Reading ${key}`, signal);
    const file = await onDiskIfPresent(`open ${key}`, () => openFile(path));
    if (file === undefined) return this.#absent();
    try {
      return new FileBlob(file, { key, range: resolveRange(range, file.sizeBytes, key), signal });
    } catch (error) {
      file.close();
      throw error;
    }
  }

  async stat(key: string): Promise<BlobStat | undefined> {
    return (await statBlob(key, this.#pathOf(parseBlobKey(key)))) ?? this.#absent();
  }

  locate(key: string): string {
    return `${BLOBS}/${relativePath(parseBlobKey(key))}`;
  }

  async delete(key: string): Promise<boolean> {
    const path = this.#pathOf(parseBlobKey(key));
    const deleted = await onDiskIfPresent(`delete ${key}`, async () => {
      await unlink(path);
      // Whoever forgets the blob now must not find it back after a power cut: nobody would ever delete it.
      await this.#directories.sync(dirname(path));
      return true;
    });
    return deleted ?? (await this.#absent()) ?? false;
  }

  async *list(prefix: string): AsyncGenerator<BlobStat, void, undefined> {
    const { namespace, name, hasSlash } = parseBlobKeyPrefix(prefix);
    await this.#absent();
    const namespaces = hasSlash ? [namespace] : await listNames(this.#blobDirectory, namespace);
    for (const each of namespaces) {
      const top = join(this.#blobDirectory, each);
      for (const first of await listNames(top, name.slice(0, 2))) {
        for (const second of await listNames(join(top, first), name.slice(2, 3))) {
          yield* statAll(each, join(top, first, second), name);
        }
      }
    }
  }

  async cleanUp({ olderThanMs = DAY_MS, signal }: CleanUpOptions = {}): Promise<CleanUpResult> {
    return onDisk("remove unfinished blobs", () =>
      removeDeadWriters(this.#tempDirectory, {
        olderThanMs,
        signal,
        onDeadWriter: async (id) => {
          await rm(this.#pathOf(parseBlobKey(pingKey(id))), { force: true });
        },
      }),
    );
  }

  ping(): Promise<void> {
    // Pings share one key, so they share one run.
    this.#ping ??= this.#pingOnce().finally(() => (this.#ping = undefined));
    return this.#ping;
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#closing ??= Promise.allSettled(this.#running).then(() =>
      this.#writer[Symbol.asyncDispose](),
    );
    return this.#closing;
  }

  /** Work that closing waits for. */
  async #run<Result>(work: () => Promise<Result>): Promise<Result> {
    if (this.#closing !== undefined) throw new Error("The blob store is closed");
    const running = work();
    this.#running.add(running);
    try {
      return await running;
    } finally {
      this.#running.delete(running);
    }
  }

  async #adopt(file: string, { key, signal }: AdoptOptions): Promise<void> {
    const path = this.#pathOf(parseBlobKey(key));
    if (signal?.aborted === true) throw cancelledError(`Storing ${key}`, signal);
    await this.#whileThere(`store ${key}`, async () => {
      if (this.#fsync === "full") await flushFile(file);
      try {
        await this.#place(file, path);
      } catch (error) {
        if (systemErrorCode(error) !== "EXDEV") throw error;
        await this.#put(createReadStream(file, { highWaterMark: COPY_BYTES }), { key, signal });
        await unlink(file);
      }
    });
  }

  async #put(
    source: AsyncIterable<Uint8Array>,
    options: PutOptions,
  ): Promise<PutResult | undefined> {
    if (typeof options.key === "string") parseBlobKey(options.key);
    const tempPath = join(this.#writer.path, String((this.#tempFiles += 1)));
    const file = await this.#whileThere("create a blob", () => open(tempPath, "wx", 0o600));
    let isPlaced = false;
    let closing: Promise<void> | undefined;
    try {
      let written;
      try {
        written = await writeBlob(source, file, options);
        if (this.#fsync === "full") await onDisk("flush a blob", () => file.sync());
      } finally {
        closing = onDisk("close a blob", () => file.close());
        closing.catch(() => {});
        // A flushed file has no more to say, and every way to the thread pool waits behind others' flushes.
        if (this.#fsync === "none") await closing;
      }
      const key = typeof options.key === "string" ? options.key : await options.key(written);
      if (key === undefined) return undefined;
      const path = this.#pathOf(parseBlobKey(key));
      if (options.signal?.aborted === true) throw cancelledError("Storing a blob", options.signal);
      await this.#whileThere(`store ${key}`, () => this.#place(tempPath, path));
      isPlaced = true;
      return { key, ...written };
    } finally {
      await closing?.catch(() => {});
      if (!isPlaced) await rm(tempPath, { force: true });
    }
  }

  /** Says that something is absent, unless all is. */
  async #absent(): Promise<undefined> {
    if (await isThere(this.#blobDirectory)) return undefined;
    throw new CacheError("UNAVAILABLE", "The folder of the stored objects is gone", {
      hint: "Mount the volume of the server's store again; until then nothing counts as lost.",
    });
  }

  async #whileThere<T>(action: string, work: () => Promise<T>): Promise<T> {
    return onDisk(action, async () => {
      try {
        return await work();
      } catch (error) {
        if (systemErrorCode(error) === "ENOENT") await this.#absent();
        throw error;
      }
    });
  }

  /** Gives a finished file its name, replacing what had it. */
  async #place(tempPath: string, path: string): Promise<void> {
    const directory = dirname(path);
    await this.#directories.ensure(directory);
    try {
      await rename(tempPath, path);
    } catch (error) {
      if (systemErrorCode(error) !== "ENOENT") throw error;
      this.#directories.forget(directory);
      await this.#directories.ensure(directory);
      await rename(tempPath, path);
    }
    await this.#directories.sync(directory);
  }

  async #pingOnce(): Promise<void> {
    const key = pingKey(this.#writer.id);
    const bytes = Buffer.from(`${key} ${Date.now()}`);
    const source = (async function* () {
      yield bytes;
    })();
    await this.put(source, { key });
    try {
      const blob = await this.get(key);
      if (blob === undefined) throw new CacheError("UNAVAILABLE", "A blob just stored is absent");
      const found = Buffer.concat(await Array.fromAsync(blob.stream()));
      if (!found.equals(bytes)) {
        throw new CacheError("UNAVAILABLE", "A blob just stored reads back with other bytes");
      }
    } finally {
      await this.delete(key);
    }
  }

  /** Short names are padded with a character that no name has. */
  #pathOf(key: BlobKey): string {
    return join(this.#blobDirectory, relativePath(key));
  }
}

async function flushFile(path: string): Promise<void> {
  const file = await open(path, "r+");
  try {
    await file.sync();
  } finally {
    await file.close();
  }
}

function relativePath({ namespace, name }: BlobKey): string {
  const first = name.slice(0, 2).padEnd(2, "_");
  const second = name.slice(2, 3).padEnd(1, "_");
  return `${namespace}/${first}/${second}/${name}`;
}

/** One key for each writer: pings of several processes do not meet. */
function pingKey(writerId: string): string {
  return `ping/writer-${writerId}`;
}

async function statBlob(key: string, path: string): Promise<BlobStat | undefined> {
  const found = await onDiskIfPresent(`look at ${key}`, () => stat(path));
  if (found === undefined || !found.isFile()) return undefined;
  return { key, sizeBytes: found.size, modifiedAtMs: found.mtimeMs };
}

/** The names in a directory that start with `prefix`; none when the directory is absent. */
async function listNames(directory: string, prefix: string): Promise<string[]> {
  const names = await onDiskIfPresent(`list ${basename(directory)}`, () => readdir(directory));
  return (names ?? []).filter((name) => name.startsWith(prefix));
}

async function* statAll(
  namespace: string,
  directory: string,
  prefix: string,
): AsyncGenerator<BlobStat, void, undefined> {
  const names = await listNames(directory, prefix);
  for (let start = 0; start < names.length; start += STATS_AT_ONCE) {
    const stats = names
      .slice(start, start + STATS_AT_ONCE)
      .filter((name) => isBlobKey(`${namespace}/${name}`))
      .map((name) => statBlob(`${namespace}/${name}`, join(directory, name)));
    for (const found of await Promise.all(stats)) {
      if (found !== undefined) yield found;
    }
  }
}
