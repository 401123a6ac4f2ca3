import { readdir, readFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { sha256HexToNix32 } from "@glorious/nix-store";

import type { Random } from "../../random.ts";
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
const INPUTS_PER_VIEW = 100;

const ROUTES = [
  ...["/main/nix-cache-info", "/main/{{HASH}}.narinfo", "/main/{{HASH}}.ls", "/healthz", "/readyz"],
  ...["/main/nar/{{HASH}}.nar", "/main/log/x.drv", "/main/realisations/sha256:ab!out.doi"],
  ...["/main/debuginfo/ab", "/main/build-trace-v2/x/out.doi", "/_api/v1/cache-config/main"],
  ...["/_api/v1/get-missing-paths", "/_api/v1/upload-path", "/_flywheel/v1/views", "/metrics"],
  ...["/_flywheel/v1/views/main/missing", "/_flywheel/v1/views/main/closures"],
  ...["/_flywheel/v1/views/main/nars/{{NARHASH}}", "/_flywheel/v1/views/main/paths/{{HASH}}"],
  ...["/_flywheel/v1/views/main/stats", "/_flywheel/v1/tokens", "/_flywheel/v1/info"],
  ...["/_flywheel/v1/views/main/uploads", "/_flywheel/v1/views/main/pins"],
  ...["/_flywheel/v1/views/main/gc", "/_flywheel/v1/views/main/keys"],
  ...["/_flywheel/v1/views/main", "/_api/v1/cache-config/main-2"],
];
const METHODS = ["GET", "HEAD", "PUT", "POST", "DELETE", "PATCH", "OPTIONS"];

/** Names of fields that some route knows. */
const FIELDS = [
  ...["paths", "storePath", "storePathHash", "narHash", "narSize", "references", "signatures"],
  ...["ca", "deriver", "system", "fileHash", "externalReferences", "subject", "caches", "r", "w"],
  ...["admin", "expiresInSeconds", "is_public", "keypair", "Keypair", "priority", "store_dir"],
  ...["retention_period", "Period", "upstream_cache_key_names", "cache", "store_path_hashes"],
  ...[
    "maxSizeBytes",
    "compressionLevel",
    "retentionSeconds",
    "partBytes",
    "main",
    "*",
    "__proto__",
  ],
];
const VALUES: readonly unknown[] = [
  ...[null, true, 0, 1, -1, 1.5, 1e21, 2 ** 53, "", "main", "main-2", "a/b", "..", "Generate"],
  ...["{{HASH}}", "/nix/store/{{HASH}}-sample", "{{HASH}}-sample", "sha256:{{NARHASH}}"],
  ...["{{NARHASH}}", "{{NARHASH32}}", "sha256:{{NARHASH32}}", "key:AAAA", "\u0000", "\ud800", "é"],
  ...["text:sha256:{{NARHASH32}}", "fixed:r:sha256:{{NARHASH32}}", "x".repeat(300), "/nix/store"],
];

function generateValue(random: Random, depth: number): unknown {
  const dice = random.next();
  if (depth === 0 || dice < 0.3) return random.pick(VALUES);
  const children = Array.from({ length: random.below(5) }, () => generateValue(random, depth - 1));
  if (dice < 0.5) return children;
  return Object.fromEntries(children.map((child) => [random.pick(FIELDS), child]));
}

/** A path to commit, mostly right. */
function generateManifest(random: Random): Record<string, unknown> {
  const manifest: Record<string, unknown> = {
    storePath: "/nix/store/{{HASH}}-sample",
    storePathHash: "{{HASH}}",
    narHash: "{{NARHASH}}",
    narSize: 1080,
    references: [],
  };
  for (let changes = random.below(3); changes > 0; changes -= 1) {
    manifest[random.pick(FIELDS)] = generateValue(random, 1);
  }
  return manifest;
}

function generateBody(random: Random): string {
  const dice = random.next();
  if (dice < 0.2) return random.pick(["", "{}", "StoreDir: /nix/store\n", "\0\0\0", "nonsense"]);
  if (dice < 0.6) return JSON.stringify(generateValue(random, 3));
  const paths = Array.from({ length: random.below(3) }, () => generateManifest(random));
  return JSON.stringify({ paths, [random.pick(FIELDS)]: generateValue(random, 1) });
}

const HEADERS = [
  ...["Range: bytes=0-5", "If-None-Match: *", "Content-Encoding: gzip", "Content-Encoding: zstd"],
  ...["Expect: 100-continue", "X-Attic-Nar-Info-Preamble-Size: 2", "X-Attic-Nar-Info: {}"],
  ...["User-Agent: curl/7.85.0 Nix/2.8.0", "X-Forwarded-Proto: https", "If-Range: x"],
];

/** A request that is one, to some route, with some body. */
function generateRequest(random: Random): Buffer {
  const query = random.pick([
    "",
    "",
    "?size=1080&compression=zstd",
    "?size=-1",
    "?dryRun=1",
    "?x=%",
  ]);
  const lines = [
    `${random.pick(METHODS)} ${random.pick(ROUTES)}${query} HTTP/1.1`,
    "Host: cache",
    ...(random.chance(0.9) ? ["Authorization: Bearer {{TOKEN}}"] : []),
    ...(random.chance(0.8) ? ["Content-Type: application/json"] : []),
    ...(random.chance(0.2) ? [random.pick(HEADERS)] : []),
    ...(random.chance(0.5) ? ["Connection: close"] : []),
  ];
  const body = Buffer.from(generateBody(random));
  const head = `${lines.join("\r\n")}\r\nContent-Length: ${body.length}\r\n\r\n`;
  return Buffer.concat([Buffer.from(head), body]);
}

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
  generate: generateRequest,
  async open() {
    const server = await startEmbeddedServer();
    const words: Readonly<Record<string, string>> = {
      TOKEN: server.token,
      BASIC: Buffer.from(`flywheel:${server.token}`).toString("base64"),
      HASH: server.path.storePathHash,
      NARHASH: server.path.narHash,
      NARHASH32: sha256HexToNix32(server.path.narHash),
    };
    let tried = 0;
    return {
      async run(input) {
        // Whoever may do everything may also destroy the view, and then little is left to try.
        tried += 1;
        if (tried % INPUTS_PER_VIEW === 0) await server.restore();
        const request = fillIn(input, words);
        const statuses = readStatuses(await server.exchange(request, QUIET_MS));
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

/** Puts the words in their places; a body that had the right length still has it afterwards. */
function fillIn(input: Buffer, words: Readonly<Record<string, string>>): Buffer {
  const fill = (text: string): string =>
    text.replaceAll(/\{\{(\w+)\}\}/g, (whole, name: string) => words[name] ?? whole);
  const text = input.toString("latin1");
  const end = text.indexOf("\r\n\r\n");
  if (end < 0) return Buffer.from(fill(text), "latin1");
  const [before, body] = [text.slice(0, end), text.slice(end + 4)];
  const filled = fill(body);
  const head = fill(before).replace(/^content-length: (\d+)$/im, (line, size: string) =>
    Number(size) === body.length ? `Content-Length: ${filled.length}` : line,
  );
  return Buffer.from(`${head}\r\n\r\n${filled}`, "latin1");
}

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
