import { closeSync, fsync as flushDescriptor, openSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { promisify } from "node:util";

import { makeFolder } from "@glorious/core";

import { shareFlushes } from "./shared-flush.ts";
import { systemErrorCode } from "./system-errors.ts";

const flush = promisify(flushDescriptor);

/**
 * How much of a machine's crash a blob survives.
 *
 * `full`: file contents, names and directories are flushed before anything is acknowledged, so a
 * blob survives a power failure on disks that keep their promises. `none`: nothing is flushed; a
 * blob survives the process but not the machine. For tests and throw-away caches.
 */
export type FsyncPolicy = "full" | "none";

/** Makes directories, and makes their names durable as the policy asks. */
export interface DirectoryMaker {
  /** Makes `path` and its parents below the root. */
  ensure(path: string): Promise<void>;
  /** Forgets that `path` exists, after it was found missing. */
  forget(path: string): void;
  /** Flushes the names in `path`; those who ask while it is being flushed share the next flush. */
  sync(path: string): Promise<void>;
}

/**
 * Makes a directory and the parents it lacks, private to their user, and makes their names durable as the
 * policy asks.
 *
 * The parent is flushed also when the directory was there: whoever made it may not have come to that.
 *
 * @throws {CacheError} what `makeFolder` says; any other error of the operating system's as it is.
 */
export async function makeDurableDirectory(directory: string, fsync: FsyncPolicy): Promise<void> {
  const target = resolve(directory);
  const firstMade = await makeFolder(target, { mode: 0o700 });
  if (fsync === "none") return;
  const last = dirname(firstMade ?? target);
  for (let parent = dirname(target); ; parent = dirname(parent)) {
    await syncDirectory(parent).catch((error: unknown) => {
      // A directory somebody else made for this user may lie where this user cannot look.
      const isForeign = firstMade === undefined && systemErrorCode(error) === "EACCES";
      if (!isForeign) throw error;
    });
    if (parent === last) return;
  }
}

/** The root must exist. Directories are private to their user. */
export function createDirectoryMaker(root: string, fsync: FsyncPolicy): DirectoryMaker {
  const known = new Set<string>([root]);
  const flushShared = shareFlushes(syncDirectory);

  const sync = async (path: string): Promise<void> => {
    if (fsync === "full") await flushShared(path);
  };

  const ensure = async (path: string): Promise<void> => {
    if (known.has(path)) return;
    const parent = dirname(path);
    await ensure(parent);
    await mkdir(path, { mode: 0o700 }).catch((error: unknown) => {
      if (systemErrorCode(error) !== "EEXIST") throw error;
    });
    // Also when it existed: whoever made it may not have come to flush its name.
    await sync(parent);
    known.add(path);
  };

  const forget = (path: string): void => {
    for (let each = path; each !== root && each.startsWith(root); each = dirname(each)) {
      known.delete(each);
    }
  };

  return { ensure, forget, sync };
}

/**
 * Makes the names in a directory durable.
 *
 * @throws {Error} The operating system's, as it is.
 */
export async function syncDirectory(path: string): Promise<void> {
  // A folder in use is in memory: opening it here saves two ways to the thread pool, each behind others' flushes.
  const descriptor = openSync(path, "r");
  try {
    await flush(descriptor);
  } finally {
    closeSync(descriptor);
  }
}
