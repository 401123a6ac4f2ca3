import { randomBytes, randomUUID } from "node:crypto";

import { ContentAddressableStorage } from "@glorious/reapi";
import { type RunningFlywheel, startFlywheel } from "@glorious/testkit";
import { expect, test } from "vitest";

import { blobOf, randomBlob, type TestBlob } from "./blobs.ts";
import { type GrpcClient, openGrpcClient, type StartedWrite, writesOf } from "./grpc-client.ts";

const MIB = 2 ** 20;
/** Ten times what the server has for requests. */
const BATCHES = 240;
const BATCH_BYTES = 2 * MIB;
/** What the server takes by itself, its memory for requests, and as much again for what was not collected yet. */
const MAX_PEAK_BYTES = 450 * MIB;

const TAIL = randomBytes(BATCH_BYTES - 16);
/** Alike but for the beginning. */
const nextBlob = (): TestBlob => blobOf(Buffer.concat([randomBytes(16), TAIL]));

/** Begins a write and sends so much of it that the server has to find memory for the rest, which never comes. */
function beginWrite(client: GrpcClient, { view }: RunningFlywheel): StartedWrite {
  const blob = randomBlob(4 * MIB);
  const name = `${view}/uploads/${randomUUID()}/blobs/${blob.hash}/${blob.sizeBytes}`;
  const call = client.startWrite();
  for (const message of writesOf(name, blob.bytes.subarray(0, 200_000), { finish: false })) {
    call.write(message);
  }
  return call;
}

async function upload(client: GrpcClient, { view }: RunningFlywheel): Promise<number> {
  const { hash, sizeBytes, bytes } = nextBlob();
  const answer = await client.unary(ContentAddressableStorage.method.batchUpdateBlobs, {
    instanceName: view,
    requests: [{ digest: { hash, sizeBytes: BigInt(sizeBytes) }, data: bytes }],
  });
  if (!("message" in answer)) return answer.code;
  return answer.message.responses[0]?.status?.code ?? 0;
}

test("uploads far beyond the memory for them all succeed, beside clients that stand still and others that go", async () => {
  await using server = await startFlywheel();
  const token = await server.readToken();
  await using stuck = openGrpcClient(server, token);
  await using leaving = openGrpcClient(server, token);
  await using client = openGrpcClient(server, token);
  const standing = Array.from({ length: 80 }, () => beginWrite(stuck, server));
  const given = Array.from({ length: 80 }, () => beginWrite(leaving, server));

  const uploads = Array.from({ length: BATCHES }, () => upload(client, server));
  for (const call of given) call.cancel();
  const codes = await Promise.all(uploads);

  expect(codes).toEqual(codes.map(() => 0));
  expect(await server.peakMemoryBytes()).toBeLessThan(MAX_PEAK_BYTES);
  for (const call of standing) call.cancel();
  await Promise.all([...standing, ...given].map(({ outcome }) => outcome));
  expect(await upload(stuck, server)).toBe(0);
}, 120_000);
