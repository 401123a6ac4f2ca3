import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import path from "node:path";

/** A folder that `nix copy --to file://` wrote, served as nginx would. */
export interface StaticCache extends AsyncDisposable {
  readonly port: number;
  /** What was asked for: path and `Authorization`. */
  readonly requests: { readonly path: string; readonly authorization: string | undefined }[];
  /** Answers NARs with other bytes from now on, or with theirs again. */
  lie(isLying: boolean): void;
}

/** Serves a binary cache's folder on a free loopback port. */
export async function startStaticCache(directory: string): Promise<StaticCache> {
  const requests: StaticCache["requests"] = [];
  let isLying = false;
  const server = createServer((request, response) => {
    const name = path.normalize(new URL(request.url ?? "/", "http://x").pathname);
    const { authorization, range = "" } = request.headers;
    requests.push({ path: name, authorization });
    readFile(path.join(directory, name)).then(
      (file) => {
        const bytes = Buffer.from(file);
        if (isLying && name.startsWith("/nar/")) bytes.fill(0, bytes.length >> 1);
        const start = Number(/^bytes=(\d+)-$/.exec(range)?.[1] ?? 0);
        const end = bytes.length;
        response.writeHead(start === 0 ? 200 : 206, {
          "content-length": end - start,
          "accept-ranges": "bytes",
          ...(start === 0 ? {} : { "content-range": `bytes ${start}-${end - 1}/${end}` }),
        });
        response.end(bytes.subarray(start));
      },
      () => response.writeHead(404).end(),
    );
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    port: (server.address() as { port: number }).port,
    requests,
    lie(wanted) {
      isLying = wanted;
    },
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}
