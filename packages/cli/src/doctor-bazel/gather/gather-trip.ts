import { createHash, randomBytes, randomUUID } from "node:crypto";

import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { CacheError } from "@glorious/core";
import { GRPC_STATUS } from "@glorious/grpc";
import {
  ActionCache,
  type ActionResult,
  ActionResultSchema,
  type BlobDigest,
  ByteStream,
  ContentAddressableStorage,
  digestOf,
  formatReadResourceName,
  formatWriteResourceName,
} from "@glorious/reapi";

import { describeRefusal } from "../../doctor/describe-refusal.ts";
import type { HttpSession } from "../../doctor/http-session.ts";
import { attempt, notTried, type Probe } from "../../doctor/probe.ts";
import type { TripFacts } from "../snapshot.ts";
import type { GrpcResult, GrpcSession } from "./grpc-session.ts";

/** The cache as the trip needs it, over whichever protocol. Every method throws what keeps it from its work. */
export interface CacheFace {
  /** `undefined`: a miss. */
  getBlob(digest: BlobDigest): Promise<Uint8Array | undefined>;
  putBlob(digest: BlobDigest, bytes: Uint8Array): Promise<void>;
  /** `undefined`: a miss. */
  getResult(action: BlobDigest): Promise<ActionResult | undefined>;
  putResult(action: BlobDigest, result: ActionResult): Promise<void>;
}

const BLOB_BYTES = 4096;

/**
 * Asks for what is not there; then writes a small blob and a result that names it, and reads both.
 *
 * @param reasonNotToWrite - `undefined`: writing is to be tried.
 */
export async function gatherTrip(
  face: CacheFace,
  reasonNotToWrite: string | undefined,
): Promise<TripFacts> {
  const miss = await attempt(async (): Promise<true> => {
    const nobodys = digestOf(randomBytes(16));
    if ((await face.getResult(nobodys)) !== undefined) throw new Error("a result came");
    if ((await face.getBlob(nobodys)) !== undefined) throw new Error("a blob came");
    return true;
  });
  if (reasonNotToWrite !== undefined) {
    const nothing = notTried(reasonNotToWrite);
    return { miss, blob: nothing, actionResult: nothing };
  }
  const bytes = randomBytes(BLOB_BYTES);
  const digest = digestOf(bytes);
  const blob = await attempt(async () => {
    await face.putBlob(digest, bytes);
    const read = await face.getBlob(digest);
    if (read === undefined) throw new Error("it was taken, and is not there");
    const hash = createHash("sha256").update(read).digest("hex");
    if (hash !== digest.hash) throw new Error("it came back as another");
    return read.length;
  });
  const actionResult: Probe<true> =
    blob.state === "known"
      ? await attempt(() => tryResult(face, digest))
      : notTried("it would name a blob that is not there");
  return { miss, blob, actionResult };
}

async function tryResult(face: CacheFace, digest: BlobDigest): Promise<true> {
  const action = digestOf(randomBytes(16));
  const result = create(ActionResultSchema, {
    outputFiles: [
      { path: "doctor", digest: { hash: digest.hash, sizeBytes: BigInt(digest.sizeBytes) } },
    ],
  });
  await face.putResult(action, result);
  const read = await face.getResult(action);
  if (read === undefined) throw new Error("it was taken, and is not there");
  if (read.outputFiles[0]?.digest?.hash !== digest.hash) throw new Error("it came back as another");
  return true;
}

/** The gRPC face of an instance. */
export function createGrpcFace(session: GrpcSession, instanceName: string): CacheFace {
  const toProto = ({ hash, sizeBytes }: BlobDigest): { hash: string; sizeBytes: bigint } => ({
    hash,
    sizeBytes: BigInt(sizeBytes),
  });
  return {
    async getBlob(digest) {
      // As Bazel does before it uploads; the answer to a read of what is absent is then no surprise either.
      const found = await session.call(ContentAddressableStorage.method.findMissingBlobs, {
        instanceName,
        blobDigests: [toProto(digest)],
      });
      requireOk(found);
      const isMissing = (found.responses[0]?.missingBlobDigests.length ?? 0) > 0;
      const resourceName = formatReadResourceName({
        instanceName,
        ...digest,
        compressor: "identity",
      });
      const read = await session.call(ByteStream.method.read, { resourceName });
      if (isMissing && read.status === GRPC_STATUS.NOT_FOUND) return undefined;
      requireOk(read);
      return Buffer.concat(read.responses.map(({ data }) => data));
    },
    async putBlob(digest, data) {
      const resourceName = formatWriteResourceName({
        instanceName,
        ...digest,
        compressor: "identity",
        uploadId: randomUUID(),
      });
      requireOk(
        await session.call(ByteStream.method.write, { resourceName, data, finishWrite: true }),
      );
    },
    async getResult(action) {
      const actionDigest = toProto(action);
      const answer = await session.call(ActionCache.method.getActionResult, {
        instanceName,
        actionDigest,
      });
      if (answer.status === GRPC_STATUS.NOT_FOUND) return undefined;
      requireOk(answer);
      return answer.responses[0];
    },
    async putResult(action, actionResult) {
      const actionDigest = toProto(action);
      requireOk(
        await session.call(ActionCache.method.updateActionResult, {
          instanceName,
          actionDigest,
          actionResult,
        }),
      );
    },
  };
}

/** The HTTP face below an address. */
export function createHttpFace(
  session: HttpSession,
  base: string,
  authorization: string | undefined,
): CacheFace {
  const get = async (place: string): Promise<Uint8Array | undefined> => {
    const answer = await session.send(`${base}/${place}`, { method: "GET", authorization });
    if (answer.status === 404) return undefined;
    requireSuccess(answer);
    return answer.bytes;
  };
  const put = async (place: string, body: Uint8Array): Promise<void> => {
    requireSuccess(await session.send(`${base}/${place}`, { method: "PUT", authorization, body }));
  };
  return {
    getBlob: ({ hash }) => get(`cas/${hash}`),
    putBlob: ({ hash }, bytes) => put(`cas/${hash}`, bytes),
    async getResult({ hash }) {
      const bytes = await get(`ac/${hash}`);
      return bytes === undefined ? undefined : fromBinary(ActionResultSchema, bytes);
    },
    putResult: ({ hash }, result) => put(`ac/${hash}`, toBinary(ActionResultSchema, result)),
  };
}

function requireOk({ status, message }: Pick<GrpcResult<never>, "status" | "message">): void {
  if (status === GRPC_STATUS.OK) return;
  throw new CacheError("UNAVAILABLE", `status ${status}${message === "" ? "" : `, ${message}`}`);
}

function requireSuccess({
  status,
  body,
}: {
  readonly status: number;
  readonly body: string;
}): void {
  if (status >= 200 && status < 300) return;
  const said = describeRefusal(body);
  throw new CacheError("UNAVAILABLE", `${status}${said === undefined ? "" : `, ${said}`}`);
}
