import { createHash } from "node:crypto";

import { CacheError } from "@glorious/core";
import { type DigestKey, type DigestList, formatHash } from "@glorious/reapi";

import type { BazelScope, BlobName } from "../store/bazel-store.ts";
import { streamContent } from "./blob-content.ts";

/** Chunks of one blob; a blob of 200 GiB has fewer. */
const MAX_CHUNKS = 500_000;
/** The largest chunk that a blob may be put together from. */
const MAX_CHUNK_BYTES = 16 * 2 ** 20;

/**
 * Puts a blob together from chunks that are there, and remembers how it is cut.
 *
 * @throws {CacheError} `NOT_FOUND` when a chunk is missing; `INVALID` when the chunks do not have the blob's size;
 *   `CORRUPT` when they do not have its hash; nothing is stored then.
 */
export async function spliceBlob(
  scope: BazelScope,
  blob: BlobName,
  chunks: DigestList,
): Promise<void> {
  requireSizes(blob, chunks);
  await requireAll(scope, chunks);
  const source = concatenate(scope, chunks);
  const kind = await scope.putBlob({ ...blob, form: "identity", source });
  // Of a blob that was there already a lying client could say anything.
  if (kind === "stored" || (await isMadeOf(scope, blob, chunks))) {
    await scope.putLayout(blob.key, chunks);
    return;
  }
  throw new CacheError("CORRUPT", `The chunks are not those of ${formatHash(blob.key)}`);
}

/**
 * The chunks that a blob was put together from, all of them there.
 *
 * @throws {CacheError} `NOT_FOUND` when the blob is absent, or nobody said how to cut it.
 */
export async function splitBlob(scope: BazelScope, blob: BlobName): Promise<DigestList> {
  const stored = await scope.findBlob(blob);
  const chunks = stored && (await scope.findLayout(blob.key));
  if (chunks === undefined || (await scope.findMissing(chunks)).length > 0) {
    throw new CacheError("NOT_FOUND", `There are no chunks of ${formatHash(blob.key)}`, {
      hint: "Read the blob as a whole.",
    });
  }
  return chunks;
}

function requireSizes({ sizeBytes }: BlobName, chunks: DigestList): void {
  if (chunks.length > MAX_CHUNKS) {
    throw new CacheError("INVALID", `${chunks.length} chunks are more than ${MAX_CHUNKS}`);
  }
  let sum = 0;
  for (let index = 0; index < chunks.length; index += 1) {
    const chunkBytes = chunks.sizeBytes(index);
    if (chunkBytes > MAX_CHUNK_BYTES) {
      throw new CacheError(
        "INVALID",
        `Chunk ${index} has ${chunkBytes} bytes, more than ${MAX_CHUNK_BYTES}`,
      );
    }
    sum += chunkBytes;
  }
  if (sum !== sizeBytes) {
    throw new CacheError("INVALID", `The chunks have ${sum} bytes, the blob has ${sizeBytes}`);
  }
}

async function requireAll(scope: BazelScope, chunks: DigestList): Promise<void> {
  const [first] = await scope.findMissing(chunks);
  if (first !== undefined) throw missingChunk(chunks.key(first));
}

function missingChunk(key: DigestKey): CacheError {
  return new CacheError("NOT_FOUND", `The chunk ${formatHash(key)} is missing`, {
    hint: "Upload it first.",
  });
}

async function* concatenate(scope: BazelScope, chunks: DigestList): AsyncGenerator<Buffer> {
  for (let index = 0; index < chunks.length; index += 1) {
    const name = { key: chunks.key(index), sizeBytes: chunks.sizeBytes(index) };
    const chunk = await scope.findBlob(name);
    if (chunk === undefined) throw missingChunk(name.key);
    yield* streamContent(chunk, "identity");
  }
}

/** Whether the chunks, one after the other, are the blob. */
async function isMadeOf(scope: BazelScope, blob: BlobName, chunks: DigestList): Promise<boolean> {
  const hash = createHash("sha256");
  for await (const chunk of concatenate(scope, chunks)) hash.update(chunk);
  return hash.digest().equals(Buffer.from(blob.key));
}
