import { createHash, randomUUID } from "node:crypto";
import { zstdCompressSync, zstdDecompressSync } from "node:zlib";

import { create, toBinary } from "@bufbuild/protobuf";
import {
  ActionCache,
  ActionResultSchema,
  ByteStream,
  Capabilities,
  Compressor_Value,
  ContentAddressableStorage,
  DigestFunction_Value,
  DirectorySchema,
  Fetch,
  Health,
  HealthCheckResponse_ServingStatus,
  TreeSchema,
} from "@glorious/reapi";
import { expect, test } from "vitest";

import { startTestServer, type TestServer } from "../test-server.ts";
import { blobOf, randomBlob, type TestBlob, textBlob } from "./blobs.ts";
import { type GrpcClient, openGrpcClient, writesOf } from "./grpc-client.ts";

const INVALID_ARGUMENT = 3;
const NOT_FOUND = 5;
const PERMISSION_DENIED = 7;
const RESOURCE_EXHAUSTED = 8;
const OUT_OF_RANGE = 11;
const UNIMPLEMENTED = 12;
const UNAUTHENTICATED = 16;
const SIZES = [1, 5000, 32 * 1024 + 1, 3_000_000];

interface Started extends AsyncDisposable {
  readonly server: TestServer;
  readonly client: GrpcClient;
  readonly token: string;
}

async function start(settings: Parameters<typeof startTestServer>[0] = {}): Promise<Started> {
  const server = await startTestServer(settings);
  await server.createView("main");
  const token = await server.token({ main: ["pull", "push"] });
  const client = openGrpcClient(server, token);
  return {
    server,
    client,
    token,
    async [Symbol.asyncDispose]() {
      await client[Symbol.asyncDispose]();
      await server[Symbol.asyncDispose]();
    },
  };
}

function digestOf({ hash, sizeBytes }: TestBlob): { hash: string; sizeBytes: bigint } {
  return { hash, sizeBytes: BigInt(sizeBytes) };
}

const readName = (blob: TestBlob, instance = "main"): string =>
  `${instance}/blobs/${blob.hash}/${blob.sizeBytes}`;
const writeName = (blob: TestBlob, instance = "main"): string =>
  `${instance}/uploads/${randomUUID()}/blobs/${blob.hash}/${blob.sizeBytes}`;
const zstdReadName = (blob: TestBlob): string =>
  `main/compressed-blobs/zstd/${blob.hash}/${blob.sizeBytes}`;
const zstdWriteName = (blob: TestBlob): string =>
  `main/uploads/${randomUUID()}/compressed-blobs/zstd/${blob.hash}/${blob.sizeBytes}`;

function upload(client: GrpcClient, blob: TestBlob): ReturnType<GrpcClient["write"]> {
  return client.write(writesOf(writeName(blob), blob.bytes));
}

function missing(client: GrpcClient, blobs: readonly TestBlob[]): ReturnType<typeof findMissing> {
  return findMissing(client, blobs, "main");
}

async function findMissing(
  client: GrpcClient,
  blobs: readonly TestBlob[],
  instanceName: string,
): Promise<string[] | number> {
  const answer = await client.unary(ContentAddressableStorage.method.findMissingBlobs, {
    instanceName,
    blobDigests: blobs.map(digestOf),
  });
  return "message" in answer
    ? answer.message.missingBlobDigests.map(({ hash }) => hash)
    : answer.code;
}

test("capabilities say SHA-256, zstd and the limits, and whether this caller may write", async () => {
  await using started = await start({ bazelMaxBlobSizeBytes: "1 GiB" });
  const { server, client } = started;
  const reader = await server.token({ main: ["pull"] });
  for (const [token, updateEnabled] of [
    [undefined, true],
    [reader, false],
  ] as const) {
    const answer = await client.unary(
      Capabilities.method.getCapabilities,
      { instanceName: "main" },
      { token },
    );
    expect(answer).toMatchObject({
      code: 0,
      message: {
        cacheCapabilities: {
          digestFunctions: [DigestFunction_Value.SHA256],
          actionCacheUpdateCapabilities: { updateEnabled },
          supportedCompressors: [Compressor_Value.ZSTD],
          maxCasBlobSizeBytes: 2n ** 30n,
        },
        lowApiVersion: { major: 2 },
      },
    });
  }
});

test("a blob is written in many messages and read in many, below every instance name", async () => {
  await using started = await start();
  const { client } = started;
  for (const instance of ["main", "main/pr/7"]) {
    for (const size of SIZES) {
      const blob = randomBlob(size);
      expect((await client.read(readName(blob, instance))).code).toBe(NOT_FOUND);
      expect(await findMissing(client, [blob], instance)).toEqual([blob.hash]);

      const written = await client.write(writesOf(writeName(blob, instance), blob.bytes));

      expect(written).toEqual({ code: 0, committed: size });
      expect(await findMissing(client, [blob], instance)).toEqual([]);
      for (const _ of [1, 2]) {
        expect(await client.read(readName(blob, instance))).toEqual({ code: 0, bytes: blob.bytes });
      }
      expect(await client.write(writesOf(writeName(blob, instance), blob.bytes))).toEqual({
        code: 0,
        committed: size,
      });
    }
  }
});

test("the empty blob is always there", async () => {
  await using started = await start();
  const { client } = started;
  const empty = blobOf("");
  expect(await missing(client, [empty])).toEqual([]);
  expect(await client.read(readName(empty))).toEqual({ code: 0, bytes: Buffer.alloc(0) });
  expect(await upload(client, empty)).toEqual({ code: 0, committed: 0 });
});

test("missing blobs are named once each, in any number", async () => {
  await using started = await start();
  const { client } = started;
  const blobs = Array.from({ length: 5000 }, (_, at) => blobOf(`blob ${at}`));
  for (const blob of blobs.slice(0, 10)) await upload(client, blob);

  const found = await missing(client, [...blobs, ...blobs.slice(0, 100)]);

  expect(found).toEqual(blobs.slice(10).map(({ hash }) => hash));
});

test("zstd goes in and out, in either form whatever way it was stored", async () => {
  await using started = await start();
  const { client } = started;
  for (const size of SIZES.slice(1)) {
    const [plain, packed] = [textBlob(size), textBlob(size)];
    const encoded = zstdCompressSync(packed.bytes);
    await upload(client, plain);
    expect(await client.write(writesOf(zstdWriteName(packed), encoded))).toEqual({
      code: 0,
      committed: encoded.length,
    });
    expect(await client.write(writesOf(zstdWriteName(packed), encoded))).toEqual({
      code: 0,
      committed: -1,
    });

    for (const blob of [plain, packed]) {
      expect(await client.read(readName(blob))).toEqual({ code: 0, bytes: blob.bytes });
      const read = await client.read(zstdReadName(blob));
      expect(zstdDecompressSync(read.bytes)).toEqual(blob.bytes);
      const rest = await client.read(zstdReadName(blob), { offset: 1000 });
      expect(zstdDecompressSync(rest.bytes)).toEqual(blob.bytes.subarray(1000));
    }
    expect((await client.read(zstdReadName(packed))).bytes).toEqual(encoded);
  }
});

test("reads begin where they are told and end at their limit", async () => {
  await using started = await start();
  const { client } = started;
  for (const size of [1000, 3_000_000]) {
    const blob = randomBlob(size);
    await upload(client, blob);
    for (const [offset, limit] of [
      [0, 10],
      [10, 0],
      [size - 1, 5],
      [size, 0],
    ] as const) {
      const read = await client.read(readName(blob), { offset, limit });
      const end = limit === 0 ? size : offset + limit;
      expect(read).toEqual({ code: 0, bytes: blob.bytes.subarray(offset, end) });
    }
    expect((await client.read(readName(blob), { offset: size + 1 })).code).toBe(OUT_OF_RANGE);
    expect((await client.read(readName(blob), { offset: -1 })).code).toBe(OUT_OF_RANGE);
    expect((await client.read(readName(blob), { limit: -1 })).code).toBe(INVALID_ARGUMENT);
    expect((await client.read(zstdReadName(blob), { limit: 5 })).code).toBe(INVALID_ARGUMENT);
    const wrongSize = { ...blob, sizeBytes: size + 1 };
    expect((await client.read(readName(wrongSize))).code).toBe(NOT_FOUND);
  }
});

test("a write that broke off goes on where QueryWriteStatus says, and one that lies is refused", async () => {
  await using started = await start();
  const { client } = started;
  const blob = randomBlob(1_000_000);
  const name = writeName(blob);
  const status = async (): Promise<unknown> => {
    const answer = await client.unary(ByteStream.method.queryWriteStatus, { resourceName: name });
    return "message" in answer
      ? [Number(answer.message.committedSize), answer.message.complete]
      : answer.code;
  };
  expect(await status()).toEqual([0, false]);
  const broken = client.startWrite();
  for (const message of writesOf(name, blob.bytes.subarray(0, 320_000), { finish: false })) {
    broken.write(message);
  }
  await expect.poll(status, { timeout: 30_000 }).toEqual([320_000, false]);
  broken.cancel();
  await broken.outcome;

  const wrong = await client.write(writesOf(name, blob.bytes, { from: 16 * 1024 }));
  expect(wrong.code).toBe(OUT_OF_RANGE);
  expect(await status()).toEqual([320_000, false]);
  const rest = await client.write(writesOf(name, blob.bytes, { from: 320_000 }));

  expect(rest).toEqual({ code: 0, committed: 1_000_000 });
  expect(await status()).toEqual([1_000_000, true]);
  expect((await client.read(readName(blob))).bytes).toEqual(blob.bytes);
});

test("a compressed write that broke off begins anew", async () => {
  await using started = await start();
  const { client } = started;
  const blob = randomBlob(500_000);
  const encoded = zstdCompressSync(blob.bytes);
  const name = zstdWriteName(blob);
  const broken = client.startWrite();
  for (const message of writesOf(name, encoded.subarray(0, 100_000), { finish: false })) {
    broken.write(message);
  }
  broken.cancel();
  await broken.outcome;
  const answer = await client.unary(ByteStream.method.queryWriteStatus, { resourceName: name });
  expect(answer).toMatchObject({ code: 0, message: { committedSize: 0n, complete: false } });

  const written = await client.write(writesOf(name, encoded));

  expect(written).toEqual({ code: 0, committed: encoded.length });
  expect((await client.read(readName(blob))).bytes).toEqual(blob.bytes);
});

test.each([
  [
    "content of another hash",
    (blob: TestBlob) => writesOf(writeName(blob), randomBlob(blob.sizeBytes).bytes),
  ],
  ["too few bytes", (blob: TestBlob) => writesOf(writeName(blob), blob.bytes.subarray(1))],
  [
    "too many bytes",
    (blob: TestBlob) => writesOf(writeName(blob), Buffer.concat([blob.bytes, Buffer.from("x")])),
  ],
  ["no finish_write", (blob: TestBlob) => writesOf(writeName(blob), blob.bytes, { finish: false })],
  ["no resource name", (blob: TestBlob) => writesOf("", blob.bytes)],
  ["a name to read by", (blob: TestBlob) => writesOf(readName(blob), blob.bytes)],
  [
    "a hash of another length",
    (blob: TestBlob) => writesOf(writeName({ ...blob, hash: "ab".repeat(20) }), blob.bytes),
  ],
  ["nonsense as zstd", (blob: TestBlob) => writesOf(zstdWriteName(blob), blob.bytes)],
  [
    "a bomb as zstd",
    (blob: TestBlob) => writesOf(zstdWriteName(blob), zstdCompressSync(Buffer.alloc(32 * 2 ** 20))),
  ],
  [
    "messages with a gap between them",
    (blob: TestBlob) => [
      { resourceName: writeName(blob), offset: 0, data: blob.bytes.subarray(0, 50) },
      { offset: 51, data: blob.bytes.subarray(51), finish: true },
    ],
  ],
])("a write with %s is INVALID_ARGUMENT and leaves nothing", async (_, messagesOf) => {
  await using started = await start();
  const { client } = started;
  for (const size of [200, 100_000]) {
    const blob = textBlob(size);
    expect((await client.write(messagesOf(blob))).code).toBe(INVALID_ARGUMENT);
    expect(await missing(client, [blob])).toEqual([blob.hash]);
  }
});

test("batches are written and read with a status for each blob", async () => {
  await using started = await start();
  const { client } = started;
  const [good, packed, bad] = [randomBlob(100), textBlob(5000), randomBlob(50)];
  const answer = await client.unary(ContentAddressableStorage.method.batchUpdateBlobs, {
    instanceName: "main",
    requests: [
      { digest: digestOf(good), data: good.bytes },
      {
        digest: digestOf(packed),
        data: zstdCompressSync(packed.bytes),
        compressor: Compressor_Value.ZSTD,
      },
      { digest: digestOf(bad), data: Buffer.alloc(50) },
    ],
  });
  const codes =
    "message" in answer ? answer.message.responses.map(({ status }) => status?.code ?? 0) : answer;
  expect(codes).toEqual([0, 0, INVALID_ARGUMENT]);

  for (const acceptableCompressors of [[], [Compressor_Value.ZSTD]]) {
    const read = await client.unary(ContentAddressableStorage.method.batchReadBlobs, {
      instanceName: "main",
      digests: [good, bad, packed].map(digestOf),
      acceptableCompressors,
    });
    if (!("message" in read)) throw new Error(read.details);
    const [first, second, third] = read.message.responses;
    expect(Buffer.from(first?.data ?? [])).toEqual(good.bytes);
    expect(second?.status?.code).toBe(NOT_FOUND);
    const data = Buffer.from(third?.data ?? []);
    const isPacked = third?.compressor === Compressor_Value.ZSTD;
    expect(isPacked).toBe(acceptableCompressors.length > 0);
    expect(isPacked ? zstdDecompressSync(data) : data).toEqual(packed.bytes);
  }
  const tooMuch = await client.unary(ContentAddressableStorage.method.batchReadBlobs, {
    instanceName: "main",
    digests: [{ hash: good.hash, sizeBytes: 5_000_000n }],
  });
  expect(tooMuch.code).toBe(INVALID_ARGUMENT);
});

async function getResult(
  client: GrpcClient,
  action: TestBlob,
  wishes: { inlineStdout?: boolean; inlineOutputFiles?: string[] } = {},
): Promise<ReturnType<typeof client.unary<typeof ActionCache.method.getActionResult>>> {
  return await client.unary(ActionCache.method.getActionResult, {
    instanceName: "main",
    actionDigest: digestOf(action),
    ...wishes,
  });
}

test("an ActionResult is a hit only while its files, trees and output are there", async () => {
  await using started = await start();
  const { client } = started;
  const action = blobOf("the action");
  const [file, inTree, stdout] = [randomBlob(10), randomBlob(100_000), blobOf("hello")];
  const tree = blobOf(
    toBinary(
      TreeSchema,
      create(TreeSchema, {
        root: { directories: [{ name: "d", digest: digestOf(blobOf("d")) }] },
        children: [{ files: [{ name: "f", digest: digestOf(inTree) }] }],
      }),
    ),
  );
  const actionResult = create(ActionResultSchema, {
    outputFiles: [{ path: "out/file", digest: digestOf(file) }],
    outputDirectories: [{ path: "out/dir", treeDigest: digestOf(tree) }],
    stdoutDigest: digestOf(stdout),
  });
  expect((await getResult(client, action)).code).toBe(NOT_FOUND);
  const update = await client.unary(ActionCache.method.updateActionResult, {
    instanceName: "main",
    actionDigest: digestOf(action),
    actionResult,
  });
  expect(update).toMatchObject({ code: 0, message: { outputFiles: [{ path: "out/file" }] } });
  for (const blob of [inTree, file, stdout, tree]) {
    expect((await getResult(client, action)).code).toBe(NOT_FOUND);
    await upload(client, blob);
  }
  for (const _ of [1, 2]) {
    expect(await getResult(client, action)).toMatchObject({
      code: 0,
      message: { outputDirectories: [{ path: "out/dir" }], stdoutRaw: new Uint8Array() },
    });
  }

  const inlined = await getResult(client, action, {
    inlineStdout: true,
    inlineOutputFiles: ["out/file"],
  });
  if (!("message" in inlined)) throw new Error(inlined.details);
  expect(Buffer.from(inlined.message.stdoutRaw)).toEqual(stdout.bytes);
  expect(Buffer.from(inlined.message.outputFiles[0]?.contents ?? [])).toEqual(file.bytes);
});

test("content that comes inside an ActionResult is found in the CAS, and must be what it says", async () => {
  await using started = await start();
  const { client } = started;
  const [file, liar] = [randomBlob(10), randomBlob(10)];
  const updateWith = (blob: TestBlob, contents: Buffer): ReturnType<GrpcClient["unary"]> =>
    client.unary(ActionCache.method.updateActionResult, {
      instanceName: "main",
      actionDigest: digestOf(blob),
      actionResult: { outputFiles: [{ path: "out", digest: digestOf(blob), contents }] },
    });

  expect((await updateWith(file, file.bytes)).code).toBe(0);
  expect((await getResult(client, file)).code).toBe(0);
  expect((await client.read(readName(file))).bytes).toEqual(file.bytes);
  expect((await updateWith(liar, file.bytes)).code).toBe(INVALID_ARGUMENT);
  expect((await getResult(client, liar)).code).toBe(NOT_FOUND);
});

test("the second result of an action is answered with the first while that is whole", async () => {
  await using started = await start();
  const { client } = started;
  const action = blobOf("not deterministic");
  const results = [];
  for (const exitCode of [0, 1]) {
    results.push(
      await client.unary(ActionCache.method.updateActionResult, {
        instanceName: "main",
        actionDigest: digestOf(action),
        actionResult: { exitCode, executionMetadata: { worker: `w${exitCode}` } },
      }),
    );
  }
  for (const result of [...results, await getResult(client, action)]) {
    expect(result).toMatchObject({ code: 0, message: { executionMetadata: { worker: "w0" } } });
  }
});

test.each([
  ["an absolute path", { outputFiles: [{ path: "/etc/passwd", digest: digestOf(blobOf("x")) }] }],
  ["no digest", { outputFiles: [{ path: "out" }] }],
  ["a bad hash", { stdoutDigest: { hash: "xyz", sizeBytes: 3n } }],
])("an ActionResult with %s is INVALID_ARGUMENT", async (_, actionResult) => {
  await using started = await start();
  const answer = await started.client.unary(ActionCache.method.updateActionResult, {
    instanceName: "main",
    actionDigest: digestOf(blobOf("bad")),
    actionResult,
  });
  expect(answer.code).toBe(INVALID_ARGUMENT);
});

test("a tree is streamed with its root first, without what is missing", async () => {
  await using started = await start();
  const { client } = started;
  const leaf = blobOf(
    toBinary(DirectorySchema, create(DirectorySchema, { symlinks: [{ name: "l", target: "t" }] })),
  );
  const root = blobOf(
    toBinary(
      DirectorySchema,
      create(DirectorySchema, {
        directories: [
          { name: "a", digest: digestOf(leaf) },
          { name: "b", digest: digestOf(leaf) },
          { name: "c", digest: digestOf(blobOf("missing")) },
        ],
      }),
    ),
  );
  const tree = (): ReturnType<
    typeof client.stream<typeof ContentAddressableStorage.method.getTree>
  > =>
    client.stream(ContentAddressableStorage.method.getTree, {
      instanceName: "main",
      rootDigest: digestOf(root),
    });
  expect((await tree()).code).toBe(NOT_FOUND);
  await upload(client, leaf);
  await upload(client, root);

  const { code, messages } = await tree();

  expect(code).toBe(0);
  const directories = messages.flatMap((message) => message.directories);
  expect(directories.map((directory) => directory.directories.length)).toEqual([3, 0]);
});

test("a blob is spliced from its chunks and split into them again; lies store nothing", async () => {
  await using started = await start();
  const { client } = started;
  const chunks = [randomBlob(300_000), randomBlob(400_000), randomBlob(5)];
  const whole = blobOf(Buffer.concat(chunks.map(({ bytes }) => bytes)));
  const splice = async (blob: TestBlob, parts: readonly TestBlob[]): Promise<number> =>
    (
      await client.unary(ContentAddressableStorage.method.spliceBlob, {
        instanceName: "main",
        blobDigest: digestOf(blob),
        chunkDigests: parts.map(digestOf),
      })
    ).code;
  const split = (
    blob: TestBlob,
  ): ReturnType<typeof client.unary<typeof ContentAddressableStorage.method.splitBlob>> =>
    client.unary(ContentAddressableStorage.method.splitBlob, {
      instanceName: "main",
      blobDigest: digestOf(blob),
    });
  expect(await splice(whole, chunks)).toBe(NOT_FOUND);
  for (const chunk of chunks) await upload(client, chunk);
  const liar = { ...randomBlob(700_005) };
  expect(await splice(liar, chunks)).toBe(INVALID_ARGUMENT);
  expect(await splice(whole, chunks.slice(1))).toBe(INVALID_ARGUMENT);
  expect(await missing(client, [liar, whole])).toEqual([liar.hash, whole.hash]);
  expect((await split(whole)).code).toBe(NOT_FOUND);

  expect(await splice(whole, chunks)).toBe(0);

  expect((await client.read(readName(whole))).bytes).toEqual(whole.bytes);
  expect(await split(whole)).toMatchObject({
    code: 0,
    message: { chunkDigests: chunks.map(digestOf) },
  });
  const other = chunks.toReversed();
  expect(await splice(whole, other)).toBe(INVALID_ARGUMENT);
  expect(await split(whole)).toMatchObject({
    code: 0,
    message: { chunkDigests: chunks.map(digestOf) },
  });
});

test("a download is answered from the CAS by its checksum, and every failure is one of the call", async () => {
  await using started = await start();
  const { client } = started;
  const blob = randomBlob(500);
  const fetchBlob = (sri: string): ReturnType<typeof client.unary<typeof Fetch.method.fetchBlob>> =>
    client.unary(Fetch.method.fetchBlob, {
      instanceName: "main",
      uris: ["https://example.org/x"],
      qualifiers: [{ name: "checksum.sri", value: sri }],
    });
  const sri = `sha256-${createHash("sha256").update(blob.bytes).digest("base64")}`;
  expect((await fetchBlob(sri)).code).toBe(NOT_FOUND);
  await upload(client, blob);
  expect(await fetchBlob(sri)).toMatchObject({ code: 0, message: { blobDigest: digestOf(blob) } });
  expect((await fetchBlob("sha1-abc")).code).toBe(NOT_FOUND);
});

test("health is for everybody, and what there is not is UNIMPLEMENTED", async () => {
  await using started = await start();
  const { client } = started;
  expect(await client.unary(Health.method.check, {}, { token: "" })).toMatchObject({
    code: 0,
    message: { status: HealthCheckResponse_ServingStatus.SERVING },
  });
  expect((await client.unary(Fetch.method.fetchDirectory, {})).code).toBe(UNIMPLEMENTED);
});

test("who may only read writes nothing, who may nothing learns nothing, and a name of another view is refused", async () => {
  await using started = await start();
  const { server, client } = started;
  await server.createView("other");
  const reader = await server.token({ main: ["pull"] });
  const blob = randomBlob(10);
  await upload(client, blob);
  const actionDigest = digestOf(blob);
  const update = (token: string): ReturnType<GrpcClient["unary"]> =>
    client.unary(
      ActionCache.method.updateActionResult,
      { instanceName: "main", actionDigest, actionResult: { exitCode: 1 } },
      { token },
    );
  expect((await update(reader)).code).toBe(PERMISSION_DENIED);
  expect((await update("nonsense")).code).toBe(UNAUTHENTICATED);
  const readerClient = openGrpcClient(server, reader);
  const next = randomBlob(20);
  expect((await readerClient.write(writesOf(writeName(next), next.bytes))).code).toBe(
    PERMISSION_DENIED,
  );
  expect((await readerClient.read(readName(blob))).bytes).toEqual(blob.bytes);
  await readerClient[Symbol.asyncDispose]();
  const nobody = openGrpcClient(server);
  for (const instance of ["main", "other", "absent"]) {
    expect(await findMissing(nobody, [blob], instance)).toBe(UNAUTHENTICATED);
    expect((await nobody.read(readName(blob, instance))).code).toBe(UNAUTHENTICATED);
  }
  await nobody[Symbol.asyncDispose]();
  expect(await findMissing(client, [blob], "other")).toBe(UNAUTHENTICATED);
  expect(await findMissing(client, [blob], "")).toEqual([]);
  expect(await findMissing(client, [blob], "main/blobs")).toBe(INVALID_ARGUMENT);
  expect(await findMissing(client, [blob], "main//x")).toBe(INVALID_ARGUMENT);
});

test("a full cache says RESOURCE_EXHAUSTED, and then that nothing may be written", async () => {
  await using started = await start({ bazelMaxSizeBytes: "100 KiB" });
  const { client } = started;
  expect((await upload(client, randomBlob(60_000))).code).toBe(0);
  expect((await upload(client, randomBlob(60_000))).code).toBe(RESOURCE_EXHAUSTED);
  const answer = await client.unary(Capabilities.method.getCapabilities, { instanceName: "main" });
  expect(answer).toMatchObject({
    message: { cacheCapabilities: { actionCacheUpdateCapabilities: { updateEnabled: false } } },
  });
});

test("both faces show the same data, on one port", async () => {
  await using started = await start();
  const { server, client, token } = started;
  const [one, two] = [randomBlob(1000), randomBlob(100_000)];
  await upload(client, one);
  await server.send("PUT", `/main/cas/${two.hash}`, { token, body: two.bytes });

  expect((await server.send("GET", `/main/cas/${one.hash}`, { token })).body).toEqual(one.bytes);
  expect((await client.read(readName(two))).bytes).toEqual(two.bytes);
});

test("the view's figures and the server's tell what was asked and what came of it", async () => {
  await using started = await start();
  const { server, client, token } = started;
  const blob = textBlob(100_000);
  const encoded = zstdCompressSync(blob.bytes);
  await client.write(writesOf(zstdWriteName(blob), encoded));
  await client.read(readName(blob));
  await client.read(readName(randomBlob(5)));
  for (const _ of [1, 2]) await getResult(client, blob);
  await client.unary(ActionCache.method.updateActionResult, {
    instanceName: "main",
    actionDigest: digestOf(blob),
    actionResult: { stdoutDigest: digestOf(blob) },
  });
  await getResult(client, blob);

  const stats = await server.send("GET", "/_flywheel/v1/views/main/stats", { token });
  expect(stats.json()["bazel"]).toMatchObject({
    instances: 1,
    blobs: 1,
    actions: 1,
    logicalBytes: 100_000,
    actionHits: 1,
    actionsAbsent: 2,
    blobsRead: 1,
    blobsNotRead: 1,
    blobsStored: 1,
    bytesStored: 100_000,
    // Two reads of a blob, three of an ActionResult; an upload and an update.
    latency: { read: { count: 5, atMost: { "60": 5 } }, write: { count: 2 } },
  });
  const { text } = await server.send("GET", "/metrics");
  expect(text).toContain('flywheel_bazel_actions_total{result="hit"} 1\n');
  expect(text).toContain(
    'flywheel_grpc_calls_total{method="ActionCache/GetActionResult",status="5"} 2\n',
  );
  expect(text).toContain('flywheel_grpc_calls_total{method="ByteStream/Write",status="0"} 1\n');
  expect(text).toContain('flywheel_grpc_call_seconds_count{method="ByteStream/Read"} 2\n');
  expect(text).toContain('flywheel_bazel_request_memory_bytes{state="total"} 50331648\n');
  expect(text).toContain('flywheel_bazel_request_memory_bytes{state="used"} 0\n');
  expect(text).toContain("flywheel_bazel_request_memory_waiting 0\n");
  expect(text).toContain('flywheel_bazel_memory_bytes{state="total"} 201326592\n');
  expect(text).toMatch(/^flywheel_bazel_memory_bytes\{state="used"\} [1-9]/m);
});

test("calls to a host that is not allowed are refused, but for health", async () => {
  await using server = await startTestServer({ allowedHosts: "cache.example.org" });
  await server.createView("main");
  const token = await server.token({ main: ["pull", "push"] });
  await using stray = openGrpcClient(server, token);
  const find = { instanceName: "main", blobDigests: [digestOf(blobOf("x"))] };
  const method = ContentAddressableStorage.method.findMissingBlobs;

  expect(await stray.unary(method, find)).toMatchObject({ code: 3 });
  expect(await stray.unary(Health.method.check, {})).toMatchObject({ code: 0 });

  const options = { "grpc.default_authority": "cache.example.org" };
  await using client = openGrpcClient(server, token, undefined, options);
  for (const _ of [1, 2]) expect(await client.unary(method, find)).toMatchObject({ code: 0 });
});

test("what a run of Bazel asked is told by its id, to those who may pull", async () => {
  await using started = await start();
  const { server, client, token } = started;
  const action = blobOf("an action of this run");
  const request = { instanceName: "main", actionDigest: digestOf(action) };
  const invocation = randomUUID();
  const get = (): ReturnType<GrpcClient["unary"]> =>
    client.unary(ActionCache.method.getActionResult, request, { invocation });
  await get();
  await client.unary(
    ActionCache.method.updateActionResult,
    { ...request, actionResult: { exitCode: 3 } },
    { invocation },
  );
  for (const _ of [1, 2]) await get();
  await client.unary(ActionCache.method.getActionResult, request, { invocation: "no id/at all" });

  const path = `/_flywheel/v1/views/main/invocations/${invocation}`;
  expect((await server.send("GET", path, { token })).json()).toMatchObject({
    id: invocation,
    actionHits: 2,
    actionMisses: 1,
    actionsStored: 1,
  });
  expect((await server.send("GET", path)).status).toBe(401);
  expect((await server.send("GET", `${path}0`, { token })).status).toBe(404);
});

test("a server that stops lets calls end and takes no more", async () => {
  await using started = await start();
  const { server, client } = started;
  const blob = randomBlob(200_000);
  const write = client.startWrite();
  const [first, ...rest] = writesOf(writeName(blob), blob.bytes);
  if (first !== undefined) write.write(first);
  await expect.poll(() => missing(client, [blob]), { timeout: 30_000 }).toEqual([blob.hash]);

  const stopped = server.stop();
  for (const message of rest) write.write(message);
  write.end();

  expect(await write.outcome).toEqual({ code: 0, committed: 200_000 });
  await stopped;
});
