import { CacheError } from "@glorious/core";

import type { Clock } from "../clock.ts";
import { createDownloader, type Download, type Downloader } from "../http-download.ts";
import { isTransient, planRetryMs, type RetryPolicy, withRetry } from "../retry.ts";
import type { CacheFiles } from "./cache-files.ts";
import { listHashes } from "./list-hashes.ts";

/** Options of {@link openHttpFiles}. */
export interface HttpFilesOptions {
  /** With a trailing slash. */
  readonly base: URL;
  /** A secret, for a cache that asks for one. */
  readonly token?: string | undefined;
  /** What lists the cache, when its own address does not. */
  readonly index?: URL | undefined;
  readonly retry: RetryPolicy;
  readonly clock: Clock;
  /** A number in [0, 1). */
  readonly random: () => number;
  readonly idleTimeoutMs?: number | undefined;
}

/** Opens a static cache behind HTTP. Nothing is asked yet. */
export function openHttpFiles(options: HttpFilesOptions): CacheFiles {
  const { base } = options;
  const downloader = createDownloader(options);
  const reader = new HttpReader(downloader, options);
  return {
    name: base.href,
    readText: (file, { maxBytes, signal }) => reader.text(new URL(file, base), maxBytes, signal),
    stream: (location, signal) => reader.stream(requireUrl(location, base), signal),
    listHashes: (signal) => listHashes(reader, options, signal),
    [Symbol.asyncDispose]: () => downloader[Symbol.asyncDispose](),
  };
}

function requireUrl(location: string, base: URL): URL {
  const url = URL.parse(location, base.href);
  if (url !== null && /^https?:$/.test(url.protocol)) return url;
  throw new CacheError("INVALID", `${JSON.stringify(location)} is no address of a file`);
}

/** Reads with patience: what breaks is asked for again. */
class HttpReader {
  readonly #downloader: Downloader;
  readonly #options: HttpFilesOptions;

  constructor(downloader: Downloader, options: HttpFilesOptions) {
    this.#downloader = downloader;
    this.#options = options;
  }

  async text(
    url: URL,
    maxBytes: number,
    signal: AbortSignal | undefined,
  ): Promise<string | undefined> {
    const { retry: policy, clock, random } = this.#options;
    const attempt = async (): Promise<string | undefined> => {
      const download = await this.#downloader.open(url, { signal });
      return download && (await readText(download, maxBytes, url));
    };
    return withRetry(attempt, { what: `GET ${url.href}`, policy, clock, random, signal });
  }

  /**
   * Whatever was received is not asked for again: the rest by a range, or where the server knows none, by reading over
   * what is there already. Each attempt that brings something is a new first one.
   */
  async *stream(
    url: URL,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<Buffer, void, undefined> {
    const { retry: policy, clock, random } = this.#options;
    let received = 0;
    let failedAttempts = 0;
    let firstFailureMs = 0;
    for (;;) {
      try {
        const download = await this.#downloader.open(url, { startByte: received, signal });
        if (download === undefined) {
          throw new CacheError("NOT_FOUND", `There is no file ${url.href}`);
        }
        let skip = download.status === 206 ? 0 : received;
        for await (const chunk of download.body) {
          const piece = chunk.subarray(Math.min(skip, chunk.length));
          skip -= chunk.length - piece.length;
          if (piece.length === 0) continue;
          received += piece.length;
          failedAttempts = 0;
          yield piece;
        }
        return;
      } catch (error) {
        if (!isTransient(error)) throw error;
        failedAttempts += 1;
        if (failedAttempts === 1) firstFailureMs = clock.nowMs();
        const elapsedMs = clock.nowMs() - firstFailureMs;
        const state = { failedAttempts, elapsedMs, retryAfterMs: undefined };
        const delayMs = planRetryMs(policy, state, random());
        if (delayMs === undefined) throw error;
        await clock.sleep(delayMs, signal);
      }
    }
  }

  /** A listing, whose end nobody knows: once, without another try. */
  async open(url: URL, signal: AbortSignal | undefined): Promise<Download | undefined> {
    const { retry: policy, clock, random } = this.#options;
    const attempt = (): Promise<Download | undefined> => this.#downloader.open(url, { signal });
    return withRetry(attempt, { what: `GET ${url.href}`, policy, clock, random, signal });
  }
}

async function readText({ body }: Download, maxBytes: number, url: URL): Promise<string> {
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  for await (const chunk of body) {
    sizeBytes += chunk.length;
    if (sizeBytes > maxBytes) {
      throw new CacheError("TOO_LARGE", `${url.href} has more than ${maxBytes} bytes`);
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}
