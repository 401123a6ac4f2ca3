import { CacheError, type CacheErrorCode } from "@glorious/core";

import { AtticError, type AtticErrorKind } from "./attic-error.ts";
import type { RouteFamily } from "./exchange.ts";
import { ReasonedError } from "./reasoned-error.ts";

/** The one error body, whatever the route. */
export interface ErrorBody {
  /** The HTTP status, as Attic's clients want it. */
  readonly code: number;
  /** Attic's kind on Attic's routes, a {@link CacheErrorCode} elsewhere. */
  readonly error: string;
  /** Which of several causes of this code, where programs may want to know. */
  readonly reason?: string;
  readonly message: string;
  readonly hint?: string;
  readonly requestId: string;
}

export interface ErrorResponse {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: ErrorBody;
  /** True for errors that are ours, not the client's: they are logged with their cause. */
  readonly isInternal: boolean;
}

export interface ErrorContext {
  readonly family: RouteFamily;
  readonly requestId: string;
  readonly userAgent?: string | undefined;
}

/** The HTTP status of each code; `docs/reference/errors.md` is tested against it. */
export const HTTP_STATUS: Readonly<Record<CacheErrorCode, number>> = {
  INVALID: 400,
  UNAUTHENTICATED: 401,
  FORBIDDEN: 403,
  NOT_FOUND: 404,
  METHOD_NOT_ALLOWED: 405,
  TIMEOUT: 408,
  CONFLICT: 409,
  TOO_LARGE: 413,
  UNSUPPORTED: 415,
  RANGE: 416,
  CORRUPT: 422,
  RATE_LIMITED: 429,
  TRUNCATED: 400,
  CANCELLED: 499,
  INTERNAL: 500,
  CONFIG: 500,
  UNAVAILABLE: 503,
  STORAGE_FULL: 507,
};

const ATTIC_KIND: Readonly<Partial<Record<CacheErrorCode, AtticErrorKind>>> = {
  UNAUTHENTICATED: "Unauthorized",
  FORBIDDEN: "AccessError",
  NOT_FOUND: "NotFound",
  INTERNAL: "InternalServerError",
  CONFIG: "InternalServerError",
  UNAVAILABLE: "InternalServerError",
  STORAGE_FULL: "InternalServerError",
};

/** Turns whatever a route threw into its answer. An unknown error says nothing about itself to the client. */
export function toErrorResponse(error: unknown, context: ErrorContext): ErrorResponse {
  const known =
    error instanceof CacheError
      ? error
      : new CacheError("INTERNAL", "The server failed to answer", {
          cause: error,
          hint: "Look for this request id in the server's log.",
        });
  const status = statusFor(known, context);
  return {
    status,
    headers: headersOf(status),
    body: {
      code: status,
      error: context.family === "attic" ? atticKind(known) : known.code,
      ...(known instanceof ReasonedError ? { reason: known.reason } : {}),
      message: known.message,
      ...(known.hint === undefined ? {} : { hint: known.hint }),
      requestId: context.requestId,
    },
    isInternal: HTTP_STATUS[known.code] >= 500,
  };
}

const RETRY_AFTER_SECONDS = 5;

function headersOf(status: number): Readonly<Record<string, string>> {
  if (status === 401) {
    return { "www-authenticate": 'Basic realm="GloriousFlywheel", charset="UTF-8"' };
  }
  return status === 503 || status === 429 ? { "retry-after": String(RETRY_AFTER_SECONDS) } : {};
}

function statusFor(error: CacheError, { family, userAgent }: ErrorContext): number {
  if (family === "attic") {
    if (error instanceof AtticError && error.status !== undefined) return error.status;
    // Attic answers damaged bytes with 400.
    if (error.code === "CORRUPT") return 400;
  }
  // Bazel's clients know no 422.
  if (family === "bazel" && error.code === "CORRUPT") return 400;
  const status = HTTP_STATUS[error.code];
  // Nix until 2.28 repeats a PUT without rewinding its body and then hangs: give it a status it takes as final.
  const isTransient = status >= 500 || status === 408;
  return family === "nix-write" && isTransient && hangsOnRetry(userAgent) ? 501 : status;
}

function hangsOnRetry(userAgent: string | undefined): boolean {
  const version = /\bNix\/(\d+)\.(\d+)/.exec(userAgent ?? "");
  return version !== null && Number(version[1]) * 1000 + Number(version[2]) < 2029;
}

function atticKind(error: CacheError): AtticErrorKind {
  return error instanceof AtticError ? error.kind : (ATTIC_KIND[error.code] ?? "RequestError");
}
