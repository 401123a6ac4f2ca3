import { createHash } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";

import {
  encodeNar,
  encodeNix32,
  formatNarInfo,
  type NarInfo,
  parseHash,
  writeNar,
} from "@glorious/nix-store";

/** A store path that the cache has. */
export interface CachedPath {
  readonly hash: string;
  readonly baseName: string;
  readonly references: readonly string[];
  readonly narinfo: string;
  /** Below the cache. */
  readonly url: string;
  /** The file as stored. */
  readonly file: Buffer;
}

/** Makes a path of one file; `noise` bytes do not compress. */
export async function createCachedPath(
  name: string,
  references: readonly CachedPath[] = [],
  options: { readonly noise?: number; readonly hasFileHash?: boolean } = {},
): Promise<CachedPath> {
  const { noise = 0, hasFileHash = true } = options;
  const hash = encodeNix32(sha256(name).subarray(0, 20));
  const contents = Buffer.concat([Buffer.from(`${name}\n`), noiseOf(name, noise)]);
  const entry = {
    type: "regular",
    path: [],
    executable: false,
    sizeBytes: contents.length,
    contents: [contents],
  } as const;
  const nar = Buffer.concat(await Array.fromAsync(writeNar([entry])));
  const file = Buffer.concat(await Array.fromAsync(encodeNar(inPieces(nar))));
  const fileHash = parseHash(sha256(file).toString("hex"), "sha256");
  const baseName = `${hash}-${name}`;
  const url = hasFileHash ? `nar/${fileHash.bytes.toString("hex")}.nar.zst` : `nar/${hash}.nar`;
  const info: NarInfo = {
    storePath: `/nix/store/${baseName}`,
    url,
    compression: "zstd",
    ...(hasFileHash ? { fileHash, fileSize: file.length } : {}),
    narHash: parseHash(sha256(nar).toString("hex"), "sha256"),
    narSize: nar.length,
    references: references.map((path) => path.baseName).toSorted(),
    signatures: [],
  };
  return {
    hash,
    baseName,
    references: references.map((path) => path.hash),
    narinfo: formatNarInfo(info),
    url,
    file,
  };
}

async function* inPieces(bytes: Buffer): AsyncGenerator<Buffer> {
  yield bytes;
}

function sha256(data: string | Buffer): Buffer {
  return createHash("sha256").update(data).digest();
}

function noiseOf(seed: string, bytes: number): Buffer {
  const pieces: Buffer[] = [];
  for (let at = 0; at < bytes; at += 32) pieces.push(sha256(`${seed} ${at}`));
  return Buffer.concat(pieces).subarray(0, bytes);
}

/** What a script makes of a request; `undefined` leaves it to the cache. */
export type Script = (
  request: IncomingMessage,
  response: ServerResponse,
) => boolean | undefined | Promise<boolean | undefined>;

/** A binary cache that answers closures as our server does, unless its script says otherwise. */
export interface ScriptedCache extends AsyncDisposable {
  readonly url: string;
  readonly port: number;
  /** Method, path and range of what was asked, in order. */
  readonly asked: string[];
  /** The tokens that came along. */
  readonly tokens: (string | undefined)[];
  /** Asked first; `true` when it took care of the request. */
  script: Script;
}

export async function startScriptedCache(
  paths: readonly CachedPath[],
  view = "main",
): Promise<ScriptedCache> {
  const byHash = new Map(paths.map((path) => [path.hash, path]));
  const byUrl = new Map(paths.map((path) => [path.url, path]));
  const asked: string[] = [];
  const tokens: (string | undefined)[] = [];

  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const url = request.url ?? "";
    // It opens connections, and asks nothing.
    const isWarmUp = request.method === "HEAD" && url === `/${view}/nix-cache-info`;
    if (!isWarmUp)
      asked.push([request.method, url, request.headers.range].filter(Boolean).join(" "));
    tokens.push(request.headers.authorization?.replace(/^Bearer /, ""));
    if ((await cache.script(request, response)) === true) return;
    const name = url.startsWith(`/${view}/`) ? url.slice(view.length + 2) : url;
    if (url === `/_flywheel/v1/views/${view}/closure`) {
      const text = Buffer.concat(await Array.fromAsync(request)).toString();
      sendJson(response, closureOf(JSON.parse(text) as ClosureRequest));
    } else if (name === "nix-cache-info")
      response.end("StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 41\n");
    else if (name.endsWith(".narinfo")) {
      const narinfo = byHash.get(name.slice(0, 32))?.narinfo;
      response.writeHead(narinfo === undefined ? 404 : 200).end(narinfo);
    } else sendFile(request, response, byUrl.get(name)?.file);
  };

  const closureOf = ({ roots, known = [], limit = 1000 }: ClosureRequest): unknown => {
    const seen = new Set(known);
    const queue = roots.filter((root) => !seen.has(root) && seen.add(root));
    const narinfos: unknown[] = [];
    const missing: string[] = [];
    for (let next; narinfos.length < limit && (next = queue.shift()) !== undefined;) {
      const path = byHash.get(next);
      if (path === undefined) missing.push(next);
      else {
        narinfos.push({ storePathHash: next, text: path.narinfo });
        queue.push(...path.references.filter((hash) => !seen.has(hash) && seen.add(hash)));
      }
    }
    return { narinfos, missing, rest: queue };
  };

  const server = createServer((request, response) => void answer(request, response));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  const cache: ScriptedCache = {
    url: `http://127.0.0.1:${port}`,
    port,
    asked,
    tokens,
    script: () => false,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
  return cache;
}

interface ClosureRequest {
  readonly roots: readonly string[];
  readonly known?: readonly string[];
  readonly limit?: number;
}

function sendJson(response: ServerResponse, value: unknown): void {
  response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(value));
}

/** Answers with a file or a range of it, as our server does. */
export function sendFile(
  request: IncomingMessage,
  response: ServerResponse,
  file: Buffer | undefined,
): void {
  if (file === undefined) {
    response.writeHead(404).end();
    return;
  }
  const [, from, to] = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? "") ?? [];
  const start = Number(from ?? 0);
  const end = to ? Number(to) + 1 : file.length;
  response.writeHead(from === undefined ? 200 : 206, {
    "content-length": end - start,
    "accept-ranges": "bytes",
    etag: `"${sha256(file).toString("hex")}"`,
    ...(from === undefined ? {} : { "content-range": `bytes ${start}-${end - 1}/${file.length}` }),
  });
  response.end(request.method === "HEAD" ? undefined : file.subarray(start, end));
}
