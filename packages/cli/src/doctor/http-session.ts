import { Agent as HttpAgent, type IncomingMessage, request as httpRequest } from "node:http";
import { Agent as HttpsAgent, request as httpsRequest } from "node:https";

import { CacheError, formatDurationMs } from "@glorious/core";

import type { Answer } from "./answer.ts";
import { describeNetworkError } from "./network-error.ts";

/** Options of {@link openHttpSession}. */
export interface HttpSessionOptions {
  /** A connection that is silent for this long is given up. */
  readonly timeoutMs: number;
  /** Authorities in PEM to trust instead of Node's own. */
  readonly ca: string | undefined;
  readonly signal: AbortSignal;
  readonly nowMs: () => number;
}

/** An answer whose body is still to be read. */
export interface OpenAnswer {
  readonly status: number;
  readonly url: string;
  readonly body: AsyncIterable<Uint8Array>;
}

/** One request, as it stands. */
export interface HttpRequest {
  readonly method: "GET" | "PUT";
  /** Secret. */
  readonly authorization: string | undefined;
  readonly body?: Uint8Array;
}

/** Asks over HTTP/1.1, on connections that are kept. */
export interface HttpSession extends Disposable {
  /**
   * Reads a small answer as Nix would, redirects followed, whatever its status; of a body only the first 64 KiB.
   *
   * @param password - Sent as Basic authentication without a name. Secret.
   * @throws {CacheError} `UNAVAILABLE` or `TIMEOUT`, the reason in words.
   */
  get(url: string, password?: string): Promise<Answer>;
  /** The same for a body of any size; reading it may throw. */
  open(url: string, password?: string): Promise<OpenAnswer>;
  /**
   * Sends one request and reads a small answer, redirects not followed.
   *
   * @throws {CacheError} as {@link get}.
   */
  send(url: string, request: HttpRequest): Promise<Answer & { readonly bytes: Buffer }>;
}

const MAX_BODY_BYTES = 64 * 1024;
// As many as Nix allows.
const MAX_REDIRECTS = 10;

export function openHttpSession(options: HttpSessionOptions): HttpSession {
  const agents = {
    "http:": new HttpAgent({ keepAlive: true }),
    "https:": new HttpsAgent({
      keepAlive: true,
      ...(options.ca === undefined ? {} : { ca: options.ca }),
    }),
  };

  const follow = async (address: string, password: string | undefined): Promise<Sent> => {
    let url = new URL(address);
    const { hostname } = url;
    for (let redirects = 0; ; redirects += 1) {
      // As curl does: netrc knows hosts, not ports, and another host never sees the token.
      const credentials = url.hostname === hostname ? password : undefined;
      const request = { method: "GET", authorization: basic(credentials) } as const;
      const sent = await sendOnce(url, request, agents, options);
      const { location } = sent.response.headers;
      const isRedirect = [301, 302, 303, 307, 308].includes(sent.response.statusCode ?? 0);
      if (!isRedirect || location === undefined) return sent;
      sent.response.resume();
      if (redirects === MAX_REDIRECTS) throw new CacheError("UNAVAILABLE", "too many redirects");
      url = new URL(location, url);
    }
  };

  return {
    async get(address, password) {
      const { bytes: _, ...answer } = await readAnswer(await follow(address, password));
      return answer;
    },
    async open(address, password) {
      const { response } = await follow(address, password);
      return { status: response.statusCode ?? 0, url: address, body: readBody(response) };
    },
    async send(address, request) {
      return await readAnswer(await sendOnce(new URL(address), request, agents, options));
    },
    [Symbol.dispose]() {
      for (const agent of Object.values(agents)) agent.destroy();
    },
  };
}

interface Sent {
  readonly response: IncomingMessage;
  readonly atMs: number;
}

async function readAnswer({ response, atMs }: Sent): Promise<Answer & { readonly bytes: Buffer }> {
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  for await (const chunk of readBody(response)) {
    chunks.push(Buffer.from(chunk));
    sizeBytes += chunk.length;
    if (sizeBytes > MAX_BODY_BYTES) break;
  }
  const bytes = Buffer.concat(chunks).subarray(0, MAX_BODY_BYTES);
  const dateMs = Date.parse(response.headers.date ?? "");
  return {
    status: response.statusCode ?? 0,
    body: bytes.toString(),
    bytes,
    dateMs: Number.isNaN(dateMs) ? undefined : dateMs,
    atMs,
  };
}

function basic(password: string | undefined): string | undefined {
  if (password === undefined) return undefined;
  return `Basic ${Buffer.from(`:${password}`).toString("base64")}`;
}

async function sendOnce(
  url: URL,
  { method, authorization, body }: HttpRequest,
  agents: { readonly "http:": HttpAgent; readonly "https:": HttpsAgent },
  { timeoutMs, signal, nowMs }: HttpSessionOptions,
): Promise<Sent> {
  const { promise, resolve, reject } = Promise.withResolvers<Sent>();
  const isSecure = url.protocol === "https:";
  const startedMs = nowMs();
  const request = (isSecure ? httpsRequest : httpRequest)(url, {
    method,
    agent: isSecure ? agents["https:"] : agents["http:"],
    signal,
    timeout: timeoutMs,
    headers: {
      "user-agent": "flywheel-doctor",
      accept: "*/*",
      ...(authorization === undefined ? {} : { authorization }),
      ...(body === undefined ? {} : { "content-length": body.length }),
    },
  });
  request.on("timeout", () => {
    const waited = formatDurationMs(timeoutMs);
    request.destroy(new CacheError("TIMEOUT", `the server was silent for ${waited}`));
  });
  request.on("error", (error) => {
    reject(toCacheError(error));
  });
  request.on("response", (response) => {
    resolve({ response, atMs: (startedMs + nowMs()) / 2 });
  });
  request.end(body);
  return promise;
}

async function* readBody(response: IncomingMessage): AsyncGenerator<Uint8Array> {
  try {
    yield* response as AsyncIterable<Uint8Array>;
  } catch (error) {
    throw toCacheError(error);
  }
}

function toCacheError(error: unknown): CacheError {
  if (error instanceof CacheError) return error;
  return new CacheError("UNAVAILABLE", describeNetworkError(error), { cause: error });
}
