import { CacheError, type CacheErrorCode, isCacheError } from "@glorious/core";

/** SQLite's primary result codes that mean something to a caller. @see https://sqlite.org/rescode.html */
const CODES: ReadonlyMap<number, { readonly code: CacheErrorCode; readonly hint: string }> =
  new Map([
    [5, { code: "UNAVAILABLE", hint: "Another process holds the index; try again." }],
    [6, { code: "UNAVAILABLE", hint: "Another connection holds the index; try again." }],
    [8, { code: "UNAVAILABLE", hint: "Make the index file and its directory writable." }],
    [10, { code: "UNAVAILABLE", hint: "Check the disk and the system log for I/O errors." }],
    [11, { code: "CORRUPT", hint: "Stop the server and restore the index from a backup." }],
    [13, { code: "STORAGE_FULL", hint: "Free space on the disk that holds the index." }],
    [
      14,
      {
        code: "UNAVAILABLE",
        hint: "Check that the directory exists and that the server may write to it.",
      },
    ],
    [
      26,
      { code: "CORRUPT", hint: "Choose another file for the index, or restore it from a backup." },
    ],
  ]);

/**
 * Turns what `node:sqlite` threw into a {@link CacheError}; anything else comes back as it is.
 *
 * @param file Where it happened, for the message.
 */
export function fromSqliteError(error: unknown, file: string): unknown {
  const known = isSqliteError(error) ? CODES.get(error.errcode & 0xff) : undefined;
  if (known === undefined || !(error instanceof Error)) return error;
  return new CacheError(known.code, `The index ${file} failed: ${error.message}`, {
    hint: known.hint,
    cause: error,
  });
}

/** Whether SQLite said that somebody else holds the database just now. */
export function isBusy(error: unknown): boolean {
  return isSqliteError(error) && (error.errcode & 0xff) === 5;
}

function isSqliteError(error: unknown): error is Error & { readonly errcode: number } {
  return error instanceof Error && "errcode" in error && typeof error.errcode === "number";
}

/** An error in a shape that crosses a thread border. */
export interface Failure {
  /** Set when it was a {@link CacheError}. */
  readonly code: CacheErrorCode | undefined;
  readonly message: string;
  readonly hint: string | undefined;
  readonly cause: Error | undefined;
}

/** Takes an error apart for the way to another thread. */
export function toFailure(error: unknown): Failure {
  const cause = isCacheError(error) ? error.cause : error;
  return {
    code: isCacheError(error) ? error.code : undefined,
    message: error instanceof Error ? error.message : String(error),
    hint: isCacheError(error) ? error.hint : undefined,
    cause: cause instanceof Error ? plainError(cause) : undefined,
  };
}

/** Puts together again what {@link toFailure} took apart. */
export function fromFailure({ code, message, hint, cause }: Failure): Error {
  if (code === undefined) return new Error(message, { cause });
  return new CacheError(code, message, { hint, ...(cause === undefined ? {} : { cause }) });
}

/** Own properties of an error, such as SQLite's, may hold what cannot be cloned. */
function plainError(error: Error): Error {
  const plain = new Error(error.message);
  if (error.stack !== undefined) plain.stack = error.stack;
  return plain;
}
