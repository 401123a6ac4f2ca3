import { Readable, type Transform } from "node:stream";
import { createBrotliDecompress, createGunzip } from "node:zlib";

import { CacheError } from "@glorious/core";

import { decodeZstd } from "./zstd-decoder.ts";

/** The compressions of NARs that we decode, as narinfos name them. */
export type NarCompression = "none" | "gzip" | "br" | "zstd" | "xz";

/** Decodes an xz stream, strictly. Node has no decoder for it: whoever decodes brings one. */
export type XzDecoder = (
  source: AsyncIterable<Buffer>,
  signal: AbortSignal | undefined,
) => AsyncIterable<Buffer>;

/** Options of {@link decompressNar}. */
export interface DecompressNarOptions {
  readonly xz: XzDecoder;
  readonly signal?: AbortSignal | undefined;
  /** As that of `decodeZstd`. */
  readonly maxWindowLog?: number | undefined;
}

const COMPRESSIONS: readonly NarCompression[] = ["none", "gzip", "br", "zstd", "xz"];

/** What a narinfo's `Compression` means; `undefined` for one that we do not decode. */
export function parseNarCompression(name: string): NarCompression | undefined {
  return COMPRESSIONS.find((compression) => compression === name);
}

/**
 * Undoes a NAR's compression, strictly: damaged and cut streams, and bytes after the end, are errors.
 * A chunk is good until the next is asked for.
 *
 * @throws {CacheError} `CORRUPT` or `TRUNCATED`; errors of the source as they are.
 */
export function decompressNar(
  source: AsyncIterable<Buffer>,
  compression: NarCompression,
  { xz, signal, maxWindowLog }: DecompressNarOptions,
): AsyncIterable<Buffer> {
  switch (compression) {
    case "none":
      return source;
    case "zstd":
      return decodeZstd(source, {
        signal,
        consumerIsDone: true,
        ...(maxWindowLog === undefined ? {} : { maxWindowLog }),
      });
    case "xz":
      return xz(source, signal);
    case "gzip":
      return decodeThrough(source, createGunzip(), compression);
    default:
      return decodeThrough(source, createBrotliDecompress(), compression);
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

function damaged(compression: string, cause: unknown): CacheError {
  const isCut = /unexpected end|premature/i.test(String(cause));
  return new CacheError(
    isCut ? "TRUNCATED" : "CORRUPT",
    `The ${compression} stream is ${isCut ? "cut short" : "damaged"}`,
    { cause, hint: "Send it again; the bytes that arrived do not decompress." },
  );
}
