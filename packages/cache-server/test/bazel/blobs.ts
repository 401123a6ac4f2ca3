import { createHash, randomBytes } from "node:crypto";

import type { BlobDigest } from "../../src/bazel/store/bazel-store.ts";
import { Sha256Key } from "../../src/bazel/store/sha256-key.ts";

/** A blob with its digest in every form. */
export interface TestBlob extends BlobDigest {
  readonly bytes: Buffer;
  readonly hash: string;
}

/** The blob of these bytes. */
export function blobOf(content: Uint8Array | string): TestBlob {
  const bytes = Buffer.from(content);
  const hash = createHash("sha256").update(bytes).digest("hex");
  return { bytes, hash, key: keyOf(hash), sizeBytes: bytes.length };
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

export function keyOf(hash: string): Sha256Key {
  const key = Sha256Key.fromHex(hash);
  if (key === undefined) throw new Error(`${hash} is no SHA-256`);
  return key;
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
