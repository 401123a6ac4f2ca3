import { Agent as HttpAgent, type IncomingMessage, request as httpRequest } from "node:http";
import { Agent as HttpsAgent, request as httpsRequest } from "node:https";

import { CacheError, formatDurationMs } from "@glorious/core";

import type { Answer } from "../snapshot.ts";
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

/** Asks as Nix would: HTTP/1.1, Basic authentication from a netrc file, redirects followed. */
export interface HttpSession extends Disposable {
  /**
   * Reads a small answer, whatever its status; of a body only the first 64 KiB.
   *
   * @param password - Sent as Basic authentication without a name. Secret.
   * @throws {CacheError} `UNAVAILABLE` or `TIMEOUT`, the reason in words.
   */
  get(url: string, password?: string): Promise<Answer>;
  /** The same for a body of any size; reading it may throw. */
  open(url: string, password?: string): Promise<OpenAnswer>;
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

  const send = async (address: string, password: string | undefined): Promise<Sent> => {
    let url = new URL(address);
    const { hostname } = url;
    for (let redirects = 0; ; redirects += 1) {
      // As curl does: netrc knows hosts, not ports, and another host never sees the token.
      const credentials = url.hostname === hostname ? password : undefined;
      const sent = await sendOnce(url, credentials, agents, options);
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
      const { response, atMs } = await send(address, password);
      const chunks: Buffer[] = [];
      let sizeBytes = 0;
      for await (const chunk of readBody(response)) {
        chunks.push(Buffer.from(chunk));
        sizeBytes += chunk.length;
        if (sizeBytes > MAX_BODY_BYTES) break;
      }
      const dateMs = Date.parse(response.headers.date ?? "");
      return {
        status: response.statusCode ?? 0,
        body: Buffer.concat(chunks).subarray(0, MAX_BODY_BYTES).toString(),
        dateMs: Number.isNaN(dateMs) ? undefined : dateMs,
        atMs,
      };
    },
    async open(address, password) {
      const { response } = await send(address, password);
      return { status: response.statusCode ?? 0, url: address, body: readBody(response) };
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

async function sendOnce(
  url: URL,
  password: string | undefined,
  agents: { readonly "http:": HttpAgent; readonly "https:": HttpsAgent },
  { timeoutMs, signal, nowMs }: HttpSessionOptions,
): Promise<Sent> {
  const { promise, resolve, reject } = Promise.withResolvers<Sent>();
  const isSecure = url.protocol === "https:";
  const startedMs = nowMs();
  const request = (isSecure ? httpsRequest : httpRequest)(url, {
    agent: isSecure ? agents["https:"] : agents["http:"],
    signal,
    timeout: timeoutMs,
    headers: {
      "user-agent": "flywheel-doctor",
      accept: "*/*",
      ...(password === undefined
        ? {}
        : { authorization: `Basic ${Buffer.from(`:${password}`).toString("base64")}` }),
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
  request.end();
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
