import { encodeNar } from "@glorious/nix-store";

import { atticNarInfo, type TestPath } from "./test-path.ts";
import type { TestAnswer, TestServer } from "./test-server.ts";

/** Bytes in small pieces, sent chunked and without a length, as Attic's command line does. */
export async function* inPieces(bytes: Uint8Array, pieceBytes = 50): AsyncGenerator<Uint8Array> {
  for (let offset = 0; offset < bytes.length; offset += pieceBytes) {
    yield bytes.subarray(offset, offset + pieceBytes);
  }
}

/** Attic's upload with its info in the header. */
export function pushAttic(
  server: TestServer,
  token: string | undefined,
  cache: string,
  path: TestPath,
  changes: Readonly<Record<string, unknown>> = {},
  body: Uint8Array = path.nar,
): Promise<TestAnswer> {
  return server.send("PUT", "/_api/v1/upload-path", {
    ...(token === undefined ? {} : { token }),
    headers: { "x-attic-nar-info": atticNarInfo(cache, path, changes) },
    body: inPieces(body, Math.max(50, Math.ceil(body.length / 200))),
  });
}

export function postJson(
  server: TestServer,
  token: string | undefined,
  path: string,
  value: unknown,
  method = "POST",
): Promise<TestAnswer> {
  return server.send(method, path, {
    ...(token === undefined ? {} : { token }),
    headers: { "content-type": "application/json" },
    body: JSON.stringify(value),
  });
}

export async function encode(path: TestPath, level?: number): Promise<Buffer> {
  const frames = encodeNar(inPieces(path.nar), level === undefined ? {} : { level });
  return Buffer.concat(await Array.fromAsync(frames));
}

/** Our own client's upload of one NAR, in the bytes given. */
export function putNar(
  server: TestServer,
  token: string,
  view: string,
  path: TestPath,
  encoded: Uint8Array,
): Promise<TestAnswer> {
  return server.send(
    "PUT",
    `/_flywheel/v1/views/${view}/nars/${path.narHash}?size=${path.nar.length}&compression=zstd`,
    { token, body: encoded },
  );
}

/** A path as the closure commit names it. */
export function closurePath(path: TestPath): Record<string, unknown> {
  return {
    storePath: path.storePath,
    narHash: path.narHash,
    narSize: path.nar.length,
    references: path.references,
    signatures: [],
  };
}
