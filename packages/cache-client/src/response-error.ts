import { CACHE_ERROR_CODES, CacheError, type CacheErrorCode } from "@glorious/core";

import { printable } from "./server-words.ts";

/** What a server's refusal carries beside its message. */
export interface ResponseErrorOptions {
  readonly status: number;
  readonly kind?: string | undefined;
  readonly requestId?: string | undefined;
  readonly retryAfterMs?: number | undefined;
  readonly details?: Readonly<Record<string, unknown>> | undefined;
  readonly hint?: string | undefined;
}

/** A server answered with something other than success. */
export class ResponseError extends CacheError {
  /** The HTTP status. */
  readonly status: number;
  /** The server's own word for the failure: `NoSuchCache` from an atticd, a `CacheErrorCode` from ours. */
  readonly kind: string | undefined;
  /** What to look for in the server's log. */
  readonly requestId: string | undefined;
  /** How long the server asked to be left alone. */
  readonly retryAfterMs: number | undefined;
  /** The whole JSON body, its `message` on one line; empty when the server said nothing. */
  readonly details: Readonly<Record<string, unknown>>;

  constructor(code: CacheErrorCode, message: string, options: ResponseErrorOptions) {
    super(code, message, { hint: options.hint });
    this.status = options.status;
    this.kind = options.kind;
    this.requestId = options.requestId;
    this.retryAfterMs = options.retryAfterMs;
    this.details = options.details ?? {};
  }
}

/** The parts of a response that tell why it failed. */
export interface FailedResponse {
  /** The request line, for the message: `PUT https://cache.example/…`. */
  readonly request: string;
  readonly status: number;
  readonly body: string;
  readonly contentType?: string | undefined;
  readonly location?: string | undefined;
  readonly requestId?: string | undefined;
  readonly retryAfterMs?: number | undefined;
}

/**
 * Turns a failed response into an error: our JSON shape, Attic's, and the plain text or HTML that
 * frameworks and proxies answer with.
 */
export function toResponseError(response: FailedResponse): ResponseError {
  const { request, status } = response;
  const details = readJsonObject(response.body);
  const kind = readString(details["error"]);
  const said = readString(details["message"]) ?? readPlainText(response);
  const code = chooseCode(status, kind, said);
  const reason = said === undefined ? (STATUS_WORDS[status] ?? "no reason given") : said;
  const redirected = status >= 300 && status < 400;
  return new ResponseError(
    code,
    redirected
      ? `${request} redirects to ${response.location ?? "another address"}`
      : `${request} answered ${status}: ${reason}`,
    {
      status,
      kind,
      details: said === undefined ? details : { ...details, message: said },
      requestId:
        readString(details["requestId"]) ?? readString(details["request_id"]) ?? response.requestId,
      retryAfterMs: response.retryAfterMs,
      hint: readString(details["hint"]) ?? (redirected ? REDIRECT_HINT : HINTS[code]),
    },
  );
}

const REDIRECT_HINT = "Name the server by the address it redirects to.";

/** Attic's kinds that say more than their status. */
const ATTIC_KINDS: Readonly<Record<string, CacheErrorCode>> = {
  NoSuchCache: "NOT_FOUND",
  NoSuchObject: "NOT_FOUND",
  CacheAlreadyExists: "CONFLICT",
  Unauthorized: "UNAUTHENTICATED",
  AccessError: "FORBIDDEN",
};

const STATUS_CODES: Readonly<Record<number, CacheErrorCode>> = {
  401: "UNAUTHENTICATED",
  403: "FORBIDDEN",
  404: "NOT_FOUND",
  405: "METHOD_NOT_ALLOWED",
  407: "UNAUTHENTICATED",
  408: "TIMEOUT",
  409: "CONFLICT",
  410: "NOT_FOUND",
  413: "TOO_LARGE",
  415: "UNSUPPORTED",
  416: "RANGE",
  429: "RATE_LIMITED",
  500: "INTERNAL",
  501: "UNSUPPORTED",
  505: "UNSUPPORTED",
  507: "STORAGE_FULL",
};

const STATUS_WORDS: Readonly<Record<number, string>> = {
  401: "unauthenticated",
  403: "forbidden",
  404: "not found",
  405: "method not allowed",
  408: "request timeout",
  409: "conflict",
  413: "body too large",
  429: "too many requests",
  500: "internal server error",
  502: "bad gateway",
  503: "service unavailable",
  504: "gateway timeout",
  507: "storage full",
};

const HINTS: Partial<Readonly<Record<CacheErrorCode, string>>> = {
  UNAUTHENTICATED: "Check the token: it may be missing, expired, or made for another server.",
  FORBIDDEN: "The token is valid but lacks the permission for this; ask for one that has it.",
  TOO_LARGE:
    "A proxy before the cache may limit the size of a body (nginx: client_max_body_size); raise it.",
  CORRUPT:
    "The bytes changed or were cut on their way; look for a proxy that limits or rewrites bodies.",
  UNAVAILABLE: "The server, or a proxy before it, is not ready; try again in a moment.",
  STORAGE_FULL: "Free space on the server, or delete paths that nobody needs.",
};

function chooseCode(
  status: number,
  kind: string | undefined,
  said: string | undefined,
): CacheErrorCode {
  const own = CACHE_ERROR_CODES.find((code) => code === kind);
  if (own !== undefined) return own;
  const atticCode = kind === undefined ? undefined : ATTIC_KINDS[kind];
  if (atticCode !== undefined) return atticCode;
  // An atticd answers 400 RequestError for everything, a failed hash check included.
  if (status === 400 && said !== undefined && /bad (nar|chunk) hash or size/i.test(said)) {
    return "CORRUPT";
  }
  return (
    STATUS_CODES[status] ??
    (status >= 500 ? "UNAVAILABLE" : status >= 400 ? "INVALID" : "UNSUPPORTED")
  );
}

function readJsonObject(body: string): Readonly<Record<string, unknown>> {
  if (!body.trimStart().startsWith("{")) return {};
  try {
    const value: unknown = JSON.parse(body);
    return isRecord(value) ? value : {};
  } catch {
    // A proxy may cut a JSON body; the status still speaks.
    return {};
  }
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function readString(value: unknown): string | undefined {
  return typeof value === "string" && value !== "" ? printable(value) : undefined;
}

function readPlainText({ body, contentType }: FailedResponse): string | undefined {
  if (contentType?.includes("html") === true || /^\s*[<{]/.test(body)) return undefined;
  const text = printable(body).trim();
  return text === "" ? undefined : text;
}
