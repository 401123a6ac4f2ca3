import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { brotliCompressSync, gzipSync, zstdCompressSync } from "node:zlib";

import {
  formatNarInfo,
  type NarInfo,
  parseHash,
  parseNarInfo,
  sha256HexToNix32,
} from "@glorious/nix-store";
import { expect } from "vitest";

import type { TestPath } from "./test-path.ts";
import { sha256, type TestAnswer, type TestRequest, type TestServer } from "./test-server.ts";

export const DAY_MS = 86_400_000;

/** The compressions that Node can make; for xz there are fixtures. */
export type NixCompression = "none" | "gzip" | "br" | "zstd";

/** A NAR as `nix copy` uploads it. */
export interface NixFile {
  /** As in a narinfo's `Compression`. */
  readonly compression: string;
  readonly bytes: Buffer;
  /** Hexadecimal. */
  readonly fileHash: string;
  /** Relative to the view: `nar/<file hash>.nar.<extension>`. */
  readonly url: string;
}

/** Nix gives gzip no extension, like no compression. */
const EXTENSIONS: Readonly<Record<string, string>> = {
  none: "",
  gzip: "",
  br: ".br",
  zstd: ".zst",
  xz: ".xz",
};

export function nixFile(compression: string, bytes: Buffer): NixFile {
  const fileHash = sha256(bytes);
  const url = `nar/${sha256HexToNix32(fileHash)}.nar${EXTENSIONS[compression] ?? `.${compression}`}`;
  return { compression, bytes, fileHash, url };
}

export function compressNar(nar: Buffer, compression: NixCompression): NixFile {
  const compress = {
    none: (bytes: Buffer) => bytes,
    gzip: (bytes: Buffer) => gzipSync(bytes),
    br: (bytes: Buffer) => brotliCompressSync(bytes),
    zstd: (bytes: Buffer) => zstdCompressSync(bytes, { pledgedSrcSize: bytes.length }),
  };
  return nixFile(compression, compress[compression](nar));
}

/** The unsigned narinfo that Nix writes for an uploaded file. */
export function narInfoOf(path: TestPath, file: NixFile, changes: Partial<NarInfo> = {}): string {
  return formatNarInfo({
    storePath: path.storePath,
    url: file.url,
    compression: file.compression,
    fileHash: parseHash(file.fileHash, "sha256"),
    fileSize: file.bytes.length,
    narHash: parseHash(path.narHash, "sha256"),
    narSize: path.nar.length,
    references: path.references,
    signatures: [],
    ...changes,
  });
}

/** One user of one view. */
export interface NixClient {
  get(path: string, headers?: TestRequest["headers"]): Promise<TestAnswer>;
  head(path: string, headers?: TestRequest["headers"]): Promise<TestAnswer>;
  put(
    path: string,
    body: string | Uint8Array,
    headers?: TestRequest["headers"],
  ): Promise<TestAnswer>;
  /** Uploads the file and then the narinfo, and expects both to be taken. */
  copy(path: TestPath, file: NixFile): Promise<void>;
  /** Deletes a path through our own API. */
  deletePath(path: TestPath): Promise<TestAnswer>;
  /** The narinfo as the server answers it. */
  narInfo(path: TestPath): Promise<NarInfo>;
}

export async function openNixClient(
  server: TestServer,
  view: string,
  { isAnonymous = false }: { readonly isAnonymous?: boolean } = {},
): Promise<NixClient> {
  // Outlives every advance of the server's clock.
  const expiresAtMs = Date.now() + 10 * 365 * DAY_MS;
  const token = isAnonymous
    ? undefined
    : await server.token({ [view]: ["pull", "push", "delete"] }, { expiresAtMs });
  const request = (
    method: string,
    path: string,
    body: string | Uint8Array | undefined,
    headers: TestRequest["headers"] = {},
  ): Promise<TestAnswer> =>
    server.send(method, `/${view}/${path}`, {
      headers: {
        ...(body === undefined ? {} : { "content-length": Buffer.byteLength(body) }),
        ...headers,
      },
      ...(body === undefined ? {} : { body }),
      ...(token === undefined ? {} : { token }),
    });
  const client: NixClient = {
    get: (path, headers) => request("GET", path, undefined, headers),
    head: (path, headers) => request("HEAD", path, undefined, headers),
    put: (path, body, headers) => request("PUT", path, body, headers),
    async copy(path, file) {
      const nar = await client.put(file.url, file.bytes);
      expect(nar.text).toBe("");
      expect(nar.status).toBe(200);
      const narInfo = await client.put(`${path.storePathHash}.narinfo`, narInfoOf(path, file));
      expect(narInfo.text).toBe("");
      expect(narInfo.status).toBe(200);
    },
    deletePath: ({ storePathHash }) =>
      server.send(
        "DELETE",
        `/_flywheel/v1/views/${view}/paths/${storePathHash}`,
        token === undefined ? {} : { token },
      ),
    async narInfo(path) {
      const answer = await client.get(`${path.storePathHash}.narinfo`);
      expect(answer.status).toBe(200);
      return parseNarInfo(answer.text);
    },
  };
  return client;
}

/** Every file of the store, unfinished ones included; the lock of the writer is none of them. */
export async function listStoreFiles(server: TestServer): Promise<string[]> {
  const root = join(server.directory, "store");
  const entries = await readdir(root, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile() && !entry.name.includes(".lock"))
    .map((entry) => entry.name)
    .toSorted();
}

/** A NAR that a view does not show in any way. */
export async function expectNothingStored(server: TestServer): Promise<void> {
  await expect.poll(() => listStoreFiles(server)).toEqual([]);
}
