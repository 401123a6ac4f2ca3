import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import path from "node:path";

import { silentLogger } from "@glorious/core";
import { createTemporaryDirectory } from "@glorious/testkit";
import { expect, test } from "vitest";

import { type BazelFace, startBazelFace } from "../src/bazel-face/start-bazel-face.ts";
import type { Credentials } from "../src/credentials.ts";
import { createStatistics } from "../src/statistics.ts";
import { startScriptedCache } from "./scripted-cache.ts";

type Handler = (request: IncomingMessage, response: ServerResponse) => void;

interface Job extends AsyncDisposable {
  readonly face: BazelFace;
  readonly requests: IncomingMessage[];
  stop(): Promise<void>;
}

async function startJob(handler: Handler, credentials?: Credentials, grpc?: URL): Promise<Job> {
  await using resources = new AsyncDisposableStack();
  const { path: directory } = resources.use(await createTemporaryDirectory("flywheel-face-"));
  const requests: IncomingMessage[] = [];
  const server = createServer((request, response) => {
    requests.push(request);
    handler(request, response);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const stop = async (): Promise<void> => {
    if (!server.listening) return;
    const closed = once(server, "close");
    server.close();
    server.closeAllConnections();
    await closed;
  };
  resources.defer(stop);
  const url = new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  const face = resources.use(
    await startBazelFace({
      secret: "secret",
      upstream: { grpc: grpc ?? url, http: url, instanceName: "main" },
      credentials: credentials ?? { token: () => "token", refused: () => Promise.resolve(false) },
      spoolDirectory: path.join(directory, "spool"),
      statistics: createStatistics(),
      logger: silentLogger,
    }),
  );
  const owned = resources.move();
  return { face, requests, stop, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

const KEY = "ab".repeat(32);

test("requests pass with the job's token, and answers come back as they are", async () => {
  const content = randomBytes(1_000_000);
  await using job = await startJob((request, response) => {
    if (request.method === "PUT") request.pipe(response);
    else response.end(content);
  });
  const got = await fetch(`${job.face.http}/cas/${KEY}`);
  expect(Buffer.from(await got.arrayBuffer()).equals(content)).toBe(true);
  const put = await fetch(`${job.face.http}/cas/${KEY}`, { method: "PUT", body: content });
  expect(Buffer.from(await put.arrayBuffer()).equals(content)).toBe(true);
  expect(job.requests.map(({ url, headers }) => [url, headers.authorization])).toEqual([
    [`/main/cas/${KEY}`, "Bearer token"],
    [`/main/cas/${KEY}`, "Bearer token"],
  ]);
});

test.for([
  ["is away", undefined],
  ["answers 500", 500],
  ["answers 429", 429],
  ["answers 403", 403],
] as const)("a cache that %s is an empty one", async ([, status]) => {
  await using job = await startJob((_, response) => response.writeHead(status ?? 200).end("no"));
  if (status === undefined) await job.stop();
  for (let attempt = 0; attempt < 5; attempt++) {
    expect((await fetch(`${job.face.http}/ac/${KEY}`)).status).toBe(404);
  }
  const put = await fetch(`${job.face.http}/ac/${KEY}`, { method: "PUT", body: "x".repeat(9e5) });
  expect(put.status).toBe(403);
});

test("after three failures the cache is left alone", async () => {
  await using job = await startJob((_, response) => response.writeHead(500).end());
  for (let attempt = 0; attempt < 9; attempt++) await fetch(`${job.face.http}/ac/${KEY}`);
  expect(job.requests.length).toBe(3);
});

test("a refused token is renewed once", async () => {
  let token = "old";
  const credentials: Credentials = {
    token: () => token,
    async refused() {
      token = "new";
      return true;
    },
  };
  await using job = await startJob((request, response) => {
    const isNew = request.headers.authorization === "Bearer new";
    response.writeHead(isNew ? 200 : 401).end();
  }, credentials);
  expect((await fetch(`${job.face.http}/ac/${KEY}`)).status).toBe(200);
});

test("a body that breaks off breaks off here too: it is never taken for the whole", async () => {
  await using job = await startJob((_, response) => {
    response.writeHead(200, { "content-length": 1000 });
    response.write("half", () => response.destroy());
  });
  const answer = await fetch(`${job.face.http}/cas/${KEY}`);
  await expect(answer.arrayBuffer()).rejects.toThrow("terminated");
});

test("a blob of a hit is there when the cache is gone", async () => {
  const blob = randomBytes(5000);
  await using cache = await startScriptedCache(blob);
  await using job = await startJob(
    (_, response) => response.end(cache.actionResult),
    undefined,
    cache.url,
  );
  await (await fetch(`${job.face.http}/ac/${KEY}`)).arrayBuffer();
  await expect.poll(() => job.face.kept.blobs).toBe(1);
  await cache.stop();
  await job.stop();
  const hash = createHash("sha256").update(blob).digest("hex");
  const answer = await fetch(`${job.face.http}/cas/${hash}`);
  expect(Buffer.from(await answer.arrayBuffer()).equals(blob)).toBe(true);
});
