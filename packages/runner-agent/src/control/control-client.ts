import { once } from "node:events";
import { type IncomingMessage, request } from "node:http";
import { createInterface } from "node:readline";

import { CacheError } from "@glorious/core";

import type { DrainLine, LiveSession } from "./control-api.ts";

/** Talks to an agent over its socket. */
export interface ControlClient {
  session(): Promise<LiveSession>;
  enqueue(paths: readonly string[]): Promise<void>;
  /** Yields how far the drain is, the report last. */
  drain(timeoutMs: number | undefined): AsyncGenerator<DrainLine, void, undefined>;
  /** The settings have more than before. */
  reload(): Promise<void>;
  stop(): Promise<void>;
}

/** An agent answers at once, except while it drains. */
const ANSWER_MS = 5000;

/** Creates a client. Its calls reject with `UNAVAILABLE` when nobody is behind the socket. */
export function createControlClient(socketPath: string): ControlClient {
  const send = async (
    method: "GET" | "POST",
    path: string,
    { body, silenceMs = ANSWER_MS }: { readonly body?: unknown; readonly silenceMs?: number } = {},
  ): Promise<IncomingMessage> => {
    const outgoing = request({ socketPath, method, path, agent: false });
    outgoing.setTimeout(silenceMs, () => outgoing.destroy(new Error("no answer")));
    outgoing.end(body === undefined ? undefined : JSON.stringify(body));
    try {
      const [response] = (await once(outgoing, "response")) as [IncomingMessage];
      return response;
    } catch (cause) {
      throw new CacheError("UNAVAILABLE", "The agent of this session does not answer", { cause });
    }
  };
  const ask = async (method: "GET" | "POST", path: string, body?: unknown): Promise<string> => {
    const response = await send(method, path, { body });
    const chunks: Buffer[] = [];
    for await (const chunk of response as AsyncIterable<Buffer>) chunks.push(chunk);
    const answer = Buffer.concat(chunks).toString("utf8");
    if (response.statusCode === 200) return answer;
    throw new CacheError("INTERNAL", `The agent refuses ${method} ${path}: ${answer}`);
  };
  return {
    session: async () => JSON.parse(await ask("GET", "/v1/session")) as LiveSession,
    enqueue: async (paths) => void (await ask("POST", "/v1/enqueue", { paths })),
    reload: async () => void (await ask("POST", "/v1/reload")),
    stop: async () => void (await ask("POST", "/v1/stop")),
    async *drain(timeoutMs) {
      const query = timeoutMs === undefined ? "" : `?timeout=${timeoutMs / 1000}`;
      // It tells how far it is every few seconds.
      const response = await send("POST", `/v1/drain${query}`, { silenceMs: 30_000 });
      for await (const line of createInterface({ input: response })) {
        yield JSON.parse(line) as DrainLine;
      }
    },
  };
}
