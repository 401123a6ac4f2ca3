import { DigestFields } from "./digest-fields.ts";
import type { DigestList } from "./digest-list.ts";
import { digestSize, writeDigest } from "./digest-writer.ts";
import { type BlobCompressor, readCompressor, requireSha256 } from "./request-fields.ts";
import { type RpcStatus, statusSize, writeStatus } from "./rpc-status.ts";
import { WireReader } from "./wire-reader.ts";
import { WireWriter, bytesFieldSize } from "./wire-writer.ts";

const REQUEST = { instanceName: 0x0a, requests: 0x12, digestFunction: 0x28 };
const REQUEST_KNOWN = (1 << 1) | (1 << 2) | (1 << 5);
const BLOB = { digest: 0x0a, data: 0x12, compressor: 0x18 };
const BLOB_KNOWN = (1 << 1) | (1 << 2) | (1 << 3);
const RESPONSES = 0x0a;
const RESPONSE = { digest: 0x0a, status: 0x12 };

/** One blob of a batch. */
export interface BatchedBlob {
  /** A view of the message. */
  readonly data: Uint8Array;
  /** How `data` is encoded; the digest is of the decoded bytes. */
  readonly compressor: BlobCompressor;
}

const NO_DATA: Uint8Array = new Uint8Array();

/**
 * Reads a `BatchUpdateBlobsRequest`; `digests` is cleared and filled, in the order of the blobs.
 *
 * @throws {CacheError} `INVALID` when it is malformed or asks for anything but SHA-256. Whether
 * content and digest agree is not looked at.
 */
export function parseBatchUpdateBlobsRequest(
  message: Uint8Array,
  digests: DigestList,
): { instanceName: string; blobs: BatchedBlob[] } {
  const reader = new WireReader(message, "BatchUpdateBlobsRequest");
  const digest = new DigestFields();
  const blobs: BatchedBlob[] = [];
  let instanceName = "";
  digests.clear();
  for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
    if (tag === REQUEST.requests) {
      blobs.push(readBlob(reader, digest));
      digest.pushTo(digests, reader, "requests.digest", digests.length);
    } else if (tag === REQUEST.instanceName) instanceName = reader.text();
    else if (tag === REQUEST.digestFunction) requireSha256(reader);
    else reader.skip(tag, REQUEST_KNOWN);
  }
  return { instanceName, blobs };
}

function readBlob(reader: WireReader, digest: DigestFields): BatchedBlob {
  let data = NO_DATA;
  let compressor: BlobCompressor = "identity";
  digest.clear();
  const outer = reader.enter();
  for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
    if (tag === BLOB.digest) digest.merge(reader);
    else if (tag === BLOB.data) data = reader.view();
    else if (tag === BLOB.compressor) compressor = readCompressor(reader);
    else reader.skip(tag, BLOB_KNOWN);
  }
  reader.leave(outer);
  return { data, compressor };
}

/** Writes a `BatchUpdateBlobsResponse`: what became of each of `digests`, `undefined` for stored. */
export function encodeBatchUpdateBlobsResponse(
  digests: DigestList,
  statuses: readonly (RpcStatus | undefined)[],
): Buffer {
  const sizes = statuses.map(
    (status, index) =>
      bytesFieldSize(digestSize(digests, index)) + bytesFieldSize(statusSize(status)),
  );
  const writer = new WireWriter(sizes.reduce((sum, size) => sum + bytesFieldSize(size), 0));
  for (const [index, status] of statuses.entries()) {
    writer.tag(RESPONSES);
    writer.varint(sizes[index]!);
    writeDigest(writer, RESPONSE.digest, digests, index);
    writeStatus(writer, RESPONSE.status, status);
  }
  return writer.bytes;
}
