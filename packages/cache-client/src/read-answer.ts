import { toResponseError } from "./response-error.ts";
import { parseRetryAfterMs } from "./retry.ts";

/** An answer as it came, read whole. */
export interface RawAnswer {
  /** The request line, for messages. */
  readonly line: string;
  readonly status: number;
  readonly header: (name: string) => string | undefined;
  readonly text: string;
}

/**
 * Takes an answer for what it says.
 *
 * @param secrets - What was sent and no message may repeat.
 * @throws {ResponseError} for any status that is not 2xx.
 */
export function readAnswer(
  { line, status, header, text }: RawAnswer,
  secrets: readonly (string | undefined)[],
): { readonly status: number; readonly text: string } {
  if (status >= 200 && status < 300) return { status, text };
  throw toResponseError({
    request: line,
    status,
    body: secrets.reduce<string>(redact, text),
    contentType: header("content-type"),
    location: header("location"),
    requestId: header("x-request-id"),
    retryAfterMs: parseRetryAfterMs(header("retry-after"), Date.now()),
  });
}

/** No token is that short, and replacing a letter or two would only garble words. */
const MIN_TOKEN_CHARS = 8;

/** A server may repeat what it was sent; a message of ours must not. */
function redact(text: string, token: string | undefined): string {
  return token === undefined || token.length < MIN_TOKEN_CHARS
    ? text
    : text.replaceAll(token, "<token>");
}
