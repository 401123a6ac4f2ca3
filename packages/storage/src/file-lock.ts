import { DatabaseSync } from "node:sqlite";

import { CacheError } from "@glorious/core";

/** An exclusive lock that the operating system releases when the process ends, however it ends. */
export interface FileLock {
  release(): void;
}

const SQLITE_BUSY = 5;

/**
 * Locks a file, making it when absent; undefined when somebody else holds its lock.
 *
 * The lock is SQLite's, because Node has no other portable one: it holds between processes,
 * containers and, where the network file system supports locks, machines.
 *
 * @throws {CacheError} `UNAVAILABLE` when the file system has no working locks.
 */
export function tryLockFile(path: string): FileLock | undefined {
  const database = new DatabaseSync(path, { timeout: 0 });
  try {
    // A journal in memory: SQLite would lay an empty journal file beside the lock.
    database.exec("PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE");
    return { release: () => database.close() };
  } catch (error) {
    database.close();
    if (error instanceof Error && "errcode" in error && error.errcode === SQLITE_BUSY) {
      return undefined;
    }
    throw new CacheError("UNAVAILABLE", `Cannot lock ${path}`, {
      cause: error,
      hint: "Put the data directory on a file system with working locks.",
    });
  }
}
