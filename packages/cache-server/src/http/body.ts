import type { IncomingMessage } from "node:http";

import { CacheError } from "@glorious/core";

import type { Exchange } from "./exchange.ts";

export interface BodyOptions {
  /** How long the client may send nothing before the request is given up. */
  readonly idleTimeoutMs: number;
}

type BodySource = Pick<Exchange, "request" | "response" | "signal">;

/**
 * The body of a request, piece by piece, with a deadline for every piece.
 *
 * @throws {CacheError} `TIMEOUT` when the client falls silent, `TRUNCATED` when it goes away before the end,
 *   `CANCELLED` when the server stops.
 */
export async function* readBody(
  { request, response, signal }: BodySource,
  { idleTimeoutMs }: BodyOptions,
): AsyncGenerator<Buffer> {
  // Only now is the client asked to send: everything that could refuse it has been looked at.
  if (request.headers.expect?.toLowerCase() === "100-continue") response.writeContinue();
  let received = 0;
  let failure: CacheError | undefined;
  const giveUp = (error: CacheError): void => {
    failure ??= error;
    request.destroy(failure);
  };
  const onAbort = (): void => {
    giveUp(new CacheError("CANCELLED", `The request was given up after ${received} bytes`));
  };
  const timer = setTimeout(() => {
    giveUp(
      new CacheError("TIMEOUT", `No byte came for ${idleTimeoutMs} ms, after ${received} bytes`, {
        hint: "Send the body without pauses, or look for a proxy that holds it back.",
      }),
    );
  }, idleTimeoutMs);
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    // The request stays open when the loop ends early: the error answer still has to reach the client.
    for await (const chunk of request.iterator({ destroyOnReturn: false })) {
      const piece = chunk as Buffer;
      received += piece.length;
      // Time that we take for the piece is not the client's.
      clearTimeout(timer);
      yield piece;
      timer.refresh();
    }
    if (!request.complete) throw new Error("aborted");
  } catch (cause) {
    if (failure !== undefined) throw failure;
    if (cause instanceof CacheError) throw cause;
    throw new CacheError("TRUNCATED", `The body broke off after ${received} bytes`, {
      cause,
      hint: "Send it again; a proxy with a body or time limit may have cut it.",
    });
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", onAbort);
  }
}

/**
 * Reads a whole small body.
 *
 * @throws {CacheError} `TOO_LARGE` as soon as it passes `maxSizeBytes`, and what {@link readBody} throws.
 */
export async function collectBody(
  source: BodySource,
  options: BodyOptions & { readonly maxSizeBytes: number },
): Promise<Buffer> {
  const { maxSizeBytes } = options;
  const pieces: Buffer[] = [];
  let sizeBytes = 0;
  requireDeclaredSize(source.request, maxSizeBytes);
  for await (const piece of readBody(source, options)) {
    sizeBytes += piece.length;
    if (sizeBytes > maxSizeBytes) throw tooLarge(maxSizeBytes);
    pieces.push(piece);
  }
  return Buffer.concat(pieces);
}

/** @throws {CacheError} `TOO_LARGE` when the request says beforehand that its body is larger. */
export function requireDeclaredSize(request: IncomingMessage, maxSizeBytes: number): void {
  if (Number(request.headers["content-length"] ?? 0) > maxSizeBytes) throw tooLarge(maxSizeBytes);
}

function tooLarge(maxSizeBytes: number): CacheError {
  return new CacheError(
    "TOO_LARGE",
    `The body is larger than the ${maxSizeBytes} bytes allowed here`,
  );
}

/**
 * Reads and drops what is left of a refused body, so that a client that is still sending gets to read
 * the answer instead of a reset connection. Beyond the bounds the connection is closed.
 */
export function drainBody(
  request: IncomingMessage,
  bounds: { readonly maxSizeBytes: number; readonly timeoutMs: number },
): void {
  if (request.complete || request.destroyed) return;
  let sizeBytes = 0;
  const timer = setTimeout(() => request.destroy(), bounds.timeoutMs);
  timer.unref();
  request.on("data", (piece: Buffer) => {
    sizeBytes += piece.length;
    if (sizeBytes > bounds.maxSizeBytes) request.destroy();
  });
  const stop = (): void => clearTimeout(timer);
  request.once("end", stop);
  request.once("close", stop);
  request.on("error", () => {});
  request.resume();
}
