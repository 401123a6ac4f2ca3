import { randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { formatPublicKey, generateSecretKey, parseNarInfo, toPublicKey } from "@glorious/nix-store";
import { expect, test, vi } from "vitest";

import { type NarSource, openNarDownloads } from "../../src/upstream/nar-downloads.ts";
import { UpstreamFault } from "../../src/upstream/upstream-fault.ts";
import type { UpstreamNarInfo } from "../../src/upstream/upstream-narinfo.ts";
import { createTestPath, type TestPath } from "../test-path.ts";
import { type ReadThrough, startReadThrough } from "./read-through.ts";

/** A busy machine takes its time. */
const PATIENCE = { timeout: 20_000 };

async function requireNarInfo(world: ReadThrough, path: TestPath): Promise<string> {
  const text = await world.narInfo(path.storePathHash);
  if (text === undefined) throw new Error(`${path.storePath} is a miss`);
  return text;
}

test("of a narinfo nothing is kept or served that nobody knows, however much an upstream adds to it", async () => {
  await using world = await startReadThrough();
  const path = await createTestPath("hello");
  await world.upstream.add(path);
  const name = `/${path.storePathHash}.narinfo`;
  const padding = Array.from({ length: 5000 }, (_, line) => `Padding${line}: ${"x".repeat(100)}\n`);
  const text = world.upstream.files.get(name)?.toString() ?? "";
  world.upstream.files.set(name, Buffer.from(`${padding.join("")}${text}`));
  expect(await requireNarInfo(world, path)).not.toContain("Padding");
  const { viewId } = world.record;
  const kept = await vi.waitUntil(
    async () => (await world.server.index.findUpstreamPaths([viewId], [path.storePathHash]))[0],
    PATIENCE,
  );
  expect(kept.narInfo.length).toBeLessThan(1000);
  expect(kept.narInfo).toContain(`URL: ${parseNarInfo(text).url}`);
});

test("a content address that does not give a path its name is not passed on, as Nix breaks down over it", async () => {
  await using world = await startReadThrough();
  const path = await createTestPath("hello");
  await world.upstream.add(path, { changes: { ca: `fixed:r:sha256:${"0".repeat(52)}` } });
  const text = await requireNarInfo(world, path);
  expect(parseNarInfo(text).ca).toBeUndefined();
  expect(parseNarInfo(text).signatures).toHaveLength(1);
});

test("what was signed by a key that an upstream is given later is there at once", async () => {
  await using world = await startReadThrough();
  const key = generateSecretKey("upstream-2");
  const path = await createTestPath("hello");
  await world.upstream.add(path, { key });
  expect(await world.narInfo(path.storePathHash)).toBeUndefined();
  const publicKeys = [world.upstream.publicKey, formatPublicKey(toPublicKey(key))];
  await world.server.index.updateUpstream("fake", { publicKeys });
  expect(await world.narInfo(path.storePathHash)).toContain(path.storePath);
});

test("what is being fetched is not cut off when an upstream gets another key", async () => {
  await using world = await startReadThrough();
  const { server, upstream } = world;
  const path = await createTestPath("hello", randomBytes(500_000));
  const { url } = await upstream.add(path, { compression: "none" });
  const begun = Promise.withResolvers<void>();
  const goOn = Promise.withResolvers<void>();
  upstream.conduct(`/${url}`, (response) => {
    response.writeHead(200, { "content-length": path.nar.length });
    response.write(path.nar.subarray(0, 300_000), () => begun.resolve());
    void goOn.promise.then(() => response.end(path.nar.subarray(300_000)));
  });
  const nar = world.nar(await requireNarInfo(world, path));
  await begun.promise;
  const other = formatPublicKey(toPublicKey(generateSecretKey("upstream-2")));
  await server.index.updateUpstream("fake", { publicKeys: [upstream.publicKey, other] });
  expect(await world.narInfo((await createTestPath("absent")).storePathHash)).toBeUndefined();
  goOn.resolve();
  expect((await nar).equals(path.nar)).toBe(true);
});

test("an upstream whose front answers while all behind it hangs costs its deadline once", async () => {
  await using world = await startReadThrough({ upstreamDeadlineMs: "300ms" });
  const { upstream } = world;
  const [first, second] = [await createTestPath("first"), await createTestPath("second")];
  const probed = `/${"0".repeat(32)}.narinfo`;
  for (const name of [probed, `/${first.storePathHash}.narinfo`]) upstream.conduct(name, () => {});
  await upstream.add(second);
  expect(await world.narInfo(first.storePathHash)).toBeUndefined();
  await vi.waitUntil(
    async () => {
      expect(await world.narInfo(second.storePathHash)).toBeUndefined();
      return upstream.count(probed) >= 2;
    },
    { timeout: 20_000, interval: 100 },
  );
  upstream.conduct(probed, (response) => response.writeHead(404).end());
  await vi.waitUntil(async () => (await world.narInfo(second.storePathHash)) !== undefined, {
    timeout: 20_000,
    interval: 100,
  });
}, 60_000);

test("a log that is too large to come in time keeps nobody from the upstream", async () => {
  await using world = await startReadThrough({ upstreamDeadlineMs: "300ms" });
  const { upstream } = world;
  upstream.conduct("/log/large.drv", (response) => void response.writeHead(200).write("begin"));
  for (let count = 0; count < 4; count += 1) {
    expect((await world.server.send("GET", "/main/log/large.drv")).status).toBe(404);
  }
  const path = await createTestPath("hello");
  await upstream.add(path);
  expect(await world.narInfo(path.storePathHash)).toContain(path.storePath);
  expect(world.reasons()).toEqual(["stalled"]);
});

test("a download that nobody could join any more fails for nobody, and is told of", async () => {
  const directory = await mkdtemp(join(tmpdir(), "downloads-"));
  const unhandled: unknown[] = [];
  const note = (error: unknown): void => void unhandled.push(error);
  process.on("unhandledRejection", note);
  try {
    const ended: unknown[] = [];
    const downloads = await openNarDownloads({
      directory,
      maxDownloads: 1,
      onBegun() {},
      onIdle() {},
      onEnded: (_source, _narInfo, { fault }) => void ended.push(fault?.reason),
    } as Parameters<typeof openNarDownloads>[0]);
    const client = { openNar: () => Promise.reject(new UpstreamFault("nar-missing", "")) };
    const upstream = { viewId: 1 };
    const joinWith = (signal: AbortSignal): Promise<unknown> =>
      downloads.join(
        { upstream, client } as unknown as NarSource,
        { manifest: { narHash: "x" } } as UpstreamNarInfo,
        { signal, isSure: false },
      );
    await expect(joinWith(AbortSignal.abort(new Error("gone")))).rejects.toThrow("gone");
    expect(ended).toEqual([]);
    const leaving = new AbortController();
    const joined = joinWith(leaving.signal);
    leaving.abort(new Error("gone"));
    await expect(joined).rejects.toThrow("gone");
    await vi.waitUntil(() => ended.length > 0, PATIENCE);
    expect(ended).toEqual(["nar-missing"]);
  } finally {
    process.off("unhandledRejection", note);
    await rm(directory, { recursive: true });
  }
  expect(unhandled).toEqual([]);
});

test("who sends a NAR byte by byte is given up, and takes nobody's turn meanwhile", async () => {
  await using world = await startReadThrough({
    upstreamDeadlineMs: "300ms",
    upstreamMaxDownloads: "1",
  });
  const path = await createTestPath("hello", randomBytes(100_000));
  const { url } = await world.upstream.add(path);
  const ended = Promise.withResolvers<void>();
  world.upstream.conduct(`/${url}`, (response) => {
    response.writeHead(200);
    const timer = setInterval(() => response.write("x"), 20);
    response.on("close", () => {
      clearInterval(timer);
      ended.resolve();
    });
  });
  const file = parseNarInfo(await requireNarInfo(world, path)).url;
  expect((await world.server.send("GET", `/main/${file}`)).status).toBe(404);
  await ended.promise;
  await vi.waitUntil(() => world.reasons().includes("stalled"), PATIENCE);
});

test("what is fetched stays within its limit while it is fetched, and the last of it stays", async () => {
  await using world = await startReadThrough({ upstreamMaxSizeBytes: "1MiB" });
  const { server, upstream, record } = world;
  const paths = await Promise.all(
    Array.from({ length: 12 }, (_, number) => createTestPath(`p${number}`, randomBytes(200_000))),
  );
  for (const path of paths) {
    await upstream.add(path, { compression: "none" });
    await world.nar(await requireNarInfo(world, path));
    await vi.waitUntil(
      async () => (await server.index.findPath([record.viewId], path.storePathHash)) !== undefined,
      PATIENCE,
    );
  }
  await vi.waitUntil(async () => (await server.index.viewStats(record.viewId)).paths <= 5, {
    timeout: 20_000,
  });
  const last = paths.at(-1)?.storePathHash ?? "";
  expect(await server.index.findPath([record.viewId], last)).toBeDefined();
});
