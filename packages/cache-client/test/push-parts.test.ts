import { randomBytes } from "node:crypto";
import { appendFile } from "node:fs/promises";
import { join } from "node:path";

import { encodeNar } from "@glorious/nix-store";
import { expect, test } from "vitest";

import {
  dumpStorePath,
  openCache,
  type PathInfo,
  type PushEvent,
  type PushSummary,
} from "../src/index.ts";
import { type PartsWire, type PartsWireOptions, startPartsWire } from "./parts-wire.ts";
import { createPath, createTemporaryDirectory } from "./paths.ts";
import { sendJson, type WireRequest } from "./wire.ts";

const MIB = 2 ** 20;

interface Bench extends AsyncDisposable {
  readonly wire: PartsWire;
  /** Three parts: 8, 8 and a bit more than 4 MiB. */
  readonly large: PathInfo;
  readonly events: PushEvent[];
  push(paths?: readonly PathInfo[]): Promise<PushSummary>;
}

async function startBench(options: PartsWireOptions = {}): Promise<Bench> {
  await using opened = new AsyncDisposableStack();
  const directory = opened.use(await createTemporaryDirectory());
  const wire = opened.use(await startPartsWire(options));
  const half = Buffer.concat([randomBytes(10 * MIB), Buffer.alloc(10 * MIB, "text ")]);
  const large = await createPath(directory.path, "large", { file: half });
  const events: PushEvent[] = [];
  const owned = opened.move();
  return {
    wire,
    large,
    events,
    async push(paths = [large]) {
      await using cache = await openCache({
        server: wire.url,
        view: "main",
        retry: { baseDelayMs: 1, maxDelayMs: 2 },
      });
      return await cache.push(paths, { onEvent: (event) => events.push(event) });
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

async function encodeWhole(path: PathInfo, level?: number): Promise<Buffer> {
  const frames = encodeNar(dumpStorePath(path.realPath), level === undefined ? {} : { level });
  return Buffer.concat(await Array.fromAsync(frames));
}

const isPart = ({ method }: WireRequest, path: string, number: number): boolean =>
  method === "PUT" && path.endsWith(`/parts/${number}`);

const inOrder = (numbers: readonly number[]): number[] => numbers.toSorted((a, b) => a - b);

test("a large NAR goes in parts that together are its one encoding, a small one in one piece", async () => {
  await using bench = await startBench();
  const { wire, large } = bench;
  const small = await createPath(join(large.realPath, ".."), "small", { file: "s" });

  const summary = await bench.push([large, small]);

  const whole = await encodeWhole(large);
  expect(inOrder(wire.arrived)).toEqual([0, 1, 2]);
  expect(wire.state.nars.get(large.narHash)?.equals(whole)).toBe(true);
  expect(wire.log.filter((line) => line.includes("/nars/"))).toEqual([
    `PUT /_flywheel/v1/views/main/nars/${small.narHash}`,
  ]);
  expect(summary).toMatchObject({ uploaded: 2, deduplicated: 0 });
  expect(summary.sentBytes).toBe(
    whole.length + (wire.state.nars.get(small.narHash)?.length ?? Number.NaN),
  );
  expect(wire.state.commits[0]?.paths.every(({ fileHash }) => fileHash !== undefined)).toBe(true);
  const of = (type: PushEvent["type"]): PushEvent[] =>
    bench.events.filter((event) => event.type === type);
  expect(of("upload-started")).toHaveLength(2);
  expect(of("upload-done")).toContainEqual(
    expect.objectContaining({ storePath: large.storePath.path, result: "uploaded" }),
  );
});

test("parts are encoded at the level that the upload was begun with", async () => {
  await using bench = await startBench({ level: 1 });
  await bench.push();
  const whole = await encodeWhole(bench.large, 1);
  expect(bench.wire.state.nars.get(bench.large.narHash)?.equals(whole)).toBe(true);
});

test("a part that fails is sent again, alone", async () => {
  let failures = 0;
  await using bench = await startBench({
    intercept: (_, request, response) => {
      if (!isPart(request, request.path, 1) || failures === 3) return false;
      failures += 1;
      if (failures === 1) request.incoming.destroy();
      else sendJson(response, 503, { code: 503, error: "UNAVAILABLE", message: "restarting" });
      return true;
    },
  });

  await bench.push();

  expect(failures).toBe(3);
  expect(inOrder(bench.wire.arrived)).toEqual([0, 1, 2]);
  const retries = bench.events.filter((event) => event.type === "retry");
  expect(retries.map(({ what }) => what)).toEqual(
    Array.from({ length: 3 }, () => `part 1 of ${bench.large.storePath.path}`),
  );
});

test("a push that was broken off goes on, and sends only what is missing", async () => {
  let isDown = true;
  await using bench = await startBench({
    intercept: (_, request, response) => {
      if (!isDown || !isPart(request, request.path, 2)) return false;
      sendJson(response, 507, { code: 507, error: "STORAGE_FULL", message: "no room" });
      return true;
    },
  });
  await expect(bench.push()).rejects.toMatchObject({ code: "STORAGE_FULL" });
  const before = [...bench.wire.arrived];
  isDown = false;

  const summary = await bench.push();

  expect(inOrder(bench.wire.arrived)).toEqual([0, 1, 2]);
  expect(bench.wire.arrived.slice(0, before.length)).toEqual(before);
  expect(summary.uploaded).toBe(1);
});

test("an upload whose parts are all there is only completed", async () => {
  let isDown = true;
  await using bench = await startBench({
    intercept: (_, request, response) => {
      if (!isDown || !request.path.endsWith("/complete")) return false;
      sendJson(response, 507, { code: 507, error: "STORAGE_FULL", message: "no room" });
      return true;
    },
  });
  await expect(bench.push()).rejects.toMatchObject({ code: "STORAGE_FULL" });
  isDown = false;

  const summary = await bench.push();

  expect(inOrder(bench.wire.arrived)).toEqual([0, 1, 2]);
  expect(summary).toMatchObject({ uploaded: 1, sentBytes: 0 });
});

test("a completion that takes long is asked for until it has ended", async () => {
  let asked = 0;
  await using bench = await startBench({
    intercept: (_, request, response) => {
      if (!request.path.endsWith("/complete")) return false;
      asked += 1;
      if (asked < 3) sendJson(response, 202, { state: "running" });
      return asked < 3;
    },
  });
  expect(await bench.push()).toMatchObject({ uploaded: 1 });
  expect(asked).toBe(3);
});

test("an upload that ended while its answer was lost is found to be done", async () => {
  await using bench = await startBench({
    intercept: async (wire, request, response) => {
      if (!request.path.endsWith("/complete") || wire.state.nars.size > 0) return false;
      wire.state.nars.set(bench.large.narHash, await encodeWhole(bench.large));
      wire.uploads.clear();
      response.destroy();
      return true;
    },
  });
  expect(await bench.push()).toMatchObject({ uploaded: 1, deduplicated: 0 });
  expect(inOrder(bench.wire.arrived)).toEqual([0, 1, 2]);
});

test("parts that the server lost are sent once more, and nothing else", async () => {
  await using bench = await startBench({
    intercept: (wire, request) => {
      if (request.path.endsWith("/complete") && wire.arrived.length === 3) {
        for (const { parts } of wire.uploads.values()) parts.delete(1);
      }
      return false;
    },
  });
  await bench.push();
  expect(inOrder(bench.wire.arrived)).toEqual([0, 1, 1, 2]);
});

test("an upload that expires in the middle, or has a wrong part, is begun anew", async () => {
  await using bench = await startBench({
    intercept: (wire, request) => {
      if (isPart(request, request.path, 2) && wire.arrived.length < 3) wire.uploads.clear();
      if (request.path.endsWith("/complete") && wire.arrived.length <= 6) {
        for (const { parts } of wire.uploads.values())
          parts.set(1, parts.get(0) ?? Buffer.alloc(0));
      }
      return false;
    },
  });
  expect(await bench.push()).toMatchObject({ uploaded: 1 });
});

test("another client's other bytes of a part are left to the server to judge", async () => {
  await using bench = await startBench({
    intercept: async (wire, request, response) => {
      if (!isPart(request, request.path, 0)) return false;
      const body = await request.body();
      for (const { parts } of wire.uploads.values()) parts.set(0, body);
      sendJson(response, 409, { code: 409, error: "CONFLICT", message: "another part" });
      return true;
    },
  });
  expect(await bench.push()).toMatchObject({ uploaded: 1 });
});

test("where the server has no room for another upload in parts the NAR goes in one piece", async () => {
  await using bench = await startBench({
    intercept: (_, request, response) => {
      if (request.method !== "POST") return false;
      sendJson(response, 409, { code: 409, error: "CONFLICT", message: "too many are open" });
      return true;
    },
  });
  expect(await bench.push()).toMatchObject({ uploaded: 1 });
  expect(bench.wire.arrived).toEqual([]);
  expect(bench.wire.state.nars.has(bench.large.narHash)).toBe(true);
});

test("a path that is damaged on this machine is never completed, even when its parts are there", async () => {
  let isDown = true;
  await using bench = await startBench({
    intercept: (_, request, response) => {
      if (!isDown || !request.path.endsWith("/complete")) return false;
      sendJson(response, 507, { code: 507, error: "STORAGE_FULL", message: "no room" });
      return true;
    },
  });
  await expect(bench.push()).rejects.toMatchObject({ code: "STORAGE_FULL" });
  isDown = false;
  await appendFile(join(bench.large.realPath, "file"), "x");
  const damaged = {
    code: "CORRUPT",
    message: expect.stringContaining("is damaged on this machine"),
  };

  await expect(bench.push()).rejects.toMatchObject(damaged);

  expect(bench.wire.state.nars.size).toBe(0);
});
