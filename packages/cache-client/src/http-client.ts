import type { Readable } from "node:stream";

import { CacheError, formatDurationMs } from "@glorious/core";
import type { Agent, request as undiciRequest } from "undici";

import { cancelled, onAbort, throwIfCancelled } from "./cancellation.ts";
import { toNetworkError } from "./network-error.ts";
import { readAnswer } from "./read-answer.ts";

/** What a TLS connection trusts and shows, in PEM. */
export interface TlsOptions {
  /** Authorities to trust instead of the machine's own. */
  readonly ca?: string | Buffer;
  /** Our certificate, for a server that asks for one. */
  readonly cert?: string | Buffer;
  readonly key?: string | Buffer;
}

/** Options of {@link createHttpClient}. */
export interface HttpClientOptions {
  /** Sent as a bearer token; never part of a message. */
  readonly token?: string | undefined;
  /** A request without any progress for this long is given up; default 120 000. */
  readonly idleTimeoutMs?: number | undefined;
  readonly tls?: TlsOptions | undefined;
}

/** A body made while it is sent. It must end or throw soon after the signal fires. */
export type BodySource = (signal: AbortSignal) => AsyncIterable<Uint8Array>;

/** Options of one request. */
export interface HttpRequestOptions {
  readonly headers?: Readonly<Record<string, string>>;
  /** Sent as `application/json`. */
  readonly json?: unknown;
  /** Something in the body that must not be part of a message. */
  readonly secret?: string | undefined;
  readonly body?: BodySource;
  /** The exact length of `body`; without it the body is sent in chunks. */
  readonly contentLength?: number;
  /** Told the bytes of the body handed to the socket so far. */
  readonly onSent?: (sentBytes: number) => void;
  readonly signal?: AbortSignal | undefined;
}

/** A successful answer, read whole. */
export interface HttpResponse {
  readonly status: number;
  readonly text: string;
  /** Bytes of the request body that went out; less than all of it when the server answered early. */
  readonly sentBytes: number;
}

/** The methods a cache server is asked with. */
export type HttpMethod = "GET" | "POST" | "PUT" | "PATCH" | "DELETE";

/** One server's connections. */
export interface HttpClient extends AsyncDisposable {
  /**
   * Sends one request, once, and reads the whole answer, which may come before the body is out.
   *
   * @throws {CacheError} a `ResponseError` for any status that is not 2xx; `UNAVAILABLE` or `TIMEOUT`
   * for the network; `CANCELLED`; and whatever the body's source throws, as it is.
   */
  send(method: HttpMethod, url: URL, options?: HttpRequestOptions): Promise<HttpResponse>;
}

const DEFAULT_IDLE_TIMEOUT_MS = 120_000;
const MAX_RESPONSE_BYTES = 64 * 2 ** 20;
const USER_AGENT = "gloriousflywheel-cache-client";

/** Creates a client with connections of its own; dispose it to close them. */
export function createHttpClient(options: HttpClientOptions = {}): HttpClient {
  const idleTimeoutMs = options.idleTimeoutMs ?? DEFAULT_IDLE_TIMEOUT_MS;
  const { token } = options;
  // Loading it takes longer than what many a command does, and not all of them send anything.
  const open = async (): Promise<OpenedHttp> => {
    const { Agent, request } = await import("undici");
    const agent = new Agent({
      // Several HTTP/1.1 connections carry parallel uploads better than one connection's flow control.
      allowH2: false,
      // One idle deadline rules, ours: it does not run while the body's source is busy.
      headersTimeout: 0,
      bodyTimeout: 0,
      connect: { timeout: Math.min(idleTimeoutMs, 15_000), ...options.tls },
    });
    return { agent, request };
  };
  let opened: Promise<OpenedHttp> | undefined;

  return {
    send: async (method, url, requestOptions = {}) =>
      send(await (opened ??= open()), { token, idleTimeoutMs }, method, url, requestOptions),
    [Symbol.asyncDispose]: async () => (await opened)?.agent.destroy(),
  };
}

interface OpenedHttp {
  readonly agent: Agent;
  readonly request: typeof undiciRequest;
}

interface Session {
  readonly token: string | undefined;
  readonly idleTimeoutMs: number;
}

async function send(
  { agent, request: ask }: OpenedHttp,
  session: Session,
  method: HttpMethod,
  url: URL,
  options: HttpRequestOptions,
): Promise<HttpResponse> {
  const line = `${method} ${url.origin}${url.pathname}`;
  const { signal } = options;
  throwIfCancelled(signal, line);
  const controller = new AbortController();
  using _ = onAbort(signal, () => controller.abort());
  using idle = createIdleTimer(session.idleTimeoutMs, () =>
    controller.abort(
      new CacheError(
        "TIMEOUT",
        `${line} made no progress for ${formatDurationMs(session.idleTimeoutMs)}`,
        {
          hint: "The server or the network between is too slow; try again or lower the concurrency.",
        },
      ),
    ),
  );
  const body =
    options.body === undefined
      ? undefined
      : new OutgoingBody(options.body, controller, idle, options.onSent);
  const headers: Record<string, string> = {
    "user-agent": USER_AGENT,
    accept: "*/*",
    ...options.headers,
  };
  if (session.token !== undefined) headers["authorization"] = `Bearer ${session.token}`;
  if (options.json !== undefined) headers["content-type"] = "application/json";
  if (options.contentLength !== undefined)
    headers["content-length"] = String(options.contentLength);

  try {
    const response = await ask(url, {
      dispatcher: agent,
      method,
      headers,
      body: asBody(body) ?? (options.json === undefined ? null : JSON.stringify(options.json)),
      signal: controller.signal,
    });
    const text = await readText(response.body, line, idle);
    const header = (name: string): string | undefined => {
      const value = response.headers[name];
      return typeof value === "string" ? value : value?.[0];
    };
    const answer = { line, status: response.statusCode, header, text };
    return {
      ...readAnswer(answer, [session.token, options.secret]),
      sentBytes: body?.sentBytes ?? 0,
    };
  } catch (error) {
    if (body?.failure !== undefined) throw body.failure.error;
    if (signal?.aborted === true) throw cancelled(signal, line);
    if (controller.signal.reason instanceof CacheError) throw controller.signal.reason;
    throw toNetworkError(error, line);
  } finally {
    // An early answer leaves the source in the middle; it must be gone before its memory is given back.
    controller.abort();
    await body?.finished();
  }
}

function asBody(body: OutgoingBody | undefined): Readable | undefined {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- undici sends any iterable and documents it; its types name streams only.
  return body as unknown as Readable | undefined;
}

async function readText(
  body: AsyncIterable<Buffer>,
  line: string,
  idle: IdleTimer,
): Promise<string> {
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  for await (const chunk of body) {
    idle.restart();
    sizeBytes += chunk.length;
    if (sizeBytes > MAX_RESPONSE_BYTES) {
      throw new CacheError("TOO_LARGE", `${line} answered more than ${MAX_RESPONSE_BYTES} bytes`);
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}

interface IdleTimer extends Disposable {
  pause(): void;
  restart(): void;
}

function createIdleTimer(timeoutMs: number, onIdle: () => void): IdleTimer {
  let timer: NodeJS.Timeout | undefined = setTimeout(onIdle, timeoutMs);
  const stop = (): void => {
    clearTimeout(timer);
    timer = undefined;
  };
  let isDisposed = false;
  return {
    pause: stop,
    restart: () => {
      if (isDisposed) return;
      if (timer === undefined) timer = setTimeout(onIdle, timeoutMs);
      else timer.refresh();
    },
    [Symbol.dispose]: () => {
      isDisposed = true;
      stop();
    },
  };
}

/** A body on its way out: counts, keeps the deadline, and remembers why its source failed. */
class OutgoingBody implements AsyncIterable<Uint8Array> {
  sentBytes = 0;
  /** Set when the source itself failed; the request's own error is only a consequence then. */
  failure: { readonly error: unknown } | undefined;
  readonly #source: BodySource;
  readonly #controller: AbortController;
  readonly #idle: IdleTimer;
  readonly #onSent: ((sentBytes: number) => void) | undefined;
  #running: Promise<void> | undefined;

  constructor(
    source: BodySource,
    controller: AbortController,
    idle: IdleTimer,
    onSent: ((sentBytes: number) => void) | undefined,
  ) {
    this.#source = source;
    this.#controller = controller;
    this.#idle = idle;
    this.#onSent = onSent;
  }

  /** Resolves once the source has been closed; at once when it was never started. */
  async finished(): Promise<void> {
    await this.#running;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array, void, undefined> {
    const done = Promise.withResolvers<void>();
    this.#running = done.promise;
    const { signal } = this.#controller;
    try {
      this.#idle.pause();
      for await (const chunk of this.#source(signal)) {
        this.#idle.restart();
        yield chunk;
        this.sentBytes += chunk.length;
        this.#onSent?.(this.sentBytes);
        this.#idle.pause();
      }
    } catch (error) {
      if (!signal.aborted) this.failure = { error };
      throw error;
    } finally {
      this.#idle.restart();
      done.resolve();
    }
  }
}
