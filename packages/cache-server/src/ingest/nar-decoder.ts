import { CacheError } from "@glorious/core";
import { decompressNar, parseNarCompression } from "@glorious/nix-store";

import type { ObjectCompression } from "../index/cache-index.ts";
import { decodeXz } from "./xz-decoder.ts";

/** Nix gives gzip no extension at all, like no compression; such a file says by its first bytes what it is. */
const EXTENSIONS: Readonly<Record<ObjectCompression, readonly string[]>> = {
  none: [""],
  gzip: ["", "gz"],
  br: ["br"],
  zstd: ["zst"],
  xz: ["xz"],
};

const COMPRESSIONS: readonly ObjectCompression[] = ["none", "gzip", "br", "zstd", "xz"];

/**
 * The compressions a file may have by its extension (`nar/<hash>.nar.<extension>`); empty for those we do not
 * decode.
 */
export function compressionsOfExtension(extension: string): readonly ObjectCompression[] {
  return COMPRESSIONS.filter((compression) => EXTENSIONS[compression].includes(extension));
}

/** The extension that a file of this compression has in our own names; none for an uncompressed NAR. */
export function extensionOf(compression: ObjectCompression): string {
  return EXTENSIONS[compression].at(-1) ?? "";
}

/**
 * Tells what an upload's compression is: by its extension, and by its first bytes where Nix gives none.
 *
 * @throws {CacheError} `UNSUPPORTED` for one we do not decode.
 */
export async function detectCompression(
  source: AsyncIterable<Buffer>,
  extension: string,
): Promise<{ readonly compression: ObjectCompression; readonly source: AsyncIterable<Buffer> }> {
  const [first, ...others] = compressionsOfExtension(extension);
  if (first === undefined) throw unsupported(`.${extension}`);
  if (others.length === 0) return { compression: first, source };
  const iterator = source[Symbol.asyncIterator]();
  const start: Buffer[] = [];
  let sizeBytes = 0;
  while (sizeBytes < NAR_MAGIC.length) {
    const next = await iterator.next();
    if (next.done === true) break;
    start.push(next.value);
    sizeBytes += next.value.length;
  }
  const head = Buffer.concat(start);
  async function* whole(): AsyncGenerator<Buffer> {
    yield head;
    yield* { [Symbol.asyncIterator]: () => iterator };
  }
  if (head.subarray(0, 2).equals(GZIP_MAGIC)) return { compression: "gzip", source: whole() };
  if (head.subarray(0, NAR_MAGIC.length).equals(NAR_MAGIC)) {
    return { compression: "none", source: whole() };
  }
  throw unsupported("something without an extension");
}

const GZIP_MAGIC = Buffer.from([0x1f, 0x8b]);
/** The length and text every NAR begins with. */
const NAR_MAGIC = Buffer.from("\x0d\0\0\0\0\0\0\0nix-archive-1\0\0\0", "latin1");

/** What Nix writes as a narinfo's `Compression`; an unknown or absent one is refused. */
export function parseCompression(name: string): ObjectCompression {
  const known = parseNarCompression(name);
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
 * A chunk is good until the next is asked for.
 *
 * @throws {CacheError} `CORRUPT` or `TRUNCATED`.
 */
export function decodeNar(
  source: AsyncIterable<Buffer>,
  compression: ObjectCompression,
  signal?: AbortSignal,
  maxWindowLog?: number,
): AsyncIterable<Buffer> {
  return decompressNar(source, compression, { xz: decodeXz, signal, maxWindowLog });
}
