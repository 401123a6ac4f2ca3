import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import path from "node:path";

/**
 * How NARs are answered. `lying`: with other bytes. `missing` and `failing`: with 404 and 500. `cut`: the connection is
 * reset in the middle, and whoever asks for the rest gets none of it.
 */
export type NarAnswers = "right" | "lying" | "missing" | "failing" | "cut";

/** A folder that `nix copy --to file://` wrote, served as nginx would. */
export interface StaticCache extends AsyncDisposable {
  readonly port: number;
  /** What was asked for: path and `Authorization`. */
  readonly requests: { readonly path: string; readonly authorization: string | undefined }[];
  /** From now on. */
  answerNars(how: NarAnswers): void;
  /** Narinfos say no hash of the file, as Attic's do not, from now on. */
  omitFileHashes(): void;
}

/** Serves a binary cache's folder on a free loopback port. */
export async function startStaticCache(directory: string): Promise<StaticCache> {
  const requests: StaticCache["requests"] = [];
  let narAnswers: NarAnswers = "right";
  let omitsHashes = false;
  const server = createServer((request, response) => {
    const name = path.normalize(new URL(request.url ?? "/", "http://x").pathname);
    const { authorization, range = "" } = request.headers;
    requests.push({ path: name, authorization });
    const how = name.startsWith("/nar/") ? narAnswers : "right";
    const start = Number(/^bytes=(\d+)-$/.exec(range)?.[1] ?? 0);
    if (how === "missing" || how === "failing") {
      response.writeHead(how === "missing" ? 404 : 500).end();
      return;
    }
    if (how === "cut" && start > 0) {
      request.socket.resetAndDestroy();
      return;
    }
    readFile(path.join(directory, name)).then(
      (file) => {
        const bytes =
          omitsHashes && name.endsWith(".narinfo")
            ? Buffer.from(file.toString("utf8").replace(/^File(?:Hash|Size): .*\n/gm, ""))
            : Buffer.from(file);
        if (how === "lying") bytes.fill(0, bytes.length >> 1);
        const end = bytes.length;
        response.writeHead(start === 0 ? 200 : 206, {
          "content-length": end - start,
          "accept-ranges": "bytes",
          ...(start === 0 ? {} : { "content-range": `bytes ${start}-${end - 1}/${end}` }),
        });
        if (how !== "cut") response.end(bytes.subarray(start));
        // A reset may overtake what was written before it.
        else
          response.write(bytes.subarray(0, end >> 1), () =>
            setTimeout(() => request.socket.resetAndDestroy(), 50),
          );
      },
      () => response.writeHead(404).end(),
    );
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    port: (server.address() as { port: number }).port,
    requests,
    answerNars(how) {
      narAnswers = how;
    },
    omitFileHashes() {
      omitsHashes = true;
    },
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}
