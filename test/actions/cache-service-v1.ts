import { type CacheService, serve } from "./cache-service.ts";

const API = "/_apis/artifactcache/";

interface Entry {
  readonly key: string;
  readonly version: string;
  body: Buffer;
  isCommitted: boolean;
}

/**
 * The cache service that GitHub had before and that the runners of Forgejo and Gitea have (version 1): an entry is
 * reserved, filled in pieces by `PATCH`, and committed.
 *
 * @see `act/artifactcache/handler.go` in act, from which both runners come
 */
export async function startOldCacheService(): Promise<CacheService> {
  const calls: string[] = [];
  const entries: Entry[] = [];
  const server = await serve(({ method, url, body }, response) => {
    const path = url.pathname.slice(API.length);
    const entry = entries[Number(path.split("/")[1]) - 1];
    if (path === "cache") {
      calls.push("find");
      const keys = (url.searchParams.get("keys") ?? "").split(",");
      const version = url.searchParams.get("version");
      const found = entries.findLast(
        (it) =>
          it.isCommitted && it.version === version && keys.some((key) => it.key.startsWith(key)),
      );
      if (found === undefined) {
        response.writeHead(204).end();
        return;
      }
      const archiveLocation = `${server.origin}${API}artifacts/${entries.indexOf(found) + 1}`;
      response.setHeader("content-type", "application/json");
      response.end(JSON.stringify({ result: "hit", archiveLocation, cacheKey: found.key }));
    } else if (path === "caches") {
      calls.push("reserve");
      const { key, version } = JSON.parse(body.toString()) as Pick<Entry, "key" | "version">;
      entries.push({ key, version, body: Buffer.of(), isCommitted: false });
      response.setHeader("content-type", "application/json");
      response.end(JSON.stringify({ cacheId: entries.length }));
    } else if (entry === undefined) {
      response.writeHead(404).end();
    } else if (method === "PATCH") {
      calls.push("fill");
      entry.body = Buffer.concat([entry.body, body]);
      response.end();
    } else if (method === "POST") {
      calls.push("commit");
      entry.isCommitted = true;
      response.end();
    } else {
      calls.push("download");
      response.writeHead(200, { "content-length": entry.body.length }).end(entry.body);
    }
  });
  return {
    env: { ACTIONS_CACHE_URL: `${server.origin}/`, ACTIONS_RUNTIME_TOKEN: "the-runner-s-token" },
    calls,
    keys: () => entries.filter(({ isCommitted }) => isCommitted).map(({ key }) => key),
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}
