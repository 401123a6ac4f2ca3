import { create, toBinary } from "@bufbuild/protobuf";
import { CacheError } from "@glorious/core";
import type { CallReceiver, ServerCall } from "@glorious/grpc";
import {
  type BatchReadResult,
  ChunkingFunction_Value,
  ContentAddressableStorage,
  type Digest,
  DigestList,
  encodeBatchReadBlobsResponse,
  encodeBatchUpdateBlobsResponse,
  encodeFindMissingBlobsResponse,
  GetTreeRequestSchema,
  GetTreeResponseSchema,
  parseBatchReadBlobsRequest,
  parseBatchUpdateBlobsRequest,
  parseFindMissingBlobsRequest,
  parseHash,
  type RpcStatus,
  SpliceBlobRequestSchema,
  SpliceBlobResponseSchema,
  SplitBlobRequestSchema,
  SplitBlobResponseSchema,
  methodPath,
  MAX_BATCH_BYTES,
} from "@glorious/reapi";

import { contentAtHand, readContent } from "../services/blob-content.ts";
import { spliceBlob, splitBlob } from "../services/chunked-blobs.ts";
import type { InstanceAccess } from "../services/instance-access.ts";
import { walkTree } from "../services/tree-walk.ts";
import type { BazelScope, BlobForm, BlobName } from "../store/bazel-store.ts";
import type { CallContext } from "./call-context.ts";
import { toRpcStatus } from "./call-errors.ts";
import { decode, drained, receiveOne, receiveOneAndStream } from "./receivers.ts";

const NOTHING = new Uint8Array();
/** Beyond it a request is dealt with apart from the one list that all short ones share. */
const SHORT_REQUEST_BYTES = 512 * 1024;

/** Blobs that one call looks up before others get their turn. */
const MAX_READS_PER_TURN = 64;

/** `build.bazel.remote.execution.v2.ContentAddressableStorage`. */
export function casCalls(context: CallContext): [path: string, receiver: CallReceiver][] {
  // Read and forgotten within a turn.
  const shared = new DigestList();

  const open = async (
    call: ServerCall,
    instance: string,
    permission: "pull" | "push",
  ): Promise<InstanceAccess> =>
    context.recall(call, instance, permission) ?? (await context.open(call, instance, permission));

  const findMissing = receiveOne((call, message) => {
    const isShort = message.length <= SHORT_REQUEST_BYTES;
    const digests = isShort ? shared : new DigestList();
    const { instanceName } = parseFindMissingBlobsRequest(message, digests);
    const access = context.recall(call, instanceName, "pull");
    if (access !== undefined) {
      const missing = isShort ? access.scope.findFewMissing(digests) : undefined;
      if (missing?.length === 0 || (missing === undefined && access.scope.remembersAll(digests))) {
        access.counters.blobsFound += digests.length;
        call.respond(NOTHING);
        return;
      }
      if (missing !== undefined) {
        answerMissing(call, access, digests, missing);
        return;
      }
    }
    const own = new DigestList();
    own.append(digests);
    context.run(call, async () => {
      const opened = access ?? (await open(call, instanceName, "pull"));
      answerMissing(call, opened, own, await opened.scope.findMissing(own));
    });
  });

  const batchUpdate = receiveOne((call, message) => {
    const digests = new DigestList();
    const { instanceName, blobs } = parseBatchUpdateBlobsRequest(message, digests);
    context.run(call, async () => {
      const { scope, counters } = await open(call, instanceName, "push");
      const outcomes = await scope.putBlobs(
        blobs.map(({ data, compressor }, index) => ({
          // Not a copy: of thousands each takes ten times what it holds.
          key: digests.keyView(index),
          sizeBytes: digests.sizeBytes(index),
          form: compressor,
          source: data,
        })),
      );
      const statuses = outcomes.map((outcome, index): RpcStatus | undefined => {
        if (outcome instanceof Error) return toRpcStatus(outcome);
        if (outcome === "present") counters.blobsPresent += 1;
        else {
          counters.blobsStored += 1;
          counters.bytesStored += digests.sizeBytes(index);
        }
        return undefined;
      });
      call.respond(encodeBatchUpdateBlobsResponse(digests, statuses));
    });
  });

  const batchRead = receiveOne((call, message) => {
    const digests = new DigestList();
    const { instanceName, acceptsZstd } = parseBatchReadBlobsRequest(message, digests);
    requireBatch(digests);
    const access = context.recall(call, instanceName, "pull");
    const atHand = access && readAtHand(access.scope, digests, acceptsZstd);
    if (access !== undefined && atHand !== undefined) {
      countRead(access, digests, atHand);
      call.respond(encodeBatchReadBlobsResponse(digests, atHand));
      return;
    }
    context.run(call, async () => {
      const opened = access ?? (await open(call, instanceName, "pull"));
      const results: BatchReadResult[] = [];
      for (let index = 0; index < digests.length; index += 1) {
        results.push(await readOne(opened.scope, digests, index, acceptsZstd));
      }
      countRead(opened, digests, results);
      call.respond(encodeBatchReadBlobsResponse(digests, results));
    });
  });

  const getTree = receiveOneAndStream((call, message) => {
    const request = decode(GetTreeRequestSchema, message);
    context.run(call, async () => {
      const { scope } = await open(call, request.instanceName, "pull");
      if (request.pageToken !== "") {
        throw new CacheError("INVALID", "There is no such page of the tree", {
          hint: "Ask without a page token: the whole tree is streamed.",
        });
      }
      for await (const directories of walkTree(scope, nameOf(request.rootDigest, "root_digest"))) {
        if (call.isOver) return;
        const response = create(GetTreeResponseSchema, { directories });
        if (!call.sendMessage(toBinary(GetTreeResponseSchema, response))) await drained(call);
      }
      call.finish(0);
    });
  });

  const split = receiveOne((call, message) => {
    const request = decode(SplitBlobRequestSchema, message);
    context.run(call, async () => {
      const { scope } = await open(call, request.instanceName, "pull");
      const chunks = await splitBlob(scope, nameOf(request.blobDigest, "blob_digest"));
      const response = create(SplitBlobResponseSchema, {
        chunkDigests: Array.from({ length: chunks.length }, (_, index) => ({
          hash: chunks.hash(index),
          sizeBytes: BigInt(chunks.sizeBytes(index)),
        })),
        chunkingFunction: ChunkingFunction_Value.UNKNOWN,
      });
      call.respond(toBinary(SplitBlobResponseSchema, response));
    });
  });

  const splice = receiveOne((call, message) => {
    const request = decode(SpliceBlobRequestSchema, message);
    context.run(call, async () => {
      const { scope, counters } = await open(call, request.instanceName, "push");
      const blob = nameOf(request.blobDigest, "blob_digest");
      const chunks = new DigestList();
      for (const digest of request.chunkDigests) {
        const { key, sizeBytes } = nameOf(digest, "chunk_digests");
        chunks.push(key, sizeBytes);
      }
      await spliceBlob(scope, blob, chunks);
      counters.blobsStored += 1;
      counters.bytesStored += blob.sizeBytes;
      const response = create(SpliceBlobResponseSchema, {
        ...(request.blobDigest === undefined ? {} : { blobDigest: request.blobDigest }),
      });
      call.respond(toBinary(SpliceBlobResponseSchema, response));
    });
  });

  const service = ContentAddressableStorage;
  return [
    [methodPath(service, "findMissingBlobs"), findMissing],
    [methodPath(service, "batchUpdateBlobs"), batchUpdate],
    [methodPath(service, "batchReadBlobs"), batchRead],
    [methodPath(service, "getTree"), getTree],
    [methodPath(service, "splitBlob"), split],
    [methodPath(service, "spliceBlob"), splice],
  ];
}

function answerMissing(
  call: ServerCall,
  { counters }: InstanceAccess,
  digests: DigestList,
  missing: readonly number[],
): void {
  counters.blobsMissing += missing.length;
  counters.blobsFound += digests.length - missing.length;
  call.respond(encodeFindMissingBlobsResponse(digests, missing));
}

function requireBatch(digests: DigestList): void {
  let sum = 0;
  for (let index = 0; index < digests.length; index += 1) sum += digests.sizeBytes(index);
  if (sum <= MAX_BATCH_BYTES) return;
  throw new CacheError("INVALID", `The blobs have ${sum} bytes, more than ${MAX_BATCH_BYTES}`, {
    hint: "Read large blobs one by one.",
  });
}

/** All blobs when they are few and small, without waiting for anything. */
function readAtHand(
  scope: BazelScope,
  digests: DigestList,
  acceptsZstd: boolean,
): BatchReadResult[] | undefined {
  if (digests.length > MAX_READS_PER_TURN) return undefined;
  const results: BatchReadResult[] = [];
  for (let index = 0; index < digests.length; index += 1) {
    const blob = scope.lookUpBlob(digests, index);
    if (blob === undefined) return undefined;
    const compressor: BlobForm = acceptsZstd ? blob.form : "identity";
    const data = contentAtHand(blob, compressor);
    if (data === undefined) return undefined;
    results.push({ data, compressor });
  }
  return results;
}

async function readOne(
  scope: BazelScope,
  digests: DigestList,
  index: number,
  acceptsZstd: boolean,
): Promise<BatchReadResult> {
  try {
    const name = { key: digests.key(index), sizeBytes: digests.sizeBytes(index) };
    const blob = await scope.findBlob(name);
    if (blob === undefined) {
      throw new CacheError("NOT_FOUND", `There is no blob ${digests.hash(index)}`);
    }
    const compressor: BlobForm = acceptsZstd ? blob.form : "identity";
    return { data: await readContent(blob, compressor), compressor };
  } catch (error) {
    return { status: toRpcStatus(error) };
  }
}

function countRead(
  { counters }: InstanceAccess,
  digests: DigestList,
  results: readonly BatchReadResult[],
): void {
  for (const [index, result] of results.entries()) {
    if ("status" in result) counters.blobsNotRead += 1;
    else {
      counters.blobsRead += 1;
      counters.bytesRead += digests.sizeBytes(index);
    }
  }
}

/** A digest of a generated message. @throws {CacheError} `INVALID`. */
function nameOf(digest: Digest | undefined, field: string): BlobName {
  if (digest === undefined) throw new CacheError("INVALID", `${field} is missing`);
  const sizeBytes = Number(digest.sizeBytes);
  if (sizeBytes < 0 || !Number.isSafeInteger(sizeBytes)) {
    throw new CacheError("INVALID", `${field} has no size`);
  }
  return { key: parseHash(digest.hash), sizeBytes };
}
