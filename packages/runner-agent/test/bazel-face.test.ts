import { readFile } from "node:fs/promises";
import path from "node:path";

import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { silentLogger } from "@glorious/core";
import { GRPC_STATUS, type ServerCall } from "@glorious/grpc";
import {
  ActionCache,
  ActionResultSchema,
  BatchReadBlobsRequestSchema,
  BatchReadBlobsResponseSchema,
  BatchUpdateBlobsRequestSchema,
  BatchUpdateBlobsResponseSchema,
  type BlobDigest,
  ByteStream,
  Capabilities,
  ContentAddressableStorage,
  Fetch,
  FetchBlobRequestSchema,
  FindMissingBlobsRequestSchema,
  FindMissingBlobsResponseSchema,
  formatReadResourceName,
  formatWriteResourceName,
  GetActionResultRequestSchema,
  GetCapabilitiesRequestSchema,
  GetTreeRequestSchema,
  Health,
  HealthCheckRequestSchema,
  methodPath,
  parseWriteRequest,
  QueryWriteStatusRequestSchema,
  QueryWriteStatusResponseSchema,
  ReadRequestSchema,
  ReadResponseSchema,
  ServerCapabilitiesSchema,
  SpliceBlobRequestSchema,
  SplitBlobRequestSchema,
  UpdateActionResultRequestSchema,
  WriteRequestSchema,
  WriteResponseSchema,
} from "@glorious/reapi";
import { createTemporaryDirectory } from "@glorious/testkit";
import { describe, expect, test } from "vitest";

import { type BazelFace, startBazelFace } from "../src/bazel-face/start-bazel-face.ts";
import { createFixedCredentials, type Credentials } from "../src/credentials.ts";
import { createStatistics, type Statistics } from "../src/statistics.ts";
import { type FaceAnswer, type FaceClient, openFaceClient, statusName } from "./face-client.ts";
import { type ScriptedCache, sendData, startScriptedCache } from "./scripted-cache.ts";

const SECRET = "not-for-others";
const BLOB = Buffer.alloc(300_000, "a blob of a hit ");

interface Job extends AsyncDisposable {
  readonly cache: ScriptedCache;
  readonly face: BazelFace;
  readonly client: FaceClient;
  readonly statistics: Statistics;
}

async function startJob(credentials?: Credentials): Promise<Job> {
  await using resources = new AsyncDisposableStack();
  const { path: directory } = resources.use(await createTemporaryDirectory("flywheel-face-"));
  const cache = resources.use(await startScriptedCache(BLOB));
  const statistics = createStatistics();
  const face = resources.use(
    await startBazelFace({
      secret: SECRET,
      upstream: { grpc: cache.url, http: cache.url, instanceName: "main" },
      credentials: credentials ?? createFixedCredentials("token"),
      spoolDirectory: path.join(directory, "spool"),
      statistics,
      logger: silentLogger,
    }),
  );
  const client = resources.use(openFaceClient(face.grpc, SECRET));
  const owned = resources.move();
  return { cache, face, client, statistics, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

/** One call of each method about a blob, and what its answer says. */
interface Exchange {
  readonly path: string;
  request(cache: ScriptedCache): Uint8Array;
  describe(message: Buffer, cache: ScriptedCache): string;
}

const wireDigest = ({ hash, sizeBytes }: BlobDigest): { hash: string; sizeBytes: bigint } => ({
  hash,
  sizeBytes: BigInt(sizeBytes),
});
const identity = { instanceName: "main", compressor: "identity" } as const;
const CAS = ContentAddressableStorage;

const EXCHANGES: Readonly<Record<string, Exchange>> = {
  GetCapabilities: {
    path: methodPath(Capabilities, "getCapabilities"),
    request: () =>
      toBinary(
        GetCapabilitiesRequestSchema,
        create(GetCapabilitiesRequestSchema, { instanceName: "main" }),
      ),
    describe(message) {
      const { cacheCapabilities } = fromBinary(ServerCapabilitiesSchema, message);
      const may = cacheCapabilities?.actionCacheUpdateCapabilities?.updateEnabled;
      return may === true ? "a cache to write to" : "a cache that is not written to";
    },
  },
  GetActionResult: {
    path: methodPath(ActionCache, "getActionResult"),
    request: ({ digest }) =>
      toBinary(
        GetActionResultRequestSchema,
        create(GetActionResultRequestSchema, {
          instanceName: "main",
          actionDigest: wireDigest(digest),
        }),
      ),
    describe: () => "the result",
  },
  UpdateActionResult: {
    path: methodPath(ActionCache, "updateActionResult"),
    request: ({ digest }) =>
      toBinary(
        UpdateActionResultRequestSchema,
        create(UpdateActionResultRequestSchema, {
          instanceName: "main",
          actionDigest: wireDigest(digest),
          actionResult: { stdoutRaw: Buffer.from("mine") },
        }),
      ),
    describe: (message) =>
      Buffer.from(fromBinary(ActionResultSchema, message).stdoutRaw).toString() === "mine"
        ? "the same result, dropped"
        : "another",
  },
  FindMissingBlobs: {
    path: methodPath(CAS, "findMissingBlobs"),
    request: ({ digest }) =>
      toBinary(
        FindMissingBlobsRequestSchema,
        create(FindMissingBlobsRequestSchema, {
          instanceName: "main",
          blobDigests: [wireDigest(digest)],
        }),
      ),
    describe(message) {
      const { missingBlobDigests } = fromBinary(FindMissingBlobsResponseSchema, message);
      return missingBlobDigests.length === 0 ? "nothing is missing" : "it is missing";
    },
  },
  BatchUpdateBlobs: {
    path: methodPath(CAS, "batchUpdateBlobs"),
    request: ({ digest, blob }) =>
      toBinary(
        BatchUpdateBlobsRequestSchema,
        create(BatchUpdateBlobsRequestSchema, {
          instanceName: "main",
          requests: [{ digest: wireDigest(digest), data: blob }],
        }),
      ),
    describe(message) {
      const { responses } = fromBinary(BatchUpdateBlobsResponseSchema, message);
      return responses.every(({ status }) => (status?.code ?? 0) === 0) ? "OK, dropped" : "refused";
    },
  },
  BatchReadBlobs: {
    path: methodPath(CAS, "batchReadBlobs"),
    request: ({ digest }) =>
      toBinary(
        BatchReadBlobsRequestSchema,
        create(BatchReadBlobsRequestSchema, {
          instanceName: "main",
          digests: [wireDigest(digest)],
        }),
      ),
    describe(message, { blob }) {
      const [response] = fromBinary(BatchReadBlobsResponseSchema, message).responses;
      const code = response?.status?.code ?? 0;
      if (code !== 0) return `NOT_FOUND for each`;
      return Buffer.from(response?.data ?? []).equals(blob) ? "the kept blob" : "another";
    },
  },
  GetTree: {
    path: methodPath(CAS, "getTree"),
    request: ({ digest }) =>
      toBinary(
        GetTreeRequestSchema,
        create(GetTreeRequestSchema, { instanceName: "main", rootDigest: wireDigest(digest) }),
      ),
    describe: () => "a tree",
  },
  SplitBlob: {
    path: methodPath(CAS, "splitBlob"),
    request: ({ digest }) =>
      toBinary(
        SplitBlobRequestSchema,
        create(SplitBlobRequestSchema, { instanceName: "main", blobDigest: wireDigest(digest) }),
      ),
    describe: () => "chunks",
  },
  SpliceBlob: {
    path: methodPath(CAS, "spliceBlob"),
    request: ({ digest }) =>
      toBinary(
        SpliceBlobRequestSchema,
        create(SpliceBlobRequestSchema, { instanceName: "main", blobDigest: wireDigest(digest) }),
      ),
    describe: () => "a digest",
  },
  "ByteStream.Read": {
    path: methodPath(ByteStream, "read"),
    request: ({ digest }) =>
      toBinary(
        ReadRequestSchema,
        create(ReadRequestSchema, {
          resourceName: formatReadResourceName({ ...identity, ...digest }),
        }),
      ),
    describe: (message, { blob }) => (message.equals(blob) ? "the kept blob" : "another"),
  },
  "ByteStream.Write": {
    path: methodPath(ByteStream, "write"),
    request: ({ digest, blob }) =>
      toBinary(
        WriteRequestSchema,
        create(WriteRequestSchema, {
          resourceName: formatWriteResourceName({ ...identity, ...digest, uploadId: "one" }),
          finishWrite: true,
          data: blob,
        }),
      ),
    describe: (message, { blob }) =>
      Number(fromBinary(WriteResponseSchema, message).committedSize) === blob.length
        ? "OK, dropped"
        : "another",
  },
  QueryWriteStatus: {
    path: methodPath(ByteStream, "queryWriteStatus"),
    request: ({ digest }) =>
      toBinary(
        QueryWriteStatusRequestSchema,
        create(QueryWriteStatusRequestSchema, {
          resourceName: formatWriteResourceName({ ...identity, ...digest, uploadId: "one" }),
        }),
      ),
    describe: (message) =>
      fromBinary(QueryWriteStatusResponseSchema, message).complete ? "complete" : "incomplete",
  },
  FetchBlob: {
    path: methodPath(Fetch, "fetchBlob"),
    request: () =>
      toBinary(FetchBlobRequestSchema, create(FetchBlobRequestSchema, { instanceName: "main" })),
    describe: () => "a digest",
  },
  "Health.Check": {
    path: methodPath(Health, "check"),
    request: () => toBinary(HealthCheckRequestSchema, create(HealthCheckRequestSchema, {})),
    describe: () => "SERVING",
  },
};

function describeAnswer(exchange: Exchange, answer: FaceAnswer, cache: ScriptedCache): string {
  const { status, messages } = answer;
  if (status !== GRPC_STATUS.OK) return statusName(status);
  const isRead = exchange === EXCHANGES["ByteStream.Read"];
  const whole = isRead ? joinData(messages) : (messages[0] ?? Buffer.alloc(0));
  return exchange.describe(whole, cache);
}

function joinData(messages: readonly Buffer[]): Buffer {
  return Buffer.concat(messages.map((message) => fromBinary(ReadResponseSchema, message).data));
}

/** The rows of the table in the docs: name, cache away, cut in the middle, after a hit. */
async function readTable(): Promise<string[][]> {
  const text = await readFile(
    new URL("../../../docs/reference/bazel-face.md", import.meta.url),
    "utf8",
  );
  return text
    .split("\n")
    .filter((line) => line.startsWith("| `"))
    .map((line) => line.split("|").slice(1, -1))
    .map((cells) => cells.map((cell) => cell.trim().replaceAll("`", "")));
}

const TABLE = await readTable();

test("the table of the docs has every method", () => {
  expect(new Set(TABLE.map(([name]) => name))).toEqual(new Set(Object.keys(EXCHANGES)));
});

describe("what the face answers, as the docs say", () => {
  test.for(TABLE)("%s when the cache is away: %s", async ([name = "", away]) => {
    const exchange = EXCHANGES[name] as Exchange;
    await using job = await startJob();
    await job.cache.stop();
    const answer = await job.client.call(exchange.path, exchange.request(job.cache));
    // A first failure may still be Bazel's to repeat; from the third on the cache is not asked.
    const again = await job.client.call(exchange.path, exchange.request(job.cache));
    const third = await job.client.call(exchange.path, exchange.request(job.cache));
    const described = [answer, again, third].map((one) => describeAnswer(exchange, one, job.cache));
    expect(described.at(-1)).toBe(away);
  });

  test.for(TABLE)("%s when the connection breaks in the middle: $2", async ([name = "", , cut]) => {
    const exchange = EXCHANGES[name] as Exchange;
    await using job = await startJob();
    let isCut = false;
    const breakOff = (call: ServerCall): void => {
      if (isCut) return;
      isCut = true;
      if (name === "ByteStream.Read") {
        sendData(call, BLOB.subarray(0, 100_000));
        setTimeout(() => {
          job.cache.mistreat(undefined);
          job.cache.cut();
        }, 50);
      } else {
        job.cache.cut();
      }
    };
    job.cache.mistreat(breakOff);
    const answer = await job.client.call(exchange.path, exchange.request(job.cache));
    const described =
      name === "ByteStream.Read" && joinData(answer.messages).equals(BLOB)
        ? "the rest, from where it broke"
        : describeAnswer(exchange, answer, job.cache);
    expect(described).toBe(cut);
  });

  test.for(TABLE)(
    "%s for a blob of a hit, the cache gone since: $3",
    async ([name = "", , , hit]) => {
      const exchange = EXCHANGES[name] as Exchange;
      const ask = EXCHANGES["GetActionResult"] as Exchange;
      await using job = await startJob();
      expect(await job.client.call(ask.path, ask.request(job.cache))).toMatchObject({ status: 0 });
      await expect.poll(() => job.face.kept.blobs).toBe(1);
      await job.cache.stop();
      let described = "";
      for (let attempt = 0; attempt < 3; attempt++) {
        const answer = await job.client.call(exchange.path, exchange.request(job.cache));
        described = describeAnswer(exchange, answer, job.cache);
      }
      expect(described).toBe(hit);
    },
  );
});

test("a blob that two hits name is kept until it was read for both", async () => {
  await using job = await startJob();
  const [ask, read] = [EXCHANGES["GetActionResult"], EXCHANGES["ByteStream.Read"]] as Exchange[];
  const call = (exchange: Exchange | undefined): Promise<FaceAnswer> =>
    job.client.call(exchange?.path ?? "", exchange?.request(job.cache) ?? Buffer.alloc(0));
  await call(ask);
  await call(ask);
  await expect.poll(() => job.face.kept.blobs).toBe(1);
  await call(read);
  expect(job.face.kept.blobs).toBe(1);
  await call(read);
  expect(job.face.kept.blobs).toBe(0);
  await call(ask);
  await expect.poll(() => job.face.kept.blobs).toBe(1);
});

test("requests pass untouched, with the cache's credential in the place of the secret", async () => {
  await using job = await startJob();
  const seen: Buffer[] = [];
  job.cache.mistreat((call, messages) => {
    seen.push(...messages.map((message) => Buffer.from(message)));
    call.finish(GRPC_STATUS.OUT_OF_RANGE, "as the cache says");
  });
  const { path: write } = EXCHANGES["ByteStream.Write"] as Exchange;
  const parts = [1, 2, 3].map((part) =>
    toBinary(WriteRequestSchema, create(WriteRequestSchema, { data: Buffer.alloc(part, "x") })),
  );
  const answer = await job.client.call(write, ...parts);
  expect(answer.status).toBe(GRPC_STATUS.OUT_OF_RANGE);
  expect(seen.map((message) => parseWriteRequest(message).data.length)).toEqual([1, 2, 3]);
  expect(job.cache.authorization).toBe("Bearer token");
});

test("whoever does not know the secret gets nothing", async () => {
  await using job = await startJob();
  using stranger = openFaceClient(job.face.grpc, "guess");
  const exchange = EXCHANGES["GetActionResult"] as Exchange;
  const answer = await stranger.call(exchange.path, exchange.request(job.cache));
  expect(answer.status).toBe(GRPC_STATUS.UNAUTHENTICATED);
  const response = await fetch(job.face.http.replace(SECRET, "guess"));
  expect(response.status).toBe(404);
  expect(job.cache.calls.size).toBe(0);
});

test("a refused credential is renewed once, and the call goes on", async () => {
  let token = "old";
  const credentials: Credentials = {
    token: () => token,
    async refused() {
      token = "new";
      return true;
    },
  };
  await using job = await startJob(credentials);
  job.cache.mistreat((call) => {
    if (call.headers.get("authorization") === "Bearer new") call.respond(job.cache.actionResult);
    else call.finish(GRPC_STATUS.UNAUTHENTICATED, "expired");
  });
  const exchange = EXCHANGES["GetActionResult"] as Exchange;
  const answer = await job.client.call(exchange.path, exchange.request(job.cache));
  expect(answer.status).toBe(GRPC_STATUS.OK);
});

test.for([
  ["RESOURCE_EXHAUSTED", "ByteStream.Write", "PERMISSION_DENIED"],
  ["PERMISSION_DENIED", "GetActionResult", "NOT_FOUND"],
  ["INTERNAL", "GetActionResult", "NOT_FOUND"],
  ["INVALID_ARGUMENT", "GetActionResult", "INVALID_ARGUMENT"],
] as const)("the cache's %s for %s becomes %s", async ([status, name, expected]) => {
  const exchange = EXCHANGES[name] as Exchange;
  await using job = await startJob();
  job.cache.mistreat((call) => call.finish(GRPC_STATUS[status], "no"));
  const answer = await job.client.call(exchange.path, exchange.request(job.cache));
  expect(statusName(answer.status)).toBe(expected);
});

test("a blob that is not what its digest says is not kept", async () => {
  await using job = await startJob();
  job.cache.mistreat((call) => {
    if (call.path === EXCHANGES["ByteStream.Read"]?.path) {
      sendData(call, Buffer.alloc(BLOB.length, "z"));
      call.finish(GRPC_STATUS.OK);
    } else call.respond(job.cache.actionResult);
  });
  const ask = EXCHANGES["GetActionResult"] as Exchange;
  await job.client.call(ask.path, ask.request(job.cache));
  await expect
    .poll(() => job.cache.calls.get(EXCHANGES["ByteStream.Read"]?.path ?? "") ?? 0)
    .toBeGreaterThan(0);
  await expect.poll(() => job.face.kept.bytes).toBe(0);
  expect(job.face.kept.blobs).toBe(0);
});
