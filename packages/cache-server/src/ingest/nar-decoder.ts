import { Readable, type Transform } from "node:stream";
import { createBrotliDecompress, createGunzip } from "node:zlib";

import { CacheError } from "@glorious/core";
import { decodeZstd } from "@glorious/nix-store";
import xz from "xz-decompress";

import type { ObjectCompression } from "../index/cache-index.ts";

const BY_EXTENSION: Readonly<Record<string, ObjectCompression>> = {
  "": "none",
  gz: "gzip",
  br: "br",
  zst: "zstd",
  xz: "xz",
};

/**
 * The compression of an uploaded file by the extension Nix gives it (`nar/<hash>.nar.<extension>`).
 *
 * @throws {CacheError} `UNSUPPORTED` for one we do not decode.
 */
export function compressionOfExtension(extension: string): ObjectCompression {
  const compression = BY_EXTENSION[extension];
  if (compression === undefined) throw unsupported(`.${extension}`);
  return compression;
}

/** The reverse of {@link compressionOfExtension}: what follows `.nar`, with its dot. */
export function extensionOfCompression(compression: ObjectCompression): string {
  const extension = Object.entries(BY_EXTENSION).find(([, value]) => value === compression)?.[0];
  return extension === undefined || extension === "" ? "" : `.${extension}`;
}

/** What Nix writes as a narinfo's `Compression`; an unknown or absent one is refused. */
export function parseCompression(name: string): ObjectCompression {
  const known = Object.values(BY_EXTENSION).find((compression) => compression === name);
  if (known === undefined) throw unsupported(name);
  return known;
}

function unsupported(name: string): CacheError {
  return new CacheError(
    "UNSUPPORTED",
    `NARs compressed as ${JSON.stringify(name)} are not accepted`,
    {
      hint: "Copy with ?compression=zstd at the end of the cache's URL.",
    },
  );
}

/**
 * Undoes an upload's compression, strictly: damaged and cut streams, and bytes after the end, are errors.
 *
 * @throws {CacheError} `CORRUPT` or `TRUNCATED`.
 */
export function decodeNar(
  source: AsyncIterable<Buffer>,
  compression: ObjectCompression,
): AsyncIterable<Buffer> {
  switch (compression) {
    case "none":
      return source;
    case "zstd":
      return decodeZstd(source);
    case "gzip":
      return decodeThrough(source, createGunzip(), compression);
    case "br":
      return decodeThrough(source, createBrotliDecompress(), compression);
    case "xz":
      return decodeXz(source);
  }
}

async function* decodeThrough(
  source: AsyncIterable<Buffer>,
  decoder: Transform & { bytesWritten: number },
  compression: string,
): AsyncGenerator<Buffer> {
  let received = 0;
  let sourceFailure: { readonly error: unknown } | undefined;
  const input = Readable.from(
    (async function* () {
      try {
        for await (const chunk of source) {
          received += chunk.length;
          yield chunk;
        }
      } catch (error) {
        sourceFailure = { error };
        throw error;
      }
    })(),
    { objectMode: false, highWaterMark: 0 },
  );
  input.on("error", (error) => decoder.destroy(error));
  try {
    for await (const chunk of input.pipe(decoder)) yield chunk as Buffer;
  } catch (cause) {
    if (sourceFailure !== undefined) throw sourceFailure.error;
    throw damaged(compression, cause);
  } finally {
    input.destroy();
    decoder.destroy();
  }
  // Node stops at the end of the compressed stream and says nothing about what follows it.
  if (decoder.bytesWritten < received) throw damaged(compression, new Error("bytes after its end"));
}

async function* decodeXz(source: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let sourceFailure: { readonly error: unknown } | undefined;
  const iterator = source[Symbol.asyncIterator]();
  const input = new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        try {
          const next = await iterator.next();
          if (next.done === true) controller.close();
          else controller.enqueue(next.value);
        } catch (error) {
          sourceFailure = { error };
          controller.error(error);
        }
      },
    },
    { highWaterMark: 0 },
  );
  try {
    for await (const chunk of new xz.XzReadableStream(input)) yield Buffer.from(chunk);
  } catch (cause) {
    if (sourceFailure !== undefined) throw sourceFailure.error;
    throw damaged("xz", cause);
  }
}

function damaged(compression: string, cause: unknown): CacheError {
  // xz-embedded says 8 for input that ends too early; no input at all makes its wrapper stumble.
  const isCut = /unexpected end|premature|error code 8$|reading 'byteLength'/i.test(String(cause));
  return new CacheError(
    isCut ? "TRUNCATED" : "CORRUPT",
    `The ${compression} stream is ${isCut ? "cut short" : "damaged"}`,
    { cause, hint: "Send it again; the bytes that arrived do not decompress." },
  );
}
