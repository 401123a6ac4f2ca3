import type { IncomingMessage } from "node:http";

import { CacheError } from "@glorious/core";

import type { Exchange } from "./exchange.ts";

export interface BodyOptions {
  /** How long the client may send nothing before the request is given up. */
  readonly idleTimeoutMs: number;
}

type BodySource = Pick<Exchange, "request" | "response" | "signal">;

const bytesRead = new WeakMap<IncomingMessage, number>();

/** How much of a request's body {@link readBody} has read so far. */
export function bodyBytesRead(request: IncomingMessage): number {
  return bytesRead.get(request) ?? 0;
}

/**
 * The body of a request, piece by piece, with a deadline for every piece.
 *
 * The request stays open when the reading ends early: the answer still has to reach the client.
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
  let wake = (): void => {};
  const onEvent = (): void => wake();
  const events = ["readable", "end", "close", "error"] as const;
  for (const event of events) request.on(event, onEvent);
  signal.addEventListener("abort", onEvent);
  try {
    for (;;) {
      const piece = request.read() as Buffer | null;
      if (piece !== null) {
        received += piece.length;
        bytesRead.set(request, received);
        yield piece;
      } else if (request.readableEnded || (request.complete && request.readableLength === 0)) {
        return;
      } else if (request.destroyed) {
        throw truncated(received, request.errored);
      } else if (signal.aborted) {
        throw new CacheError("CANCELLED", `The request was given up after ${received} bytes`);
      } else if (!(await waitFor((resolve) => (wake = resolve), idleTimeoutMs))) {
        throw new CacheError("TIMEOUT", `No byte came for ${idleTimeoutMs} ms, after ${received}`, {
          hint: "Send the body without pauses, or look for a proxy that holds it back.",
        });
      }
    }
  } finally {
    for (const event of events) request.off(event, onEvent);
    signal.removeEventListener("abort", onEvent);
  }
}

/** Whether `wakeUp` was called before the time was over. */
function waitFor(setWake: (wakeUp: () => void) => void, timeoutMs: number): Promise<boolean> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => resolve(false), timeoutMs);
    setWake(() => {
      clearTimeout(timer);
      resolve(true);
    });
  });
}

function truncated(received: number, cause: unknown): CacheError {
  return new CacheError("TRUNCATED", `The body broke off after ${received} bytes`, {
    cause,
    hint: "Send it again; a proxy with a body or time limit may have cut it.",
  });
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
 * Reads and drops what is left of a body, so that a client that is still sending gets to read the answer
 * instead of a reset connection. Beyond the bounds the connection is closed. Resolves in either case.
 */
export function drainBody(
  request: IncomingMessage,
  bounds: { readonly maxSizeBytes: number; readonly timeoutMs: number },
): Promise<void> {
  const isDrained = request.readableEnded || (request.complete && request.readableLength === 0);
  if (isDrained || request.destroyed) return Promise.resolve();
  return new Promise((resolve) => {
    let sizeBytes = 0;
    const timer = setTimeout(() => request.destroy(), bounds.timeoutMs);
    timer.unref();
    const stop = (): void => {
      clearTimeout(timer);
      resolve();
    };
    request.on("data", (piece: Buffer) => {
      sizeBytes += piece.length;
      if (sizeBytes > bounds.maxSizeBytes) request.destroy();
    });
    request.once("end", stop);
    request.once("close", stop);
    request.on("error", () => {});
    request.resume();
  });
}
