import { constants } from "node:os";

import { CacheError, type CacheErrorCode } from "@glorious/core";

interface Meaning {
  readonly code: CacheErrorCode;
  readonly hint: string;
}

const FULL: Meaning = {
  code: "STORAGE_FULL",
  hint: "Free space or inodes in the data directory, or raise its quota.",
};
const EXHAUSTED: Meaning = {
  code: "UNAVAILABLE",
  hint: "Try again; if it persists, raise the limit of open files (ulimit -n).",
};
const BUSY: Meaning = { code: "UNAVAILABLE", hint: "Try again." };
const DENIED: Meaning = {
  code: "UNAVAILABLE",
  hint: "Let the server's user own the data directory and write to it.",
};
const BROKEN: Meaning = {
  code: "UNAVAILABLE",
  hint: "Check the disk or the network file system of the data directory; the system log says more.",
};
const MISPLACED: Meaning = {
  code: "CONFIG",
  hint: "Point the data directory at a folder that nothing else writes to, on one file system.",
};

/** What the errors of the operating system mean to a caller of the store. */
const MEANINGS: Readonly<Record<string, Meaning>> = {
  ENOSPC: FULL,
  EDQUOT: FULL,
  EFBIG: { code: "TOO_LARGE", hint: "The file system or ulimit -f allows no larger file." },
  EMFILE: EXHAUSTED,
  ENFILE: EXHAUSTED,
  ENOMEM: BUSY,
  EAGAIN: BUSY,
  EBUSY: BUSY,
  EINTR: BUSY,
  ETIMEDOUT: BROKEN,
  ESTALE: BROKEN,
  EIO: BROKEN,
  EROFS: DENIED,
  EACCES: DENIED,
  EPERM: DENIED,
  ENOTDIR: MISPLACED,
  EISDIR: MISPLACED,
  EXDEV: MISPLACED,
  ENAMETOOLONG: MISPLACED,
};

/** Names of errors by their numbers, for those that Node has no name for, such as a full quota. */
const NAMES: ReadonlyMap<number, string> = new Map(
  Object.entries(constants.errno).map(([name, number]) => [-number, name]),
);

/** The code that the operating system gave an error, such as `ENOENT`. */
export function systemErrorCode(error: unknown): string | undefined {
  if (!(error instanceof Error && "code" in error && typeof error.code === "string")) {
    return undefined;
  }
  const isNameless = error.code.startsWith("Unknown system error");
  const number = "errno" in error && typeof error.errno === "number" ? error.errno : undefined;
  return (isNameless && number !== undefined ? NAMES.get(number) : undefined) ?? error.code;
}

/**
 * Says what an error of the operating system means: `STORAGE_FULL`, `UNAVAILABLE`, `CONFIG`,
 * `TOO_LARGE`, or `INTERNAL` for one that has no place here. A {@link CacheError} stays as it is.
 *
 * @param action What was tried, as it reads after "Cannot": `read nar/abc`.
 */
export function fromSystemError(error: unknown, action: string): CacheError {
  if (error instanceof CacheError) return error;
  const code = systemErrorCode(error);
  const meaning = code === undefined ? undefined : MEANINGS[code];
  const problem = code ?? (error instanceof Error ? error.message : String(error));
  return new CacheError(meaning?.code ?? "INTERNAL", `Cannot ${action}: ${problem}`, {
    cause: error,
    hint: meaning?.hint,
  });
}

/** Says what an error means that came while the bytes of an open blob were read. */
export function fromReadError(error: unknown, key: string): CacheError {
  if (systemErrorCode(error) !== "EIO") return fromSystemError(error, `read ${key}`);
  // The file is there, and these bytes are not: a bad sector, or a checksum of the file system's.
  return new CacheError("CORRUPT", `The disk cannot read all of ${key}: EIO`, {
    cause: error,
    hint: "Put the blob again, and check the disk: the system log says more.",
  });
}

/** Runs work on the file system; its errors leave through {@link fromSystemError}. */
export async function onDisk<T>(action: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw fromSystemError(error, action);
  }
}

/** Like {@link onDisk}, but an absent file gives undefined. */
export async function onDiskIfPresent<T>(
  action: string,
  work: () => Promise<T>,
): Promise<T | undefined> {
  try {
    return await work();
  } catch (error) {
    if (systemErrorCode(error) === "ENOENT") return undefined;
    throw fromSystemError(error, action);
  }
}
