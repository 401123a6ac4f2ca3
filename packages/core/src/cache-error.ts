/**
 * Every kind of failure a caller of GloriousFlywheel can act on.
 *
 * The set is closed: callers match on it, `docs/reference/errors.md` has a row for each.
 */
export const CACHE_ERROR_CODES = [
  "INVALID",
  "UNAUTHENTICATED",
  "FORBIDDEN",
  "NOT_FOUND",
  "METHOD_NOT_ALLOWED",
  "CONFLICT",
  "CORRUPT",
  "TRUNCATED",
  "TOO_LARGE",
  "UNSUPPORTED",
  "RANGE",
  "TIMEOUT",
  "CANCELLED",
  "STORAGE_FULL",
  "RATE_LIMITED",
  "UNAVAILABLE",
  "CONFIG",
  "INTERNAL",
] as const;

/** One of {@link CACHE_ERROR_CODES}. */
export type CacheErrorCode = (typeof CACHE_ERROR_CODES)[number];

/** What a {@link CacheError} may carry beside its code and message. */
export interface CacheErrorOptions {
  /** The error that led to this one. */
  readonly cause?: unknown;
  /** One sentence telling the reader what to do next. */
  readonly hint?: string | undefined;
}

/** A cache operation failed in a way the caller can act on. */
export class CacheError extends Error {
  override readonly name = "CacheError";
  readonly code: CacheErrorCode;
  /** One sentence telling the reader what to do next. */
  readonly hint: string | undefined;

  constructor(code: CacheErrorCode, message: string, options: CacheErrorOptions = {}) {
    super(message, "cause" in options ? { cause: options.cause } : undefined);
    this.code = code;
    this.hint = options.hint;
  }
}

/** Tells whether `error` is a {@link CacheError}, of the given code when one is given. */
export function isCacheError(error: unknown, code?: CacheErrorCode): error is CacheError {
  return error instanceof CacheError && (code === undefined || error.code === code);
}

/** One line for people: the message, then the hint when there is one. */
export function describeError(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const hint = error instanceof CacheError ? error.hint : undefined;
  return hint === undefined ? error.message : `${error.message} (${hint})`;
}
