import { mkdir, stat } from "node:fs/promises";
import { dirname, resolve } from "node:path";

import { CacheError, type CacheErrorCode } from "./cache-error.ts";

/** What {@link makeFolder} may be told. */
export interface MakeFolderOptions {
  /** Rights of each folder that is made, less what the process's umask takes; default 0777. */
  readonly mode?: number;
}

const ANOTHER = "Choose another folder.";
const DENIED = [
  "UNAVAILABLE",
  "this user may not write there",
  "Choose another folder, or let this user write there.",
] as const;

const MEANINGS: Readonly<Record<string, readonly [CacheErrorCode, why: string, hint: string]>> = {
  EACCES: DENIED,
  EPERM: DENIED,
  EROFS: ["UNAVAILABLE", "the file system is read-only", ANOTHER],
  ENOSPC: ["STORAGE_FULL", "the disk is full", "Free space, or choose another folder."],
  EDQUOT: ["STORAGE_FULL", "the quota is used up", "Free space, or choose another folder."],
  ENAMETOOLONG: ["CONFIG", "a name in it is too long", ANOTHER],
  ELOOP: ["CONFIG", "a link on its way leads in a circle", ANOTHER],
};

/**
 * Makes a folder and the parents it lacks; one that is there stays as it is.
 *
 * Unlike Node's recursive `mkdir` it always ends: that one tries for ever where a parent is there and the system still says
 * that it is not, as below `/proc`.
 *
 * @returns The first folder that was made, `undefined` when none was.
 * @throws {CacheError} `CONFIG` when a file is in the way or the place takes no folders, `UNAVAILABLE` when this user may
 * not write there, `STORAGE_FULL`. Any other error of the system's as it is.
 */
export async function makeFolder(
  path: string,
  { mode }: MakeFolderOptions = {},
): Promise<string | undefined> {
  const target = resolve(path);
  const missing: string[] = [];
  for (let place = target; !(await isFolder(place, target)); place = dirname(place)) {
    missing.unshift(place);
  }
  for (const place of missing) {
    try {
      await mkdir(place, { mode });
    } catch (error) {
      const code = systemCode(error);
      // Somebody else may have made it since.
      if (code === "EEXIST" && (await isFolder(place, target))) continue;
      if (code === "EEXIST") throw refused(target, `${place} is a link to nowhere`, error);
      if (code === "ENOENT") {
        throw refused(target, `nothing can be made in ${dirname(place)}`, error);
      }
      throw explain(error, target);
    }
  }
  return missing[0];
}

/** The root is one, so that going up ends there. */
async function isFolder(place: string, target: string): Promise<boolean> {
  try {
    if ((await stat(place)).isDirectory()) return true;
  } catch (error) {
    const code = systemCode(error);
    // Below a file; going up finds it.
    if (code === "ENOENT" || code === "ENOTDIR") return false;
    throw explain(error, target);
  }
  throw place === target
    ? new CacheError("CONFIG", `${place} is a file, not a folder`, { hint: ANOTHER })
    : refused(target, `${place} is a file`);
}

function explain(error: unknown, target: string): unknown {
  const meaning = MEANINGS[systemCode(error) ?? ""];
  if (meaning === undefined) return error;
  const [code, why, hint] = meaning;
  return new CacheError(code, `${target} cannot be made: ${why}`, { hint, cause: error });
}

function refused(target: string, why: string, cause?: unknown): CacheError {
  return new CacheError("CONFIG", `${target} cannot be made: ${why}`, {
    hint: ANOTHER,
    ...(cause === undefined ? {} : { cause }),
  });
}

function systemCode(error: unknown): string | undefined {
  return error instanceof Error && "code" in error && typeof error.code === "string"
    ? error.code
    : undefined;
}
