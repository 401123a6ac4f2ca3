import { once } from "node:events";
import { createServer, type IncomingHttpHeaders, type ServerResponse } from "node:http";
import { promisify } from "node:util";
import { brotliCompress, gzip, zstdCompress } from "node:zlib";

import {
  formatNarInfo,
  formatPublicKey,
  generateSecretKey,
  type NarInfo,
  narInfoFingerprint,
  parseHash,
  type SecretKey,
  sha256HexToNix32,
  signFingerprint,
  toPublicKey,
} from "@glorious/nix-store";

import type { TestPath } from "../test-path.ts";
import { sha256 } from "../test-server.ts";

/** What a request is answered with in place of the file. */
export type Conduct = (response: ServerResponse, headers: IncomingHttpHeaders) => void;

/** A static binary cache over HTTP, signed, which misbehaves on request. */
export interface FakeUpstream extends AsyncDisposable {
  /** With a final slash. */
  readonly url: string;
  readonly key: SecretKey;
  readonly publicKey: string;
  /** Requests so far: their paths, and what came with them. */
  readonly requests: { readonly path: string; readonly headers: IncomingHttpHeaders }[];
  /** How often this was asked for. */
  count(path: string | RegExp): number;
  /** Puts a path into it; returns its narinfo. */
  add(path: TestPath, options?: AddOptions): Promise<NarInfo>;
  /** From now on this is answered so. */
  conduct(path: string, conduct: Conduct): void;
  readonly files: Map<string, Buffer>;
}

export interface AddOptions {
  readonly compression?: "none" | "zstd" | "gzip" | "br";
  /** What the narinfo says instead; signed before. */
  readonly changes?: Partial<NarInfo>;
  /** What it says instead, and is signed so. */
  readonly signed?: Partial<NarInfo>;
  readonly key?: SecretKey | "none";
  readonly withoutFileHash?: boolean;
}

const COMPRESS = {
  none: (bytes: Buffer) => Promise.resolve(bytes),
  zstd: promisify(zstdCompress),
  gzip: promisify(gzip),
  br: promisify(brotliCompress),
};
const EXTENSION = { none: "", zstd: ".zst", gzip: ".gz", br: ".br" };

export async function startFakeUpstream(): Promise<FakeUpstream> {
  const key = generateSecretKey("upstream-1");
  const files = new Map<string, Buffer>([
    ["/nix-cache-info", Buffer.from("StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 40\n")],
  ]);
  const conducts = new Map<string, Conduct>();
  const requests: { path: string; headers: IncomingHttpHeaders }[] = [];
  const server = createServer((request, response) => {
    const path = request.url ?? "";
    requests.push({ path, headers: request.headers });
    const conduct = conducts.get(path);
    if (conduct !== undefined) {
      conduct(response, request.headers);
      return;
    }
    const file = files.get(path);
    if (file === undefined) {
      response.writeHead(404).end("no such file");
      return;
    }
    sendFile(response, request.headers, file);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  return {
    url: `http://127.0.0.1:${port}/`,
    key,
    publicKey: formatPublicKey(toPublicKey(key)),
    requests,
    files,
    count: (path) =>
      requests.filter((each) =>
        typeof path === "string" ? each.path === path : path.test(each.path),
      ).length,
    async add(path, options = {}) {
      const { compression = "zstd", changes = {}, signed = {}, key: signer = key } = options;
      const file = await COMPRESS[compression](path.nar);
      const url = `nar/${sha256HexToNix32(sha256(file))}.nar${EXTENSION[compression]}`;
      const said = {
        storePath: path.storePath,
        narHash: parseHash(path.narHash, "sha256"),
        narSize: path.nar.length,
        references: path.references,
        ...signed,
      };
      const info: NarInfo = {
        ...said,
        url,
        compression,
        ...(options.withoutFileHash === true
          ? {}
          : { fileHash: parseHash(sha256(file), "sha256"), fileSize: file.length }),
        signatures: signer === "none" ? [] : [signFingerprint(signer, narInfoFingerprint(said))],
        ...changes,
      };
      files.set(`/${info.url}`, file);
      files.set(`/${path.storePathHash}.narinfo`, Buffer.from(formatNarInfo(info)));
      return info;
    },
    conduct: (path, conduct) => void conducts.set(path, conduct),
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}

/** As nginx sends a static file. */
export function sendFile(
  response: ServerResponse,
  headers: IncomingHttpHeaders,
  file: Buffer,
): void {
  const range = /^bytes=(\d+)-$/.exec(headers.range ?? "");
  const start = Number(range?.[1] ?? 0);
  response.writeHead(range === null ? 200 : 206, {
    "content-length": file.length - start,
    "accept-ranges": "bytes",
    etag: `"${sha256(file).slice(0, 16)}"`,
    ...(range === null
      ? {}
      : { "content-range": `bytes ${start}-${file.length - 1}/${file.length}` }),
  });
  response.end(file.subarray(start));
}
