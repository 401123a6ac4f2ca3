import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { GRPC_STATUS, type HeaderList } from "@glorious/grpc";
import {
  type BatchReadResult,
  describeCapabilities,
  DigestList,
  encodeBatchReadBlobsResponse,
  encodeBatchUpdateBlobsResponse,
  encodeFindMissingBlobsResponse,
  encodeQueryWriteStatusResponse,
  encodeWriteResponse,
  failsWithoutUpdates,
  MAX_BATCH_BYTES,
  parseBatchReadBlobsRequest,
  parseBatchUpdateBlobsRequest,
  parseQueryWriteStatusRequest,
  parseReadRequest,
  parseReadResourceName,
  parseUpdateActionResultRequest,
  parseWriteResourceName,
  ServerCapabilitiesSchema,
} from "@glorious/reapi";

import type { KeptBlobs } from "./kept-blobs.ts";
import { isWrite, type MethodKind } from "./methods.ts";

/** What is answered in the cache's place. */
export type DegradedAnswer =
  | { readonly kind: "message"; readonly message: Uint8Array }
  | { readonly kind: "status"; readonly status: number; readonly message: string }
  /** A kept blob, from `offset` on. */
  | {
      readonly kind: "blob";
      readonly content: AsyncIterable<Buffer>;
      readonly isCompressed: boolean;
    };

/** What an answer is made from. */
export interface DegradedState {
  readonly kept: KeptBlobs | undefined;
  /** What the cache said of itself when it was last asked. */
  readonly capabilities: Uint8Array | undefined;
}

/** A call that the cache does not answer. */
export interface DegradedCall {
  readonly kind: MethodKind;
  readonly headers: HeaderList;
  readonly request: Uint8Array;
  /** How much of a blob its reader has got already. */
  readonly deliveredBytes: number;
}

const NOTHING = new Uint8Array();
const MAX_BLOB_BYTES = 16 * 2 ** 30;
const GONE = "the cache does not answer now; the build goes on without it";
const NOT_TAKEN = "the cache does not answer now; nothing is stored until it does";
const NO_BLOB = { code: GRPC_STATUS.NOT_FOUND, message: GONE };

/**
 * Answers as a healthy cache would that is empty and keeps nothing. Kept blobs are there. Uploads are taken and dropped:
 * a Bazel that began to upload while the cache was there reports every single refusal, with a stack of its own.
 *
 * @throws {CacheError} `INVALID` when the request is malformed.
 */
export function answerDegraded(call: DegradedCall, state: DegradedState): DegradedAnswer {
  switch (call.kind) {
    case "capabilities":
      return toMessage(degradedCapabilities(call.headers, state));
    case "find-missing":
      return toMessage(missNothing());
    case "batch-update":
      return toMessage(dropBatch(call.request));
    case "update-action":
      return toMessage(parseUpdateActionResultRequest(call.request, new DigestList()).actionResult);
    case "query-write":
      return toMessage(
        encodeQueryWriteStatusResponse(
          uploadSize(parseQueryWriteStatusRequest(call.request).resourceName),
          true,
        ),
      );
    case "batch-read":
      return toMessage(readBatch(call.request, state.kept));
    case "read":
      return readKept(call, state.kept);
    default:
      return isWrite(call.kind)
        ? { kind: "status", status: GRPC_STATUS.PERMISSION_DENIED, message: NOT_TAKEN }
        : { kind: "status", status: NO_BLOB.code, message: NO_BLOB.message };
  }
}

/**
 * Ends an upload as if its blob were there already.
 *
 * @throws {CacheError} `INVALID` when it is no name to write to.
 */
export function answerDropped(resourceName: string): Uint8Array {
  return encodeWriteResponse(uploadSize(resourceName));
}

function toMessage(message: Uint8Array): DegradedAnswer {
  return { kind: "message", message };
}

/** What the cache said, or what ours would say, except that nothing may be written. */
function degradedCapabilities(headers: HeaderList, { capabilities }: DegradedState): Uint8Array {
  const mayUpdate = failsWithoutUpdates(headers);
  if (capabilities === undefined) {
    return describeCapabilities({ mayUpdate, maxBlobBytes: MAX_BLOB_BYTES });
  }
  const known = fromBinary(ServerCapabilitiesSchema, capabilities);
  const { cacheCapabilities } = known;
  if (cacheCapabilities !== undefined) {
    cacheCapabilities.actionCacheUpdateCapabilities = {
      $typeName: "build.bazel.remote.execution.v2.ActionCacheUpdateCapabilities",
      updateEnabled: mayUpdate,
    };
  }
  return toBinary(ServerCapabilitiesSchema, create(ServerCapabilitiesSchema, known));
}

/** What is not missing need not be uploaded. */
function missNothing(): Uint8Array {
  return encodeFindMissingBlobsResponse(new DigestList(), []);
}

function dropBatch(request: Uint8Array): Uint8Array {
  const digests = new DigestList();
  const { blobs } = parseBatchUpdateBlobsRequest(request, digests);
  return encodeBatchUpdateBlobsResponse(
    digests,
    blobs.map(() => undefined),
  );
}

/** How much of a blob is said to be there: all of it; -1 is the contract's word for a compressed one. */
function uploadSize(resourceName: string): number {
  const digests = new DigestList();
  const { compressor } = parseWriteResourceName(resourceName, digests);
  return compressor === "identity" ? digests.sizeBytes(0) : -1;
}

/** At most a message's worth is read, at once: nothing else goes on while the cache is away. */
function readBatch(request: Uint8Array, kept: KeptBlobs | undefined): Uint8Array {
  const digests = new DigestList();
  parseBatchReadBlobsRequest(request, digests);
  const results: BatchReadResult[] = [];
  let leftBytes = MAX_BATCH_BYTES;
  for (let index = 0; index < digests.length; index++) {
    const sizeBytes = digests.sizeBytes(index);
    const isRead = sizeBytes <= leftBytes;
    const data = isRead ? kept?.readWhole(digests.hash(index), sizeBytes) : undefined;
    leftBytes -= data?.length ?? 0;
    if (digests.isEmptyBlob(index)) results.push({ data: NOTHING, compressor: "identity" });
    else results.push(data === undefined ? { status: NO_BLOB } : { data, compressor: "identity" });
  }
  return encodeBatchReadBlobsResponse(digests, results);
}

function readKept(call: DegradedCall, kept: KeptBlobs | undefined): DegradedAnswer {
  const { resourceName, readOffset, readLimit } = parseReadRequest(call.request);
  const digests = new DigestList();
  const { compressor } = parseReadResourceName(resourceName, digests);
  const isCompressed = compressor === "zstd";
  // A compressed stream that was broken off cannot be gone on with by another encoder.
  const isResumable = !isCompressed || call.deliveredBytes === 0;
  const offset = readOffset + (isCompressed ? 0 : call.deliveredBytes);
  if (readLimit === 0 && offset >= 0 && isResumable) {
    const content = kept?.read(digests.hash(0), digests.sizeBytes(0), offset);
    if (content !== undefined) return { kind: "blob", content, isCompressed };
  }
  return { kind: "status", status: NO_BLOB.code, message: NO_BLOB.message };
}
