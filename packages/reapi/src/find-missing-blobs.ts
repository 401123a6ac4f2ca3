import { DigestFields } from "./digest-fields.ts";
import type { DigestList } from "./digest-list.ts";
import { digestSize, writeDigest } from "./digest-writer.ts";
import { requireSha256 } from "./request-fields.ts";
import { WireReader } from "./wire-reader.ts";
import { WireWriter, bytesFieldSize } from "./wire-writer.ts";

const REQUEST = { instanceName: 0x0a, blobDigests: 0x12, digestFunction: 0x18 } as const;
const REQUEST_KNOWN = (1 << 1) | (1 << 2) | (1 << 3);
const MISSING_BLOB_DIGESTS = 0x12;

/**
 * Reads a `FindMissingBlobsRequest`; `digests` is cleared and filled with what it asks for.
 *
 * @throws {CacheError} `INVALID` when it is malformed or asks for anything but SHA-256.
 */
export function parseFindMissingBlobsRequest(
  message: Uint8Array,
  digests: DigestList,
): { instanceName: string } {
  const reader = new WireReader(message, "FindMissingBlobsRequest");
  const digest = new DigestFields();
  let instanceName = "";
  digests.clear();
  for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
    if (tag === REQUEST.blobDigests) {
      digest.read(reader);
      digest.pushTo(digests, reader, "blob_digests", digests.length);
    } else if (tag === REQUEST.instanceName) instanceName = reader.text();
    else if (tag === REQUEST.digestFunction) requireSha256(reader);
    else reader.skip(tag, REQUEST_KNOWN);
  }
  return { instanceName };
}

/** Writes a `FindMissingBlobsResponse` of those of `digests` whose indices are given. */
export function encodeFindMissingBlobsResponse(
  digests: DigestList,
  missing: ArrayLike<number>,
): Buffer {
  let size = 0;
  for (let at = 0; at < missing.length; at++) {
    size += bytesFieldSize(digestSize(digests, missing[at]!));
  }
  const writer = new WireWriter(size);
  for (let at = 0; at < missing.length; at++) {
    writeDigest(writer, MISSING_BLOB_DIGESTS, digests, missing[at]!);
  }
  return writer.bytes;
}
