import { FIELD } from "../hpack/header-field.ts";
import type { HeaderList } from "../hpack/header-list.ts";
import { parseContentLength } from "./request-head.ts";

/** What HTTP/2 says of a response in its first header block. */
export interface ResponseHead {
  readonly problem: string | undefined;
  readonly status: number;
  readonly contentLength: number;
  readonly contentType: string | undefined;
  readonly encoding: string | undefined;
}

/** Judges and reads a response's header block, as {@link readRequestHead} does for requests. */
export function readResponseHead(list: HeaderList): ResponseHead {
  return (list.derived ??= createResponseHead(list)) as ResponseHead;
}

function createResponseHead(list: HeaderList): ResponseHead {
  let problem: string | undefined;
  let status: string | undefined;
  let contentLength = -1;
  let contentType: string | undefined;
  let encoding: string | undefined;
  let isAfterPseudo = false;
  for (const { kind, name, value, isValid } of list.fields) {
    if (!isValid) problem ??= "a field name or value with characters that are not allowed";
    switch (kind) {
      case FIELD.STATUS:
        if (status !== undefined) problem ??= "two :status";
        if (isAfterPseudo) problem ??= "a pseudo-header after a regular field";
        status = value;
        continue;
      case FIELD.METHOD:
      case FIELD.SCHEME:
      case FIELD.AUTHORITY:
      case FIELD.PATH:
      case FIELD.OTHER_PSEUDO:
        problem ??= `${name} in a response`;
        break;
      case FIELD.CONNECTION_SPECIFIC:
        problem ??= `the connection-specific field ${name}`;
        break;
      case FIELD.CONTENT_LENGTH:
        contentLength = parseContentLength(value);
        if (contentLength < 0) problem ??= "a content-length that is no number";
        break;
      case FIELD.CONTENT_TYPE:
        contentType = value;
        break;
      case FIELD.GRPC_ENCODING:
        encoding = value;
        break;
      default:
    }
    isAfterPseudo = true;
  }
  if (status === undefined || !/^[1-5]\d\d$/.test(status)) problem ??= "no :status";
  return { problem, status: Number(status), contentLength, contentType, encoding };
}
