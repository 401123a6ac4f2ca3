import { DigestFields } from "./digest-fields.ts";
import type { DigestList } from "./digest-list.ts";
import { digestSize, writeDigest } from "./digest-writer.ts";
import { Compressor_Value } from "./generated/build/bazel/remote/execution/v2/remote_execution_pb.ts";
import { type BlobCompressor, readEnums, requireSha256 } from "./request-fields.ts";
import { type RpcStatus, statusSize, writeStatus } from "./rpc-status.ts";
import { WireReader } from "./wire-reader.ts";
import { WireWriter, bytesFieldSize } from "./wire-writer.ts";

const REQUEST = {
  instanceName: 0x0a,
  digests: 0x12,
  acceptableCompressor: 0x18,
  acceptableCompressors: 0x1a,
  digestFunction: 0x20,
};
const REQUEST_KNOWN = (1 << 1) | (1 << 2) | (1 << 3) | (1 << 4);
const RESPONSES = 0x0a;
const RESPONSE = { digest: 0x0a, data: 0x12, status: 0x1a, compressor: 0x20 };
const ZSTD_SIZE = 2;

/**
 * Reads a `BatchReadBlobsRequest`; `digests` is cleared and filled with what it asks for.
 *
 * @throws {CacheError} `INVALID` when it is malformed or asks for anything but SHA-256.
 */
export function parseBatchReadBlobsRequest(
  message: Uint8Array,
  digests: DigestList,
): { instanceName: string; acceptsZstd: boolean } {
  const reader = new WireReader(message, "BatchReadBlobsRequest");
  const digest = new DigestFields();
  let instanceName = "";
  let acceptsZstd = false;
  digests.clear();
  for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
    if (tag === REQUEST.digests) {
      digest.read(reader);
      digest.pushTo(digests, reader, "digests", digests.length);
    } else if (tag === REQUEST.instanceName) instanceName = reader.text();
    else if (tag === REQUEST.acceptableCompressor || tag === REQUEST.acceptableCompressors) {
      readEnums(reader, tag, (value) => {
        acceptsZstd ||= value === Compressor_Value.ZSTD;
      });
    } else if (tag === REQUEST.digestFunction) requireSha256(reader);
    else reader.skip(tag, REQUEST_KNOWN);
  }
  return { instanceName, acceptsZstd };
}

/** What became of one blob: its content, or why there is none. */
export type BatchReadResult =
  | { readonly data: Uint8Array; readonly compressor: BlobCompressor }
  | { readonly status: RpcStatus };

/** Writes a `BatchReadBlobsResponse`: a result for each of `digests`, in their order. */
export function encodeBatchReadBlobsResponse(
  digests: DigestList,
  results: readonly BatchReadResult[],
): Buffer {
  const sizes = results.map((result, index) => {
    const size = bytesFieldSize(digestSize(digests, index));
    if ("status" in result) return size + bytesFieldSize(statusSize(result.status));
    const compressor = result.compressor === "zstd" ? ZSTD_SIZE : 0;
    return size + bytesFieldSize(result.data.length) + bytesFieldSize(0) + compressor;
  });
  const writer = new WireWriter(sizes.reduce((sum, size) => sum + bytesFieldSize(size), 0));
  for (const [index, result] of results.entries()) {
    writer.tag(RESPONSES);
    writer.varint(sizes[index]!);
    writeDigest(writer, RESPONSE.digest, digests, index);
    if ("status" in result) {
      writeStatus(writer, RESPONSE.status, result.status);
      continue;
    }
    writer.bytesField(RESPONSE.data, result.data);
    // Present and empty means success; some clients take an absent one for a broken answer.
    writeStatus(writer, RESPONSE.status, undefined);
    if (result.compressor === "zstd") {
      writer.tag(RESPONSE.compressor);
      writer.varint(Compressor_Value.ZSTD);
    }
  }
  return writer.bytes;
}
