import { readdir, readFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { sha256HexToNix32 } from "@glorious/nix-store";

import { Finding, type FuzzTarget } from "../fuzz-target.ts";
import { createSamplePath, readStatuses, startEmbeddedServer } from "./embedded-server.ts";

const CAPTURES = fileURLToPath(new URL("../captures/", import.meta.url));

/** Requests that real clients sent; see the README beside them. */
async function readCaptures(): Promise<Buffer[]> {
  const names = (await readdir(CAPTURES)).filter((name) => name.endsWith(".http")).sort();
  return Promise.all(names.map((name) => readFile(path.join(CAPTURES, name))));
}

/** An input may be half a request. */
const QUIET_MS = 40;

const ROUTES = [
  ...["/main/nix-cache-info", "/main/{{HASH}}.narinfo", "/main/{{HASH}}.ls", "/healthz", "/readyz"],
  ...["/main/nar/{{HASH}}.nar", "/main/log/x.drv", "/main/realisations/sha256:ab!out.doi"],
  ...["/main/debuginfo/ab", "/main/build-trace-v2/x/out.doi", "/_api/v1/cache-config/main"],
  ...["/_api/v1/get-missing-paths", "/_api/v1/upload-path", "/_flywheel/v1/views", "/metrics"],
  ...["/_flywheel/v1/views/main/missing", "/_flywheel/v1/views/main/closures"],
  ...["/_flywheel/v1/views/main/nars/{{NARHASH}}", "/_flywheel/v1/views/main/paths/{{HASH}}"],
  ...["/_flywheel/v1/views/main/stats", "/_flywheel/v1/tokens", "/_flywheel/v1/info"],
  ...["/_flywheel/v1/views/main/uploads", "/_flywheel/v1/views/main/pins"],
  ...["/_flywheel/v1/views/main/gc?dryRun=1", "/_flywheel/v1/views/main/keys"],
];
const METHODS = ["GET", "HEAD", "PUT", "POST", "DELETE", "PATCH", "OPTIONS"];

export const httpTarget: FuzzTarget = {
  name: "http",
  summary: "bytes on the server's socket: never a 5xx, never silence, never a fault in its log",
  seeds: readCaptures,
  dictionary: [
    ...[...METHODS, ...ROUTES].flatMap((word) => [word, `${word} `]),
    ...["\r\n", "\r\n\r\n", " HTTP/1.1\r\n", "Host: x\r\n", "Authorization: Bearer {{TOKEN}}\r\n"],
    ...["Content-Length: 0\r\n", "Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n"],
    ...["0\r\n\r\n", "5\r\nhello\r\n", "Expect: 100-continue\r\n", "Range: bytes=0-5\r\n"],
    ...[
      "Content-Type: application/json\r\n",
      "Content-Encoding: gzip\r\n",
      "Connection: close\r\n",
    ],
    ...["If-None-Match: *\r\n", "X-Attic-Nar-Info-Preamble-Size: 2\r\n", "%00", "%2e%2e/", "%ff"],
    ...[
      '{"paths":[]}',
      '{"paths":[{}]}',
      "null",
      "[]",
      '"',
      "?size=1&compression=none",
      "//",
      "/../",
    ],
  ],
  maxBytes: 16_384,
  guides: /\/cache-server\/src\//,
  concurrency: 16,
  generate(random) {
    const lines = [
      `${random.pick(METHODS)} ${random.pick(ROUTES)} HTTP/1.1`,
      "Host: cache",
      ...(random.chance(0.8) ? ["Authorization: Bearer {{TOKEN}}"] : []),
      ...(random.chance(0.5) ? ["Content-Type: application/json"] : []),
    ];
    const body = random.pick(["", "{}", '{"paths":[]}', "StoreDir: /nix/store\n", "\0\0\0"]);
    return Buffer.from(`${lines.join("\r\n")}\r\nContent-Length: ${body.length}\r\n\r\n${body}`);
  },
  async open() {
    const server = await startEmbeddedServer();
    const words: Readonly<Record<string, string>> = {
      TOKEN: server.token,
      BASIC: Buffer.from(`flywheel:${server.token}`).toString("base64"),
      HASH: server.path.storePathHash,
      NARHASH: server.path.narHash,
      NARHASH32: sha256HexToNix32(server.path.narHash),
    };
    return {
      async run(input) {
        const text = input
          .toString("latin1")
          .replaceAll(/\{\{(\w+)\}\}/g, (whole, name: string) => {
            return words[name] ?? whole;
          });
        const statuses = readStatuses(await server.exchange(Buffer.from(text, "latin1"), QUIET_MS));
        server.requireCalm();
        const fault = statuses.find((status) => status >= 500);
        if (fault !== undefined) throw new Finding(`The server answers ${fault}`);
        return statuses.length === 0 ? "closed" : String(statuses[0]);
      },
      async [Symbol.asyncDispose]() {
        await requireAlive(server);
        await server[Symbol.asyncDispose]();
      },
    };
  },
};

/** After all that it still takes a path. */
async function requireAlive(
  server: Awaited<ReturnType<typeof startEmbeddedServer>>,
): Promise<void> {
  const { nar, storePath, narHash } = await createSamplePath("last", "the last one");
  const headers = { authorization: `Bearer ${server.token}` };
  const view = `${server.url}/_flywheel/v1/views/main`;
  const put = await fetch(`${view}/nars/${narHash}?size=${nar.length}&compression=none`, {
    method: "PUT",
    headers,
    body: new Uint8Array(nar),
  });
  const commit = await fetch(`${view}/closures`, {
    method: "POST",
    headers: { ...headers, "content-type": "application/json" },
    body: JSON.stringify({ paths: [{ storePath, narHash, narSize: nar.length, references: [] }] }),
  });
  // The view itself may have been deleted by a request that may do so.
  const isAlive = [put, commit].every(({ status }) => status === 200 || status === 404);
  if (!isAlive) throw new Finding(`At the end a push gets ${put.status} and ${commit.status}`);
}
