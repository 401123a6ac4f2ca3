import { randomBytes } from "node:crypto";
import { mkdir, readdir, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";

import { CacheError, cancelledError } from "@glorious/core";

import type { CleanUpResult } from "./blob-store.ts";
import { tryLockFile } from "./file-lock.ts";
import { onDiskIfPresent } from "./system-errors.ts";

/** A directory for the unfinished files of one open store. */
export interface WriterDirectory extends AsyncDisposable {
  readonly id: string;
  readonly path: string;
}

const LOCK_SUFFIX = ".lock";
const OPENING_SUFFIX = ".opening";
const WRITER_ID = /^[0-9a-f]{16}$/;

/**
 * Opens a directory of its own for one writer: `<parent>/<id>/`, guarded by a lock on
 * `<parent>/<id>.lock` that the operating system releases when the process ends, however it ends.
 *
 * The lock is SQLite's, because Node has no other portable one: it holds between processes,
 * containers and, where the network file system supports locks, machines.
 *
 * @throws {CacheError} `UNAVAILABLE` when the file system has no working locks.
 */
export async function openWriterDirectory(parent: string): Promise<WriterDirectory> {
  const id = randomBytes(8).toString("hex");
  const path = join(parent, id);
  const lockPath = path + LOCK_SUFFIX;
  // Nobody else may find the lock file before it is locked.
  const openingPath = lockPath + OPENING_SUFFIX;
  const lock = tryLockFile(openingPath);
  if (lock === undefined) {
    throw new CacheError("UNAVAILABLE", `A new lock file is locked already: ${openingPath}`);
  }
  try {
    await rename(openingPath, lockPath);
    await mkdir(path, { mode: 0o700 });
  } catch (error) {
    lock.release();
    throw error;
  }
  return {
    id,
    path,
    async [Symbol.asyncDispose]() {
      await rm(path, { recursive: true, force: true });
      await rm(lockPath, { force: true });
      lock.release();
    },
  };
}

/** Options of {@link removeDeadWriters}. */
export interface RemoveDeadWritersOptions {
  /** Lock files that were never locked go when they are older than this. */
  readonly olderThanMs: number;
  /** Told about each dead writer before its lock file goes. */
  readonly onDeadWriter: (id: string) => Promise<void>;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Removes the directories of writers that have died. A writer is dead if and only if its lock can be
 * had: a slow or suspended one keeps its files for as long as it lives.
 */
export async function removeDeadWriters(
  parent: string,
  options: RemoveDeadWritersOptions,
): Promise<CleanUpResult> {
  let removedFiles = 0;
  let removedBytes = 0;
  for (const name of await readdir(parent)) {
    if (options.signal?.aborted === true) throw cancelledError("Cleaning up", options.signal);
    const path = join(parent, name);
    if (name.endsWith(OPENING_SUFFIX)) {
      await removeOlder(path, options.olderThanMs);
      continue;
    }
    const id = name.replace(/\.lock$/, "");
    const lockPath = join(parent, id) + LOCK_SUFFIX;
    // A power cut can take the lock's name and leave the directory. A living writer has its lock from before
    // it makes its directory until after that is gone.
    const isLockLost = WRITER_ID.test(name) && !(await exists(lockPath));
    const lock = name === id ? undefined : tryLockFile(lockPath);
    if (lock === undefined && !isLockLost) continue;
    try {
      const removed = await removeFiles(join(parent, id));
      removedFiles += removed.removedFiles;
      removedBytes += removed.removedBytes;
      await options.onDeadWriter(id);
      await rm(lockPath, { force: true });
    } finally {
      lock?.release();
    }
  }
  return { removedFiles, removedBytes };
}

async function removeOlder(path: string, olderThanMs: number): Promise<void> {
  const found = await onDiskIfPresent(`look at ${path}`, () => stat(path));
  if (found !== undefined && Date.now() - found.mtimeMs > olderThanMs) {
    await rm(path, { force: true });
  }
}

async function exists(path: string): Promise<boolean> {
  return (await onDiskIfPresent(`look at ${path}`, () => stat(path))) !== undefined;
}

async function removeFiles(directory: string): Promise<CleanUpResult> {
  const names = (await onDiskIfPresent(`list ${directory}`, () => readdir(directory))) ?? [];
  let removedBytes = 0;
  for (const name of names) {
    const found = await onDiskIfPresent(`look at ${name}`, () => stat(join(directory, name)));
    removedBytes += found?.size ?? 0;
  }
  await rm(directory, { recursive: true, force: true });
  return { removedFiles: names.length, removedBytes };
}
