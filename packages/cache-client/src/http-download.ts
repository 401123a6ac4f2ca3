import { CacheError, formatDurationMs } from "@glorious/core";
import type { Agent, request as undiciRequest } from "undici";

import { cancelled, onAbort, throwIfCancelled } from "./cancellation.ts";
import { toNetworkError } from "./network-error.ts";
import { type ResponseError, toResponseError } from "./response-error.ts";
import { parseRetryAfterMs } from "./retry.ts";

/** Options of {@link createDownloader}. */
export interface DownloaderOptions {
  /** A secret: sent as a bearer token to the origin of `base`, and nowhere else. */
  readonly token?: string | undefined;
  readonly base: URL;
  /** A download without a byte for this long is given up; default 60 000. */
  readonly idleTimeoutMs?: number | undefined;
}

/** An answer whose body is read as it comes. */
export interface Download {
  readonly status: 200 | 206;
  readonly contentType: string | undefined;
  /** Must be read to its end or closed. @throws {CacheError} `UNAVAILABLE`, `TIMEOUT` or `CANCELLED`. */
  readonly body: AsyncIterable<Buffer>;
}

/** Reads files of a cache, one request each. */
export interface Downloader extends AsyncDisposable {
  /**
   * Begins a download; redirects are followed, five at most.
   *
   * @param startByte - Asks for what is from there on: 206 when the server does that, else 200 and all of it.
   * @returns `undefined` when there is no such file: 404, 410, and 403, which is how buckets say it that may not be listed.
   * @throws {CacheError} a `ResponseError` for other statuses; `UNAVAILABLE`, `TIMEOUT`, `CANCELLED`.
   */
  open(
    url: URL,
    options: { readonly startByte?: number; readonly signal?: AbortSignal | undefined },
  ): Promise<Download | undefined>;
}

const DEFAULT_IDLE_TIMEOUT_MS = 60_000;
const MAX_REDIRECTS = 5;
const MAX_ERROR_BYTES = 64 * 1024;
const ABSENT: ReadonlySet<number> = new Set([403, 404, 410]);
const REDIRECTS: ReadonlySet<number> = new Set([301, 302, 303, 307, 308]);

/** Creates a downloader with connections of its own. */
export function createDownloader(options: DownloaderOptions): Downloader {
  const { base, token } = options;
  const idleTimeoutMs = options.idleTimeoutMs ?? DEFAULT_IDLE_TIMEOUT_MS;
  // Decoding and uploading may keep a body waiting for as long as they like: only our own timer counts.
  const openAgent = async (): Promise<OpenedDownloader> => {
    const { Agent, request } = await import("undici");
    return { agent: new Agent({ headersTimeout: idleTimeoutMs, bodyTimeout: 0 }), request };
  };
  let opened: Promise<OpenedDownloader> | undefined;

  const ask = async (
    url: URL,
    startByte: number,
    controller: AbortController,
  ): ReturnType<typeof undiciRequest> => {
    const { agent, request } = await (opened ??= openAgent());
    return request(url, {
      dispatcher: agent,
      method: "GET",
      headers: {
        "user-agent": "gloriousflywheel-cache-client",
        accept: "*/*",
        ...(startByte > 0 && { range: `bytes=${startByte}-` }),
        ...(token !== undefined &&
          url.origin === base.origin && { authorization: `Bearer ${token}` }),
      },
      signal: controller.signal,
    });
  };

  return {
    open: async (start, { startByte = 0, signal }) => {
      const line = `GET ${start.origin}${start.pathname}`;
      throwIfCancelled(signal, line);
      const controller = new AbortController();
      let url = start;
      for (let redirects = 0; ; redirects += 1) {
        const following = onAbort(signal, () => controller.abort());
        try {
          const response = await ask(url, startByte, controller);
          const { statusCode, headers, body } = response;
          const location = single(headers["location"]);
          if (REDIRECTS.has(statusCode) && location !== undefined && redirects < MAX_REDIRECTS) {
            await body.dump();
            url = requireHttp(location, url, line);
            continue;
          }
          if (ABSENT.has(statusCode)) {
            await body.dump();
            return undefined;
          }
          const isEncoded = !["", "identity"].includes(single(headers["content-encoding"]) ?? "");
          if ((statusCode !== 200 && statusCode !== 206) || isEncoded) {
            throw isEncoded && statusCode < 300
              ? new CacheError("UNSUPPORTED", `${line} is content-encoded, which nobody asked for`)
              : await refusal(line, response);
          }
          return {
            status: statusCode,
            contentType: single(headers["content-type"]),
            body: readBody(body, { line, idleTimeoutMs, controller, signal }),
          };
        } catch (error) {
          controller.abort();
          if (signal?.aborted === true) throw cancelled(signal, line);
          throw error instanceof CacheError ? error : toNetworkError(error, line);
        } finally {
          following[Symbol.dispose]();
        }
      }
    },
    [Symbol.asyncDispose]: async () => (await opened)?.agent.destroy(),
  };
}

interface OpenedDownloader {
  readonly agent: Agent;
  readonly request: typeof undiciRequest;
}

function single(value: string | string[] | undefined): string | undefined {
  return typeof value === "string" ? value : value?.[0];
}

function requireHttp(location: string, from: URL, line: string): URL {
  const url = URL.parse(location, from.href);
  const isDowngrade = from.protocol === "https:" && url?.protocol !== "https:";
  if (url !== null && /^https?:$/.test(url.protocol) && !isDowngrade) return url;
  throw new CacheError("UNSUPPORTED", `${line} redirects to what is not followed`, {
    hint: "Name the source by an address that answers itself.",
  });
}

async function refusal(
  line: string,
  { statusCode, headers, body }: Awaited<ReturnType<typeof undiciRequest>>,
): Promise<ResponseError> {
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  for await (const chunk of body as AsyncIterable<Buffer>) {
    sizeBytes += chunk.length;
    if (sizeBytes > MAX_ERROR_BYTES) break;
    chunks.push(chunk);
  }
  return toResponseError({
    request: line,
    status: statusCode,
    body: Buffer.concat(chunks).toString("utf8"),
    contentType: single(headers["content-type"]),
    location: single(headers["location"]),
    requestId: single(headers["x-request-id"]),
    retryAfterMs: parseRetryAfterMs(single(headers["retry-after"]), Date.now()),
  });
}

interface BodyOptions {
  readonly line: string;
  readonly idleTimeoutMs: number;
  readonly controller: AbortController;
  readonly signal: AbortSignal | undefined;
}

/** The deadline runs while a byte is waited for, and stands still while the last one is worked on. */
async function* readBody(
  body: AsyncIterable<Buffer>,
  { line, idleTimeoutMs, controller, signal }: BodyOptions,
): AsyncGenerator<Buffer, void, undefined> {
  using _ = onAbort(signal, () => controller.abort());
  const chunks = body[Symbol.asyncIterator]();
  let isIdle = false;
  try {
    for (;;) {
      const timer = setTimeout(() => {
        isIdle = true;
        controller.abort();
      }, idleTimeoutMs);
      const next = await chunks.next().finally(() => clearTimeout(timer));
      if (next.done === true) return;
      yield next.value;
    }
  } catch (error) {
    if (isIdle) {
      const time = formatDurationMs(idleTimeoutMs);
      throw new CacheError("TIMEOUT", `${line} stood still for ${time}`, { cause: error });
    }
    if (signal?.aborted === true) throw cancelled(signal, line);
    throw error instanceof CacheError ? error : toNetworkError(error, line);
  } finally {
    controller.abort();
    await chunks.return?.();
  }
}
