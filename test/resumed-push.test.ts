import { spawn } from "node:child_process";
import { createCipheriv, createHash } from "node:crypto";
import { mkdir, open, readdir } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import { dumpStorePath, openCache, type PathInfo } from "@glorious/cache-client";
import { decodeZstd, encodeNix32, parseNarInfo, parseStorePathBaseName } from "@glorious/nix-store";
import {
  createTemporaryDirectory,
  type RunningFlywheel,
  startFlywheel,
  type StartFlywheelOptions,
  startFaultProxy,
} from "@glorious/testkit";
import { expect, test } from "vitest";

import { createRandom } from "./random.ts";

const MIB = 2 ** 20;
const SIZE_MIB = 208;
/** 13 parts of 16 MiB, and one for what a NAR has beside the file. */
const PARTS = SIZE_MIB / 16 + 1;

interface Bench extends AsyncDisposable {
  readonly path: PathInfo;
  readonly directory: string;
  readonly listen: string;
  start(): Promise<RunningFlywheel>;
}

/** A made-up store path of noise, which is as large encoded as it is, and an address to start servers at. */
async function createBench(): Promise<Bench> {
  await using opened = new AsyncDisposableStack();
  const directory = opened.use(await createTemporaryDirectory("flywheel-resume-")).path;
  const realPath = join(directory, "large");
  await mkdir(realPath);
  {
    await using file = await open(join(realPath, "file"), "w");
    const noise = createCipheriv("aes-128-ctr", Buffer.alloc(16, 7), Buffer.alloc(16));
    const zeros = Buffer.alloc(MIB);
    for (let piece = 0; piece < SIZE_MIB; piece += 1) await file.write(noise.update(zeros));
  }
  const hash = createHash("sha256");
  let narSize = 0;
  for await (const chunk of dumpStorePath(realPath)) {
    hash.update(chunk);
    narSize += chunk.length;
  }
  const storePathHash = encodeNix32(createHash("sha1").update("large").digest());
  const listen = `127.0.0.1:${await findFreePort()}`;
  const options: StartFlywheelOptions = { dataDirectory: join(directory, "data"), listen };
  const owned = opened.move();
  return {
    directory,
    listen,
    path: {
      storePath: parseStorePathBaseName(`${storePathHash}-large`),
      narHash: hash.digest("hex"),
      narSize,
      references: [],
      signatures: [],
      realPath,
    },
    start: () => startFlywheel(options),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

async function findFreePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === "string") throw new Error("There is no free port");
  return address.port;
}

/** Pushes in a process of its own, which can be killed. */
const PUSH = `
  import { openCache } from ${JSON.stringify(import.meta.resolve("@glorious/cache-client"))};
  const [server, view, paths] = process.argv.slice(1);
  await using cache = await openCache({ server, view, token: process.env["PUSH_TOKEN"] });
  const { uploaded, sentBytes } = await cache.push(JSON.parse(paths));
  console.log(JSON.stringify({ uploaded, sentBytes }));
`;

/** As many as the client has under way for one NAR. */
const PARTS_AT_ONCE = 2;

interface Push {
  kill(): void;
  /** What it printed, once it has ended well. */
  readonly summary: Promise<{ readonly uploaded: number; readonly sentBytes: number }>;
}

function startPush(
  bench: Bench,
  view: string,
  token: string,
  url = `http://${bench.listen}`,
): Push {
  const child = spawn(
    process.execPath,
    [
      "--conditions=source",
      "--input-type=module",
      "--eval",
      PUSH,
      "--",
      url,
      view,
      JSON.stringify([bench.path]),
    ],
    { stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, PUSH_TOKEN: token } },
  );
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (text: string) => (output += text));
  }
  const summary = new Promise<{ uploaded: number; sentBytes: number }>((resolve, reject) => {
    child.on("close", (status) => {
      if (status === 0) resolve(JSON.parse(output) as { uploaded: number; sentBytes: number });
      else reject(new Error(`The push ended with ${status}: ${output}`));
    });
  });
  summary.catch(() => {});
  return { kill: () => void child.kill("SIGKILL"), summary };
}

/** Answered `PUT`s of parts, by their number, as the servers' request logs have them. */
function countParts(...servers: readonly RunningFlywheel[]): Map<number, number> {
  const counts = new Map<number, number>();
  for (const line of servers.flatMap((server) => server.logs().split("\n"))) {
    const number = /"?path"?[=:]\s*"?\S*\/parts\/(\d+)/.exec(line)?.[1];
    if (number === undefined || !/"?status"?[=:]\s*200\b/.test(line)) continue;
    counts.set(Number(number), (counts.get(Number(number)) ?? 0) + 1);
  }
  return counts;
}

/** Those under way when either side was killed may have arrived unknown to the client, which sends them again. */
function expectSentOnce(counts: ReadonlyMap<number, number>): void {
  const repeated = [...counts.values()].filter((count) => count > 1);
  expect(repeated.length).toBeLessThanOrEqual(PARTS_AT_ONCE);
  expect(Math.max(...counts.values())).toBeLessThanOrEqual(2);
}

async function waitFor(what: string, isThere: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = performance.now() + 120_000;
  while (!(await isThere())) {
    if (performance.now() > deadline) throw new Error(`Waited too long for ${what}`);
    await sleep(10);
  }
}

/** The path is served, whole and right, and nothing of its parts is left. */
async function expectServed(bench: Bench, server: RunningFlywheel): Promise<void> {
  const headers = { authorization: `Bearer ${await server.readToken()}` };
  const get = async (file: string): Promise<Response> =>
    fetch(`${server.substituter}/${file}`, { headers });
  const narInfo = parseNarInfo(await (await get(`${bench.path.storePath.hash}.narinfo`)).text());
  const { body } = await get(narInfo.url);
  const hash = createHash("sha256");
  if (body !== null) for await (const chunk of decodeZstd(body)) hash.update(chunk);
  expect(hash.digest("hex")).toBe(bench.path.narHash);
  const parts = join(server.dataDirectory, "store", "blobs", "part");
  const left = await readdir(parts, { recursive: true, withFileTypes: true });
  expect(left.filter((entry) => entry.isFile())).toEqual([]);
}

test("a push outlives kill -9 of the server, and each part is taken once", async ({ annotate }) => {
  await using bench = await createBench();
  await using first = await bench.start();
  const push = startPush(bench, first.view, await first.readToken());
  await waitFor("some parts", () => countParts(first).size >= 4);

  first.kill("SIGKILL");
  await first.exited;
  await using second = await bench.start();
  const { uploaded, sentBytes } = await push.summary;

  expect(uploaded).toBe(1);
  const counts = countParts(first, second);
  // A kill may come between a part's becoming durable and its answer, for those that are under way.
  expect(counts.size).toBeGreaterThanOrEqual(PARTS - 4);
  expectSentOnce(counts);
  expect(sentBytes).toBeLessThan((SIZE_MIB + 1) * MIB);
  await annotate(
    `${countParts(first).size} parts before the kill, ${countParts(second).size} after`,
  );
  await expectServed(bench, second);
});

test("a push that was killed goes on when it is run again, with the missing parts only", async ({
  annotate,
}) => {
  await using bench = await createBench();
  await using server = await bench.start();
  const token = await server.readToken();
  const push = startPush(bench, server.view, token);
  await waitFor("some parts", () => countParts(server).size >= 4);
  push.kill();
  await expect(push.summary).rejects.toThrow("The push ended");
  const before = countParts(server).size;

  const { uploaded, sentBytes } = await startPush(bench, server.view, token).summary;

  expect(uploaded).toBe(1);
  expect(sentBytes).toBeLessThanOrEqual((PARTS - 4) * 16 * MIB + MIB);
  const counts = countParts(server);
  expect(counts.size).toBe(PARTS);
  expectSentOnce(counts);
  await annotate(`${before} parts before the kill, ${(sentBytes / MIB).toFixed(0)} MiB after`);
  await expectServed(bench, server);
});

test("a push outlives kill -9 of the server while it makes one NAR of the parts", async () => {
  await using bench = await createBench();
  await using first = await bench.start();
  const push = startPush(bench, first.view, await first.readToken());
  await waitFor("all parts", () => countParts(first).size === PARTS);

  first.kill("SIGKILL");
  await first.exited;
  await using second = await bench.start();
  const { uploaded } = await push.summary;

  expect(uploaded).toBe(1);
  expect(countParts(second).size).toBe(0);
  await expectServed(bench, second);
});

test("resets on the way cost the parts they hit, and no more", async ({ annotate }) => {
  await using bench = await createBench();
  await using server = await bench.start();
  const random = createRandom("resumed push");
  await using proxy = await startFaultProxy(
    () => Number(new URL(server.url).port),
    () =>
      random.chance(0.4)
        ? { after: { bytes: random.below(24 * MIB), towards: "server", kind: "reset" } }
        : {},
  );
  await using cache = await openCache({
    server: `http://127.0.0.1:${proxy.port}`,
    view: server.view,
    token: await server.readToken(),
    retry: { maxAttempts: 20, baseDelayMs: 10, maxDelayMs: 50 },
  });

  const { uploaded } = await cache.push([bench.path]);

  expect(uploaded).toBe(1);
  const counts = countParts(server);
  expect(counts.size).toBe(PARTS);
  await annotate(`${proxy.faults.get("reset") ?? 0} resets`);
  await expectServed(bench, server);
});
