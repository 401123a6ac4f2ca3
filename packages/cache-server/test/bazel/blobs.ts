import { createHash, randomBytes } from "node:crypto";

import { DigestList, parseHash } from "@glorious/reapi";

import type { BlobName } from "../../src/bazel/store/bazel-store.ts";

/** A blob with its digest in every form. */
export interface TestBlob extends BlobName {
  readonly bytes: Buffer;
  readonly hash: string;
}

/** The blob of these bytes. */
export function blobOf(content: Uint8Array | string): TestBlob {
  const bytes = Buffer.from(content);
  const hash = createHash("sha256").update(bytes).digest("hex");
  return { bytes, hash, key: parseHash(hash), sizeBytes: bytes.length };
}

/** A blob of random bytes: no two calls give the same. */
export function randomBlob(sizeBytes: number): TestBlob {
  return blobOf(randomBytes(sizeBytes));
}

/** A blob that compresses well and is unlike every other. */
export function textBlob(sizeBytes: number): TestBlob {
  const line = `${randomBytes(12).toString("hex")} the same words again and again\n`;
  return blobOf(line.repeat(Math.ceil(sizeBytes / line.length)).slice(0, sizeBytes));
}

/** The digests of blobs, in order. */
export function listOf(blobs: readonly BlobName[]): DigestList {
  const list = new DigestList();
  for (const { key, sizeBytes } of blobs) list.push(key, sizeBytes);
  return list;
}

/** Bytes as a stream of pieces. */
export async function* pieces(
  bytes: Uint8Array,
  pieceBytes: number = 16 * 1024,
): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; at += pieceBytes) {
    yield Buffer.from(bytes.subarray(at, at + pieceBytes));
  }
}
