import { Readable } from "node:stream";
import { createZstdCompress, constants, zstdCompressSync } from "node:zlib";

import { CacheError } from "@glorious/core";
import type { ByteRange, ChunkBuffers } from "@glorious/storage";

import type { BlobForm, StoredBlob } from "../store/bazel-store.ts";
import { decodeBlob, decodeSmall, maxEncodedBytes } from "../store/zstd-form.ts";
import { CHUNK_BYTES } from "./chunk-pool.ts";

/** What of a blob is wanted. */
export interface ContentOptions {
  /** Where to begin, in bytes of the blob itself. */
  readonly offset?: number;
  /** The most bytes to give, of the blob itself; all by default. */
  readonly limit?: number | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Where chunks may come from that the consumer gives back then; else they are its own. */
  readonly buffers?: ChunkBuffers | undefined;
}

/** Content that was not stored as zstd is encoded for one reader: fast counts for more than small. */
const ENCODER = { params: { [constants.ZSTD_c_compressionLevel]: 1 } };

/** A small blob in a form, at once; `undefined` when it has to be opened. */
export function contentAtHand(blob: StoredBlob, form: BlobForm): Buffer | undefined {
  const { bytes } = blob;
  if (bytes === undefined) return undefined;
  if (blob.form === form) return bytes;
  return form === "zstd" ? encodeSmall(bytes) : decodeSmall(bytes, blob.sizeBytes);
}

/** In memory of about its size: by default the encoder takes 16 KiB for a few bytes. */
function encodeSmall(bytes: Buffer): Buffer {
  return zstdCompressSync(bytes, { ...ENCODER, chunkSize: maxEncodedBytes(bytes.length) });
}

/** A whole blob in a form. */
export async function readContent(
  blob: StoredBlob,
  form: BlobForm,
  signal?: AbortSignal,
): Promise<Buffer> {
  const chunks = streamContent(blob, form, { signal });
  return contentAtHand(blob, form) ?? Buffer.concat(await Array.fromAsync(chunks));
}

/**
 * A blob, or a part of it, in a form; as it is stored when it is stored so, else decoded or encoded on the way.
 *
 * Encoded content of a part is an encoding of that part.
 *
 * @throws {CacheError} `NOT_FOUND` when the stored bytes are gone.
 */
export async function* streamContent(
  blob: StoredBlob,
  form: BlobForm,
  options: ContentOptions = {},
): AsyncGenerator<Buffer> {
  const { offset = 0, limit, signal, buffers } = options;
  const end = limit === undefined ? blob.sizeBytes : Math.min(blob.sizeBytes, offset + limit);
  const isWhole = offset === 0 && end === blob.sizeBytes;
  if (isWhole || blob.bytes !== undefined) {
    const content = isWhole ? contentAtHand(blob, form) : undefined;
    if (content !== undefined) {
      yield content;
      return;
    }
    if (isWhole && blob.form === form) {
      yield* streamStored(blob, { signal, buffers });
      return;
    }
  }
  const range = { start: offset, end };
  if (form === "zstd") yield* encode(streamIdentity(blob, range, { signal }), signal);
  else yield* streamIdentity(blob, range, { signal, buffers });
}

/** A part of the blob itself. */
async function* streamIdentity(
  blob: StoredBlob,
  { start, end }: ByteRange,
  { signal, buffers }: StoredOptions,
): AsyncGenerator<Buffer> {
  if (start >= end) return;
  const atHand = contentAtHand(blob, "identity");
  if (atHand !== undefined) {
    yield atHand.subarray(start, end);
    return;
  }
  if (blob.form === "identity") {
    yield* streamStored(blob, { range: { start, end }, signal, buffers });
    return;
  }
  let position = 0;
  const stored = streamStored(blob, { signal });
  for await (const chunk of decodeBlob(stored, blob.sizeBytes, { signal })) {
    const from = Math.max(0, start - position);
    const to = Math.min(chunk.length, end - position);
    if (from < to) yield chunk.subarray(from, to);
    position += chunk.length;
    if (position >= end) return;
  }
}

interface StoredOptions {
  readonly range?: ByteRange;
  readonly signal: AbortSignal | undefined;
  readonly buffers?: ChunkBuffers | undefined;
}

async function* streamStored(
  blob: StoredBlob,
  { range, signal, buffers }: StoredOptions,
): AsyncGenerator<Buffer> {
  if (blob.bytes !== undefined) {
    yield blob.bytes;
    return;
  }
  await using open = await blob.open(range, signal);
  yield* open.stream({ chunkBytes: CHUNK_BYTES, buffers });
}

async function* encode(
  source: AsyncIterable<Buffer>,
  signal: AbortSignal | undefined,
): AsyncGenerator<Buffer> {
  const encoder = createZstdCompress({ ...ENCODER, chunkSize: 256 * 1024 });
  const feeding = Readable.from(source, { objectMode: false });
  feeding.on("error", (error) => encoder.destroy(error));
  const onAbort = (): void => {
    encoder.destroy(new CacheError("CANCELLED", "Encoding a blob was cancelled"));
  };
  signal?.addEventListener("abort", onAbort, { once: true });
  try {
    feeding.pipe(encoder);
    const chunks: AsyncIterable<Buffer> = encoder;
    yield* chunks;
  } finally {
    signal?.removeEventListener("abort", onAbort);
    feeding.destroy();
    encoder.destroy();
  }
}
