import { FIELD } from "../hpack/header-field.ts";
import type { HeaderList } from "../hpack/header-list.ts";

/** What HTTP/2 says of a request in its first header block. */
export interface RequestHead {
  /** Why the block is malformed (RFC 9113, section 8.1.1), if it is. */
  readonly problem: string | undefined;
  readonly method: string;
  readonly path: string;
  readonly authority: string;
  /** -1 when it is not stated. */
  readonly contentLength: number;
  readonly contentType: string | undefined;
  readonly timeout: string | undefined;
  readonly encoding: string | undefined;
}

/** Judges and reads a request's header block; the result is kept with the list, so repeated blocks cost nothing. */
export function readRequestHead(list: HeaderList): RequestHead {
  return (list.derived ??= createRequestHead(list)) as RequestHead;
}

function createRequestHead({ fields }: HeaderList): RequestHead {
  let problem: string | undefined;
  let method: string | undefined;
  let scheme: string | undefined;
  let authority: string | undefined;
  let path: string | undefined;
  let host: string | undefined;
  let contentLength = -1;
  let contentType: string | undefined;
  let timeout: string | undefined;
  let encoding: string | undefined;
  let isAfterPseudo = false;
  for (const { kind, name, value, isValid } of fields) {
    if (!isValid) problem ??= "a field name or value with characters that are not allowed";
    if (kind >= FIELD.METHOD && kind <= FIELD.OTHER_PSEUDO) {
      if (isAfterPseudo) problem ??= "a pseudo-header after a regular field";
    } else {
      isAfterPseudo = true;
    }
    switch (kind) {
      case FIELD.METHOD:
        if (method !== undefined) problem ??= "two :method";
        method = value;
        break;
      case FIELD.SCHEME:
        if (scheme !== undefined) problem ??= "two :scheme";
        scheme = value;
        break;
      case FIELD.AUTHORITY:
        if (authority !== undefined) problem ??= "two :authority";
        authority = value;
        break;
      case FIELD.PATH:
        if (path !== undefined) problem ??= "two :path";
        path = value;
        break;
      case FIELD.STATUS:
      case FIELD.OTHER_PSEUDO:
        problem ??= `${name} in a request`;
        break;
      case FIELD.CONNECTION_SPECIFIC:
        problem ??= `the connection-specific field ${name}`;
        break;
      case FIELD.TE:
        if (value !== "trailers") problem ??= "te that is not trailers";
        break;
      case FIELD.HOST:
        host = value;
        break;
      case FIELD.CONTENT_LENGTH: {
        const length = parseContentLength(value);
        if (length < 0 || (contentLength >= 0 && length !== contentLength)) {
          problem ??= "a content-length that is no number, or two that differ";
        }
        contentLength = length;
        break;
      }
      case FIELD.CONTENT_TYPE:
        contentType = value;
        break;
      case FIELD.GRPC_TIMEOUT:
        timeout = value;
        break;
      case FIELD.GRPC_ENCODING:
        encoding = value;
        break;
      default:
    }
  }
  problem ??= missingPseudo(method, scheme, path);
  if (authority !== undefined && host !== undefined && authority !== host) {
    problem ??= "host and :authority that differ";
  }
  return {
    problem,
    method: method ?? "",
    path: path ?? "",
    authority: authority ?? host ?? "",
    contentLength,
    contentType,
    timeout,
    encoding,
  };
}

function missingPseudo(
  method: string | undefined,
  scheme: string | undefined,
  path: string | undefined,
): string | undefined {
  if (method === undefined) return "no :method";
  if (method === "CONNECT") {
    return scheme === undefined && path === undefined ? undefined : "CONNECT with :scheme or :path";
  }
  if (scheme === undefined) return "no :scheme";
  if (path === undefined) return "no :path";
  if (path.startsWith("/") || (path === "*" && method === "OPTIONS")) return undefined;
  return "a :path that does not begin with a slash";
}

/** Why trailers are malformed, if they are: they hold no pseudo-headers (RFC 9113, section 8.1). */
export function findTrailerProblem({ fields }: HeaderList): string | undefined {
  for (const { kind, name, isValid } of fields) {
    if (!isValid) return "a field name or value with characters that are not allowed";
    if (kind >= FIELD.METHOD && kind <= FIELD.OTHER_PSEUDO) return `${name} in trailers`;
    if (kind === FIELD.CONNECTION_SPECIFIC) return `the connection-specific field ${name}`;
  }
  return undefined;
}

export function parseContentLength(value: string): number {
  return /^\d{1,15}$/.test(value) ? Number(value) : -1;
}
