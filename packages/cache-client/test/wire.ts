import { createHash } from "node:crypto";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

/** What arrived with one request. */
export interface WireRequest {
  readonly method: string;
  readonly path: string;
  readonly query: URLSearchParams;
  readonly headers: IncomingMessage["headers"];
  readonly incoming: IncomingMessage;
  /** The whole body. */
  body(): Promise<Buffer>;
  json(): Promise<unknown>;
}

/** Answers a request, or leaves it to the next handler by returning false. */
export type WireHandler = (request: WireRequest, response: ServerResponse) => unknown;

/** A server that speaks whatever a test tells it to. */
export interface WireServer extends AsyncDisposable {
  readonly url: string;
  /** `<method> <path>` of every request, in order of arrival. */
  readonly log: string[];
  /** Connections whose request ended before its body did. */
  readonly aborted: string[];
}

export async function startWire(handle: WireHandler): Promise<WireServer> {
  const log: string[] = [];
  const aborted: string[] = [];
  const server = createServer({ keepAliveTimeout: 60_000 }, (incoming, response) => {
    const url = new URL(incoming.url ?? "/", "http://wire");
    const method = incoming.method ?? "";
    const line = `${method} ${url.pathname}`;
    log.push(line);
    let whole: Promise<Buffer> | undefined;
    const body = (): Promise<Buffer> => (whole ??= readBody(incoming));
    incoming.on("close", () => {
      if (!incoming.complete) aborted.push(line);
    });
    const request: WireRequest = {
      method,
      path: url.pathname,
      query: url.searchParams,
      headers: incoming.headers,
      incoming,
      body,
      json: async () => JSON.parse((await body()).toString("utf8")) as unknown,
    };
    const answer = async (): Promise<void> => {
      try {
        await handle(request, response);
      } catch (error) {
        if (response.headersSent || incoming.destroyed) response.destroy();
        else sendJson(response, 500, { code: 500, error: "INTERNAL", message: String(error) });
      }
    };
    void answer();
  });
  const listening = Promise.withResolvers<void>();
  server.listen(0, "127.0.0.1", listening.resolve);
  await listening.promise;
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- a listening TCP server has one
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    log,
    aborted,
    [Symbol.asyncDispose]: async () => {
      const closed = Promise.withResolvers<void>();
      server.close(() => closed.resolve());
      server.closeAllConnections();
      await closed.promise;
    },
  };
}

async function readBody(incoming: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of incoming) chunks.push(Buffer.from(chunk));
  return Buffer.concat(chunks);
}

export function sendJson(
  response: ServerResponse,
  status: number,
  body: unknown,
  headers: Readonly<Record<string, string>> = {},
): void {
  response.writeHead(status, { "content-type": "application/json", ...headers });
  response.end(JSON.stringify(body));
}

export function sha256Hex(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}
