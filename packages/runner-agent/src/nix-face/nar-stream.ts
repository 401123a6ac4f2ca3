import { setTimeout as sleep } from "node:timers/promises";

import { CacheError, describeError, isCacheError } from "@glorious/core";

import type { Miss, Upstream, UpstreamAnswer } from "./upstream.ts";

/** Which bytes of a file; without `end` all from `start` on. */
export interface FileRange {
  readonly start: number;
  /** Exclusive. */
  readonly end?: number;
}

/** A file on its way from the upstream. */
export interface NarStream {
  /** 206 when a range was asked for and is given. */
  readonly status: number;
  readonly header: UpstreamAnswer["header"];
  /** How many bytes will come, where the upstream says so. */
  readonly sizeBytes: number | undefined;
  /**
   * The bytes. A transfer that is cut or stalls goes on where it stopped. A chunk is good until the next is asked for.
   *
   * @throws {CacheError} `TRUNCATED` when it cannot go on.
   */
  readonly chunks: AsyncGenerator<Buffer, void, undefined>;
}

/** Options of {@link openNarStream}. */
export interface NarStreamOptions {
  readonly range?: FileRange | undefined;
  /** A transfer that brings nothing for this long, or next to nothing, counts as broken. */
  readonly stallMs: number;
  readonly signal?: AbortSignal | undefined;
}

/** Broken transfers one after the other, none of which brought much. */
const MAX_BREAKS = 3;
const PROGRESS_BYTES = 64 * 1024;
const RESUME_PAUSE_MS = 200;
/** Less than this on a whole link, while somebody waits for it, is no transfer. */
const MIN_BYTES_PER_SECOND = 1024;

/** Asks for a file; the first bytes decide whether there is one. */
export async function openNarStream(
  upstream: Upstream,
  url: URL,
  options: NarStreamOptions,
): Promise<NarStream | Miss> {
  const { range, signal } = options;
  const headers = range === undefined ? {} : { range: formatRange(range) };
  const answer = await upstream.open(url, { headers, signal });
  if ("miss" in answer) return answer;
  const sizeBytes = parseLength(answer.header("content-length"));
  const begin = range !== undefined && answer.status === 206 ? range : { start: 0 };
  return {
    status: answer.status,
    header: answer.header,
    sizeBytes,
    chunks: readOn(upstream, url, { answer, begin, sizeBytes }, options),
  };
}

interface Begun {
  readonly answer: UpstreamAnswer;
  readonly begin: FileRange;
  readonly sizeBytes: number | undefined;
}

async function* readOn(
  upstream: Upstream,
  url: URL,
  { answer: first, begin, sizeBytes }: Begun,
  { stallMs, signal }: NarStreamOptions,
): AsyncGenerator<Buffer, void, undefined> {
  const etag = first.header("etag");
  const isResumable = first.header("accept-ranges") === "bytes" || first.status === 206;
  let answer: UpstreamAnswer | undefined = first;
  let received = 0;
  let breaks = 0;
  let resumedAt = 0;
  signal?.addEventListener("abort", () => answer?.body.destroy());
  for (;;) {
    let trouble: unknown;
    if (answer !== undefined) {
      try {
        for await (const chunk of watched(answer.body, stallMs)) {
          received += chunk.length;
          if (breaks > 0 && received - resumedAt >= PROGRESS_BYTES) {
            breaks = 0;
            upstream.report();
          }
          yield chunk;
        }
      } catch (error) {
        trouble = error;
      } finally {
        // Not read to its end when the reader gave up, too.
        answer.body.destroy();
      }
      const isWhole = sizeBytes === undefined ? trouble === undefined : received === sizeBytes;
      if (isWhole) {
        upstream.report();
        return;
      }
    }
    if (signal?.aborted === true) throw new CacheError("CANCELLED", `${url.pathname} was given up`);
    breaks += 1;
    resumedAt = received;
    // Whoever else waits for the upstream need not find out as slowly.
    if (isCacheError(trouble, "TIMEOUT")) upstream.report(`a transfer stalled: ${trouble.message}`);
    if (!isResumable || breaks > MAX_BREAKS || received > (sizeBytes ?? Infinity)) {
      const reason = trouble === undefined ? "its end came early" : describeError(trouble);
      upstream.report(`a transfer broke off: ${reason}`);
      throw new CacheError("TRUNCATED", `${url.pathname} broke off after ${received} bytes`, {
        cause: trouble,
      });
    }
    if (breaks > 1) await sleep(RESUME_PAUSE_MS * 2 ** (breaks - 2), undefined, { ref: false });
    const range = {
      start: begin.start + received,
      ...(begin.end === undefined ? {} : { end: begin.end }),
    };
    const headers = {
      range: formatRange(range),
      ...(etag === undefined || etag.startsWith("W/") ? {} : { "if-range": etag }),
    };
    const next = await upstream.open(url, { headers, signal });
    answer = "miss" in next ? undefined : next;
    if (answer !== undefined && !continuesAt(answer, range.start)) {
      answer.body.destroy();
      answer = undefined;
      // Other bytes than before, or no ranges after all: it will not get better.
      breaks = MAX_BREAKS;
    }
  }
}

function continuesAt(answer: UpstreamAnswer, start: number): boolean {
  return (
    answer.status === 206 && (answer.header("content-range") ?? "").startsWith(`bytes ${start}-`)
  );
}

/** The chunks of a body. @throws {CacheError} `TIMEOUT` when it stalls while somebody waits for it. */
async function* watched(
  body: AsyncIterable<Buffer>,
  stallMs: number,
): AsyncGenerator<Buffer, void, undefined> {
  const iterator = body[Symbol.asyncIterator]();
  let bytes = 0;
  let readerMs = 0;
  let rejectWaiting: ((error: CacheError) => void) | undefined;
  const timer = setInterval(() => {
    // What the reader took of the time is not the upstream's.
    const isSlow = bytes < (MIN_BYTES_PER_SECOND * stallMs) / 1000 && readerMs < stallMs / 2;
    if (isSlow) rejectWaiting?.(new CacheError("TIMEOUT", `${bytes} bytes came in ${stallMs} ms`));
    bytes = 0;
    readerMs = 0;
  }, stallMs);
  timer.unref();
  try {
    for (;;) {
      const { promise, resolve, reject } = Promise.withResolvers<IteratorResult<Buffer>>();
      rejectWaiting = reject;
      iterator.next().then(resolve, reject);
      const result = await promise;
      rejectWaiting = undefined;
      if (result.done === true) return;
      bytes += result.value.length;
      const sinceMs = performance.now();
      yield result.value;
      readerMs += performance.now() - sinceMs;
    }
  } finally {
    clearInterval(timer);
  }
}

function formatRange({ start, end }: FileRange): string {
  return `bytes=${start}-${end === undefined ? "" : end - 1}`;
}

function parseLength(header: string | undefined): number | undefined {
  return header !== undefined && /^\d{1,16}$/.test(header) ? Number(header) : undefined;
}
