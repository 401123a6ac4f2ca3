import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

/** GitHub's cache service (version 2) on a loopback address: JSON calls, and blobs as Azure takes them. */
export interface CacheService extends AsyncDisposable {
  /** What the runner gives to actions for it. */
  readonly env: Readonly<Record<string, string>>;
  /** The calls so far, such as `CreateCacheEntry`. */
  readonly calls: readonly string[];
  /** The keys that are kept. */
  keys(): string[];
}

const SERVICE = "/twirp/github.actions.results.api.v1.CacheService/";
/** Unsigned, with the scopes that the client reads. */
const TOKEN = ["{}", '{"ac":"[]"}', "x"]
  .map((part) => Buffer.from(part).toString("base64url"))
  .join(".");

interface Asked {
  readonly key: string;
  readonly version: string;
  readonly restore_keys?: readonly string[];
}

export async function startCacheService(): Promise<CacheService> {
  const calls: string[] = [];
  const blobs = new Map<string, Buffer>();
  const entries = new Map<string, string>();
  const answer = (call: string, { key, version, restore_keys = [] }: Asked): object => {
    const blob = `${server.origin}/devstoreaccount1/caches/${encodeURIComponent(`${key} ${version}`)}`;
    if (call === "CreateCacheEntry") return { ok: true, signed_upload_url: blob };
    if (call === "FinalizeCacheEntryUpload") {
      entries.set(`${key} ${version}`, blob);
      return { ok: true, entry_id: "1" };
    }
    const found = [...entries].findLast(([name]) =>
      [key, ...restore_keys].some((wanted) => name.startsWith(wanted) && name.endsWith(version)),
    );
    if (found === undefined) return { ok: false };
    const [name, url] = found;
    return { ok: true, signed_download_url: url, matched_key: name.split(" ")[0] };
  };
  const server = await serve(({ method, url: { pathname }, body }, response) => {
    if (pathname.startsWith(SERVICE)) {
      const call = pathname.slice(SERVICE.length);
      calls.push(call);
      response.setHeader("content-type", "application/json");
      response.end(JSON.stringify(answer(call, JSON.parse(body.toString()) as Asked)));
    } else if (method === "PUT") {
      blobs.set(pathname, body);
      response.writeHead(201, { etag: '"1"', "last-modified": new Date().toUTCString() }).end();
    } else {
      const blob = blobs.get(pathname) ?? Buffer.of();
      response.writeHead(200, { "content-length": blob.length }).end(blob);
    }
  });
  const { origin } = server;
  return {
    env: {
      ACTIONS_CACHE_SERVICE_V2: "true",
      ACTIONS_RESULTS_URL: `${origin}/`,
      ACTIONS_RUNTIME_TOKEN: TOKEN,
    },
    calls,
    keys: () => [...entries.keys()].map((name) => name.split(" ")[0] ?? ""),
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

interface WholeRequest {
  readonly method: string;
  readonly url: URL;
  readonly body: Buffer;
}

/** Answers on a loopback address, each request read whole. */
export async function serve(
  answer: (request: WholeRequest, response: ServerResponse) => void,
): Promise<{ readonly origin: string } & AsyncDisposable> {
  const server = createServer((request, response) => {
    void (async () => {
      const body = await readBody(request);
      const url = new URL(request.url ?? "/", origin);
      answer({ method: request.method ?? "GET", url, body }, response);
    })();
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    origin,
    async [Symbol.asyncDispose]() {
      const closed = once(server, "close");
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}

async function readBody(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}
