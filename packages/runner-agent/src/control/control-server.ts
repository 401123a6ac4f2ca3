import { once } from "node:events";
import { chmod } from "node:fs/promises";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";

import { describeError } from "@glorious/core";

import type { DrainLine, LiveSession } from "./control-api.ts";

/** What can be asked of an agent by whoever may open its socket. */
export interface ControlHandlers {
  session(): LiveSession;
  enqueue(paths: readonly string[]): Promise<void>;
  /** Drains; tells how far it is, the report last. */
  drain(timeoutMs: number | undefined, tell: (line: DrainLine) => void): Promise<void>;
  /** Starts what the settings name now and what does not run yet. */
  reload(): Promise<void>;
  stop(): void;
}

/** No list of paths is larger. */
const MAX_BODY_BYTES = 8 * 2 ** 20;

/** Serves an agent's control routes on a Unix socket that only its user may open. */
export async function startControlServer(
  socketPath: string,
  handlers: ControlHandlers,
): Promise<AsyncDisposable> {
  const server = createServer((request, response) => {
    answer(request, response, handlers).catch((error: unknown) => {
      if (!response.headersSent) response.writeHead(500, { "content-type": "application/json" });
      response.end(JSON.stringify({ message: describeError(error) }));
    });
  });
  server.listen(socketPath);
  await once(server, "listening");
  await chmod(socketPath, 0o600);
  return {
    async [Symbol.asyncDispose]() {
      const closed = once(server, "close");
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  handlers: ControlHandlers,
): Promise<void> {
  const url = new URL(request.url ?? "/", "http://agent");
  switch (`${request.method} ${url.pathname}`) {
    case "GET /v1/session":
      return sendJson(response, handlers.session());
    case "POST /v1/enqueue":
      await handlers.enqueue(readPaths(await readBody(request)));
      return sendJson(response, {});
    case "POST /v1/reload":
      await handlers.reload();
      return sendJson(response, {});
    case "POST /v1/stop":
      sendJson(response, {});
      return handlers.stop();
    case "POST /v1/drain": {
      const seconds = Number(url.searchParams.get("timeout") ?? Number.NaN);
      response.writeHead(200, { "content-type": "application/x-ndjson" });
      await handlers.drain(Number.isFinite(seconds) ? seconds * 1000 : undefined, (line) =>
        response.write(`${JSON.stringify(line)}\n`),
      );
      response.end();
      return;
    }
    default:
      sendJson(response, { message: "There is no such route" }, 404);
  }
}

function sendJson(response: ServerResponse, value: unknown, status = 200): void {
  response.writeHead(status, { "content-type": "application/json" });
  response.end(JSON.stringify(value));
}

async function readBody(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    sizeBytes += chunk.length;
    if (sizeBytes > MAX_BODY_BYTES) throw new Error("The list of paths is too large");
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}

function readPaths(body: string): string[] {
  const value: unknown = JSON.parse(body);
  const paths = new Map<string, unknown>(Object.entries(value ?? {})).get("paths");
  if (!Array.isArray(paths)) throw new Error("The body holds no paths");
  return paths.filter((path) => typeof path === "string");
}
