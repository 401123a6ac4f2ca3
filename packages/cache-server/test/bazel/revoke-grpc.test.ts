import { create, toBinary } from "@bufbuild/protobuf";
import {
  ActionCache,
  ActionResultSchema,
  ContentAddressableStorage,
  DirectorySchema,
} from "@glorious/reapi";
import { expect, test } from "vitest";

import { jobToken } from "../job-tokens.ts";
import { startTestServer } from "../test-server.ts";
import { postJson } from "../uploads.ts";
import { blobOf, randomBlob, type TestBlob } from "./blobs.ts";
import { type GrpcClient, openGrpcClient, writesOf } from "./grpc-client.ts";

const NOT_FOUND = 5;
const UNAUTHENTICATED = 16;
const instanceName = "main";
const { getTree, batchReadBlobs, findMissingBlobs, spliceBlob } = ContentAddressableStorage.method;

function digestOf({ hash, sizeBytes }: TestBlob): { hash: string; sizeBytes: bigint } {
  return { hash, sizeBytes: BigInt(sizeBytes) };
}

async function upload(client: GrpcClient, blob: TestBlob): Promise<number> {
  const name = `main/uploads/${crypto.randomUUID()}/blobs/${blob.hash}/${blob.sizeBytes}`;
  return (await client.write(writesOf(name, blob.bytes))).code;
}

test("what a revoked run wrote is missing in every call of gRPC at once, and another run's uploads heal it", async () => {
  await using server = await startTestServer();
  await server.createView("main");
  const admin = await server.token({}, { isAdmin: true });
  await using poisoned = openGrpcClient(server, await jobToken(server, { run: "666" }));
  await using healthy = openGrpcClient(server, await jobToken(server, { run: "8" }));
  const [small, large] = [randomBlob(1000), randomBlob(100_000)];
  const directory = blobOf(
    toBinary(
      DirectorySchema,
      create(DirectorySchema, { files: [{ name: "f", digest: digestOf(small) }] }),
    ),
  );
  const whole = blobOf(Buffer.concat([large.bytes, small.bytes]));
  const bad = [small, large, directory];
  const [own, mixed] = [randomBlob(10), randomBlob(10)];
  const actionResult = create(ActionResultSchema, {
    outputFiles: [{ path: "out", digest: digestOf(large) }],
  });
  const update = async (client: GrpcClient, action: TestBlob): Promise<number> => {
    const request = { instanceName, actionDigest: digestOf(action), actionResult };
    return (await client.unary(ActionCache.method.updateActionResult, request)).code;
  };
  for (const blob of bad) expect(await upload(poisoned, blob)).toBe(0);
  expect(await update(poisoned, own)).toBe(0);
  expect(await update(healthy, mixed)).toBe(0);

  const codes = async (): Promise<Record<string, unknown>> => {
    const digests = bad.map(digestOf);
    const missing = await healthy.unary(findMissingBlobs, { instanceName, blobDigests: digests });
    const batch = await healthy.unary(batchReadBlobs, { instanceName, digests });
    const tree = await healthy.stream(getTree, {
      instanceName,
      rootDigest: digestOf(directory),
    });
    const result = async (action: TestBlob): Promise<number> => {
      const request = { instanceName, actionDigest: digestOf(action) };
      return (await healthy.unary(ActionCache.method.getActionResult, request)).code;
    };
    return {
      missing: "message" in missing ? missing.message.missingBlobDigests.length : missing.code,
      batch:
        "message" in batch
          ? batch.message.responses.map(({ status }) => status?.code ?? 0)
          : batch.code,
      small: (await healthy.read(`main/blobs/${small.hash}/${small.sizeBytes}`)).code,
      large: (await healthy.read(`main/blobs/${large.hash}/${large.sizeBytes}`)).code,
      tree: tree.code,
      own: await result(own),
      mixed: await result(mixed),
    };
  };
  const present = { missing: 0, batch: [0, 0, 0], small: 0, large: 0, tree: 0, own: 0, mixed: 0 };
  expect(await codes()).toEqual(present);

  await postJson(server, admin, "/_flywheel/v1/revocations", { run: "666" });

  const gone = NOT_FOUND;
  const absent = { missing: 3, batch: [gone, gone, gone], small: gone, large: gone, tree: gone };
  expect(await codes()).toEqual({ ...absent, own: gone, mixed: gone });
  const splice = { instanceName, blobDigest: digestOf(whole) };
  const chunkDigests = [large, small].map(digestOf);
  expect((await healthy.unary(spliceBlob, { ...splice, chunkDigests })).code).toBe(gone);
  expect(await upload(poisoned, small)).toBe(UNAUTHENTICATED);

  for (const blob of bad) expect(await upload(healthy, blob)).toBe(0);
  expect(await codes()).toEqual({ ...present, own: gone });
  expect((await healthy.unary(spliceBlob, { ...splice, chunkDigests })).code).toBe(0);
  expect(await update(healthy, own)).toBe(0);
  expect(await codes()).toEqual(present);
});
