import {
  Agent,
  type ClientRequest,
  type IncomingHttpHeaders,
  type IncomingMessage,
  request,
} from "node:http";

import { CacheError } from "@glorious/core";

import { cancelled, onAbort, throwIfCancelled } from "./cancellation.ts";
import type { HttpClientOptions, HttpRequestOptions, HttpResponse } from "./http-client.ts";
import { toNetworkError } from "./network-error.ts";
import { readAnswer } from "./read-answer.ts";

/** Questions with small answers, which a job waits for before its work begins. */
export interface ShortClient extends AsyncDisposable {
  /** As `send` of the client for uploads, for requests without a body of their own. */
  send(
    method: "GET" | "POST",
    url: URL,
    options?: Pick<HttpRequestOptions, "json" | "secret" | "signal">,
  ): Promise<Pick<HttpResponse, "status" | "text">>;
}

/** Options of {@link createShortClient}; the deadline is the caller's, by the signal. */
export type ShortClientOptions = Pick<HttpClientOptions, "token" | "tls">;

const MAX_RESPONSE_BYTES = 2 ** 20;

/**
 * Creates a client that is there at once: it is Node's own, while to load the one for uploads takes longer than a short
 * exchange. A connection is used again until the client is disposed.
 */
export function createShortClient({ token, tls }: ShortClientOptions = {}): ShortClient {
  let agent: Agent | undefined;
  return {
    async send(method, url, { json, secret, signal } = {}) {
      const line = `${method} ${url.origin}${url.pathname}`;
      throwIfCancelled(signal, line);
      const transport =
        url.protocol === "https:" ? await import("./secure-transport.ts") : { Agent, request };
      agent ??= new transport.Agent({ keepAlive: true, ...tls });
      const body = json === undefined ? undefined : JSON.stringify(json);
      const headers: Record<string, string> = {
        "user-agent": "gloriousflywheel-cache-client",
        accept: "*/*",
        ...(token !== undefined && { authorization: `Bearer ${token}` }),
        ...(body !== undefined && { "content-type": "application/json" }),
        ...(body !== undefined && { "content-length": String(Buffer.byteLength(body)) }),
      };
      const outgoing = transport.request(url, { agent, method, headers });
      using _ = onAbort(signal, () => outgoing.destroy(new Error("aborted")));
      try {
        const response = await answerTo(outgoing, body);
        return readAnswer(
          {
            line,
            status: response.statusCode ?? 0,
            header: singleValued(response.headers),
            text: await readText(response, line),
          },
          [token, secret],
        );
      } catch (error) {
        if (signal?.aborted === true) throw cancelled(signal, line);
        throw toNetworkError(error, line);
      } finally {
        outgoing.on("error", () => {});
      }
    },
    [Symbol.asyncDispose]: () => {
      agent?.destroy();
      return Promise.resolve();
    },
  };
}

function answerTo(outgoing: ClientRequest, body: string | undefined): Promise<IncomingMessage> {
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  outgoing.on("response", resolve);
  outgoing.on("error", reject);
  outgoing.end(body);
  return promise;
}

async function readText(response: IncomingMessage, line: string): Promise<string> {
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    sizeBytes += chunk.length;
    if (sizeBytes > MAX_RESPONSE_BYTES) {
      throw new CacheError("TOO_LARGE", `${line} answered more than ${MAX_RESPONSE_BYTES} bytes`);
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}

function singleValued(headers: IncomingHttpHeaders): (name: string) => string | undefined {
  return (name) => {
    const value = headers[name];
    return typeof value === "string" ? value : value?.[0];
  };
}
