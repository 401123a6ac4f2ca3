import { createHash } from "node:crypto";

import { silentLogger } from "@glorious/core";
import { nix32ToSha256Hex } from "@glorious/nix-store";
import { expect, test } from "vitest";

import { sweep, type SweepResult } from "../src/housekeeping/sweeper.ts";
import { compressNar, DAY_MS, listStoreFiles, narInfoOf, openNixClient } from "./nix-client.ts";
import { createTestPath } from "./test-path.ts";
import { startTestServer, type TestServer } from "./test-server.ts";

const HOUR_MS = 3_600_000;

/** A server whose clock a test moves, and which sweeps only when told. */
async function startClockedServer(): Promise<
  TestServer & { pass(durationMs: number): Promise<SweepResult> }
> {
  const server = await startTestServer({
    uploadedFileMaxAgeMs: "30d",
    pendingNarMaxAgeMs: "24h",
    narGraceMs: "24h",
    objectGraceMs: "1h",
    sweepIntervalMs: "10d",
  });
  let passedMs = 0;
  return {
    ...server,
    /** Lets time pass, then sweeps. */
    pass(durationMs) {
      passedMs += durationMs;
      server.advance(durationMs);
      return sweep(
        {
          index: server.index,
          store: server.store,
          logger: silentLogger,
          now: () => Date.now() + passedMs,
          objectGraceMs: HOUR_MS,
          upstreamPathMaxAgeMs: 1,
        },
        new AbortController().signal,
      );
    },
  };
}

/** Bytes that keep compressions different from one another. */
function contents(seed: string): Buffer {
  const lines = Array.from({ length: 200 }, (_, line) =>
    createHash("sha256").update(`${seed} ${line}`).digest("hex"),
  );
  return Buffer.from(lines.join("\n"));
}

function fileHashOf(url: string): string {
  return nix32ToSha256Hex(url.slice(4, 56));
}

test("an uploaded file stays as it came for its time, in its view only; then the zstd object remains", async () => {
  await using server = await startClockedServer();
  await server.createView("main");
  await server.createView("team+main");
  const [client, other] = [
    await openNixClient(server, "main"),
    await openNixClient(server, "team+main"),
  ];
  const path = await createTestPath("kept", contents("kept"));
  const file = compressNar(path.nar, "br");
  await client.copy(path, file);
  await other.copy(path, compressNar(path.nar, "gzip"));
  const { url } = await client.narInfo(path);

  expect(await server.pass(30 * DAY_MS - HOUR_MS)).toEqual({
    holdings: 0,
    uploadedFiles: 0,
    objects: 0,
    partUploads: 0,
  });
  const own = await client.get(file.url);
  expect(own.status).toBe(200);
  expect(own.body.equals(file.bytes)).toBe(true);
  expect((await other.get(file.url)).status).toBe(404);
  expect((await other.head(file.url)).status).toBe(404);

  expect(await server.pass(2 * HOUR_MS)).toMatchObject({
    holdings: 0,
    uploadedFiles: 2,
    objects: 2,
  });
  expect((await client.get(file.url)).status).toBe(404);
  expect((await client.get(url)).status).toBe(200);
  expect((await client.narInfo(path)).url).toBe(url);
  expect(await listStoreFiles(server)).toEqual([fileHashOf(url)]);
});

test("a narinfo that comes again lets its file live on, because Nix believes it anew", async () => {
  await using server = await startClockedServer();
  await server.createView("main");
  const client = await openNixClient(server, "main");
  const path = await createTestPath("again", contents("again"));
  const file = compressNar(path.nar, "br");
  await client.copy(path, file);
  await server.pass(29 * DAY_MS);

  // Nix finds the NAR there with HEAD and sends the narinfo only.
  expect((await client.head(file.url)).status).toBe(200);
  expect((await client.put(`${path.storePathHash}.narinfo`, narInfoOf(path, file))).status).toBe(
    200,
  );

  await server.pass(29 * DAY_MS);
  expect((await client.get(file.url)).status).toBe(200);
  await server.pass(2 * DAY_MS);
  expect((await client.get(file.url)).status).toBe(404);
});

test.each(["none", "gzip", "br", "zstd"] as const)(
  "a NAR (%s) whose narinfo never comes is removed after its grace",
  async (compression) => {
    await using server = await startClockedServer();
    await server.createView("main");
    const client = await openNixClient(server, "main");
    const path = await createTestPath("orphan", contents("orphan"));
    const file = compressNar(path.nar, compression);
    expect((await client.put(file.url, file.bytes)).status).toBe(200);

    await server.pass(23 * HOUR_MS);
    expect((await client.head(file.url)).status).toBe(200);

    const result = await server.pass(2 * HOUR_MS);
    expect(result).toMatchObject({ holdings: 1, uploadedFiles: 1 });
    expect((await client.head(file.url)).status).toBe(404);
    expect(await listStoreFiles(server)).toEqual([]);
    const view = await server.index.findView("main");
    expect(await server.index.viewStats(view?.id ?? 0)).toMatchObject({ nars: 0, narBytes: 0 });
    // What comes now comes as if for the first time.
    await client.copy(path, file);
  },
);

test("a narinfo that comes within the grace keeps its NAR for good", async () => {
  await using server = await startClockedServer();
  await server.createView("main");
  const client = await openNixClient(server, "main");
  const path = await createTestPath("late", contents("late"));
  const file = compressNar(path.nar, "none");
  await client.put(file.url, file.bytes);
  await server.pass(23 * HOUR_MS);
  expect((await client.put(`${path.storePathHash}.narinfo`, narInfoOf(path, file))).status).toBe(
    200,
  );

  await server.pass(400 * DAY_MS);

  const { url } = await client.narInfo(path);
  expect((await client.get(url)).status).toBe(200);
  expect(await listStoreFiles(server)).toEqual([fileHashOf(url)]);
});

test("a deleted path is gone at once, its NAR after its grace, its object with it", async () => {
  await using server = await startClockedServer();
  await server.createView("main");
  const client = await openNixClient(server, "main");
  const path = await createTestPath("deleted", contents("deleted"));
  await client.copy(path, compressNar(path.nar, "none"));
  const { url } = await client.narInfo(path);
  await server.pass(31 * DAY_MS);

  expect((await client.deletePath(path)).status).toBe(204);

  expect((await client.get(`${path.storePathHash}.narinfo`)).status).toBe(404);
  expect((await client.head(`${path.storePathHash}.ls`)).status).toBe(404);
  expect((await client.get(`nar/${path.storePathHash}.nar`)).status).toBe(404);
  expect((await client.deletePath(path)).status).toBe(404);
  await server.pass(23 * HOUR_MS);
  expect((await client.get(url)).status).toBe(200);

  await server.pass(2 * HOUR_MS);
  expect((await client.get(url)).status).toBe(404);
  expect(await listStoreFiles(server)).toEqual([]);
});

test("a file whose NAR is gone is not said to be there to Nix, which would send no NAR for its path", async () => {
  await using server = await startClockedServer();
  await server.createView("main");
  const client = await openNixClient(server, "main");
  const path = await createTestPath("back", contents("back"));
  const file = compressNar(path.nar, "br");
  await client.copy(path, file);
  await client.deletePath(path);
  await server.pass(23 * HOUR_MS);
  expect((await client.head(file.url)).status).toBe(200);

  await server.pass(2 * HOUR_MS);

  expect((await client.get(file.url)).status).toBe(200);
  expect((await client.head(file.url)).status).toBe(404);
  await client.copy(path, file);
  expect((await client.head(file.url)).status).toBe(200);
});

test("a deleted path that is pushed again within the grace keeps its NAR", async () => {
  await using server = await startClockedServer();
  await server.createView("main");
  const client = await openNixClient(server, "main");
  const path = await createTestPath("regretted", contents("regretted"));
  const file = compressNar(path.nar, "none");
  await client.copy(path, file);
  await client.deletePath(path);
  await server.pass(23 * HOUR_MS);

  expect((await client.put(`${path.storePathHash}.narinfo`, narInfoOf(path, file))).status).toBe(
    200,
  );

  await server.pass(100 * DAY_MS);
  expect((await client.get((await client.narInfo(path)).url)).status).toBe(200);
});

test("a NAR that another path of the view has stays when one is deleted", async () => {
  await using server = await startClockedServer();
  await server.createView("main");
  const client = await openNixClient(server, "main");
  const first = await createTestPath("first", contents("same"));
  const second = { ...(await createTestPath("second", contents("same"))) };
  const file = compressNar(first.nar, "none");
  await client.copy(first, file);
  await client.copy(second, file);
  await client.deletePath(first);

  await server.pass(100 * DAY_MS);

  expect((await client.get(`${first.storePathHash}.narinfo`)).status).toBe(404);
  expect((await client.get((await client.narInfo(second)).url)).status).toBe(200);
});

test("an object that another tenant holds stays when one tenant deletes its path", async () => {
  await using server = await startClockedServer();
  await server.createView("main");
  await server.createView("team+main");
  const [client, other] = [
    await openNixClient(server, "main"),
    await openNixClient(server, "team+main"),
  ];
  const path = await createTestPath("shared", contents("shared"));
  await client.copy(path, compressNar(path.nar, "none"));
  await other.copy(path, compressNar(path.nar, "none"));
  const { url } = await other.narInfo(path);
  expect((await client.narInfo(path)).url).toBe(url);
  await client.deletePath(path);

  await server.pass(100 * DAY_MS);

  expect((await client.get(url)).status).toBe(404);
  expect((await other.get(url)).status).toBe(200);
  await other.deletePath(path);
  await server.pass(2 * DAY_MS);
  expect((await other.get(url)).status).toBe(404);
  expect(await listStoreFiles(server)).toEqual([]);
});

test("an object is not removed in the grace after it was stored, even when nothing refers to it yet", async () => {
  await using server = await startClockedServer();
  await server.createView("main");
  const client = await openNixClient(server, "main");
  const path = await createTestPath("unfinished", contents("unfinished"));
  const file = compressNar(path.nar, "none");
  // A view that is deleted takes all its references with it.
  await client.copy(path, file);
  await server.index.deleteView("main");

  await server.pass(HOUR_MS / 2);
  expect(await listStoreFiles(server)).toHaveLength(2);
  await server.pass(HOUR_MS);
  expect(await listStoreFiles(server)).toEqual([]);
});

test("a sweep that is stopped can be repeated, and removes hundreds of objects", async () => {
  await using server = await startClockedServer();
  await server.createView("main");
  const client = await openNixClient(server, "main");
  for (let number = 0; number < 120; number += 1) {
    const { nar } = await createTestPath(`many-${number}`, `${number}`);
    const file = compressNar(nar, "zstd");
    expect((await client.put(file.url, file.bytes)).status).toBe(200);
  }
  const stopped = new AbortController();
  stopped.abort(new Error("told to stop"));
  const { index, store } = server;
  const options = {
    index,
    store,
    logger: silentLogger,
    now: Date.now,
    objectGraceMs: 0,
    upstreamPathMaxAgeMs: 1,
  };
  await expect(sweep(options, stopped.signal)).rejects.toThrow("told to stop");
  expect(await listStoreFiles(server)).toHaveLength(120);

  const result = await server.pass(26 * HOUR_MS);

  expect(result).toEqual({ holdings: 120, uploadedFiles: 120, objects: 120, partUploads: 0 });
  expect(await listStoreFiles(server)).toEqual([]);
});
