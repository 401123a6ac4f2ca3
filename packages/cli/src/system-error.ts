import { CacheError, type CacheErrorCode } from "@glorious/core";

const CODES: Readonly<
  Record<string, readonly [code: CacheErrorCode, what: string, hint?: string]>
> = {
  ENOENT: ["NOT_FOUND", "does not exist"],
  ENOTDIR: ["NOT_FOUND", "does not exist: a part of its path is no folder"],
  EISDIR: ["INVALID", "is a folder"],
  EACCES: [
    "FORBIDDEN",
    "is not accessible to you",
    "Run it as a user who may, or change the file's rights.",
  ],
  EPERM: [
    "FORBIDDEN",
    "is not accessible to you",
    "Run it as a user who may, or change the file's rights.",
  ],
  EROFS: ["FORBIDDEN", "is on a read-only file system"],
  ENOSPC: ["STORAGE_FULL", "cannot be written: the disk is full"],
  EDQUOT: ["STORAGE_FULL", "cannot be written: your quota is used up"],
  EMFILE: ["UNAVAILABLE", "cannot be opened: too many files are open", "Raise `ulimit -n`."],
  EADDRINUSE: [
    "UNAVAILABLE",
    "is in use",
    "Stop the other program, or choose another address with --listen.",
  ],
};

/**
 * Gives a failed file or socket operation its code. Errors of any other kind come back as they are;
 * an aborted operation becomes `CANCELLED`.
 */
export function toCacheError(error: unknown): unknown {
  if (!(error instanceof Error) || error instanceof CacheError) return error;
  if (error.name === "AbortError") {
    return new CacheError("CANCELLED", "Interrupted", { cause: error });
  }
  const { code, path, address, port } = error as NodeJS.ErrnoException & {
    address?: string;
    port?: number;
  };
  const known = code === undefined ? undefined : CODES[code];
  if (known === undefined) return error;
  const thing = path ?? (address === undefined ? undefined : `${address}:${port}`);
  if (thing === undefined) return error;
  return new CacheError(known[0], `${thing} ${known[1]}`, { cause: error, hint: known[2] });
}
