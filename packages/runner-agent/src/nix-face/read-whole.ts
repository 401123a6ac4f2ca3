import { CacheError } from "@glorious/core";
import type { Dispatcher } from "undici";

/** A small answer. */
export interface WholeAnswer {
  readonly status: number;
  readonly header: (name: string) => string | undefined;
  readonly bytes: Buffer;
}

/** What is asked, and how. */
export interface WholeQuestion {
  readonly url: URL;
  readonly method: "GET" | "HEAD" | "POST";
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string | undefined;
  readonly maxBytes: number;
  readonly signal: AbortSignal;
}

/**
 * Asks for something small, and reads it without the machinery of streams. Questions follow each other on a connection
 * before the answers are here: for hundreds of small files that is most of the time on a long way.
 *
 * @throws {CacheError} `TOO_LARGE`; the signal's reason; whatever the connection breaks with.
 */
export function readWhole(dispatcher: Dispatcher, question: WholeQuestion): Promise<WholeAnswer> {
  const { url, method, headers, body, maxBytes, signal } = question;
  const { promise, resolve, reject } = Promise.withResolvers<WholeAnswer>();
  let abort = (reason: Error): void => reject(reason);
  const onAbort = (): void => abort(asError(signal.reason));
  if (signal.aborted) {
    onAbort();
    return promise;
  }
  signal.addEventListener("abort", onAbort);
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  let status = 0;
  let answered: Readonly<Record<string, string | string[] | undefined>> = {};
  dispatcher.dispatch(
    {
      origin: url.origin,
      path: url.pathname + url.search,
      method,
      headers,
      body: body ?? null,
      // Whoever is behind a slow answer has asked for something small, too.
      blocking: false,
    },
    {
      onRequestStart(controller) {
        abort = (reason) => controller.abort(reason);
        if (signal.aborted) onAbort();
      },
      onResponseStart(_, statusCode, given) {
        status = statusCode;
        answered = given;
      },
      onResponseData(controller, chunk) {
        sizeBytes += chunk.length;
        if (sizeBytes <= maxBytes) chunks.push(chunk);
        else controller.abort(new CacheError("TOO_LARGE", `More than ${maxBytes} bytes came`));
      },
      onResponseEnd() {
        signal.removeEventListener("abort", onAbort);
        const header = (name: string): string | undefined => {
          const value = answered[name];
          return typeof value === "string" ? value : value?.[0];
        };
        resolve({ status, header, bytes: Buffer.concat(chunks, sizeBytes) });
      },
      onResponseError(_, error) {
        signal.removeEventListener("abort", onAbort);
        reject(error);
      },
    },
  );
  return promise;
}

function asError(reason: unknown): Error {
  return reason instanceof Error ? reason : new Error(String(reason));
}
