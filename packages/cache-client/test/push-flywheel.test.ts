import { randomBytes } from "node:crypto";
import { appendFile, rm } from "node:fs/promises";
import { join } from "node:path";

import { expect, test } from "vitest";

import { openCache, type OpenCacheOptions, type PathInfo, type PushEvent } from "../src/index.ts";
import { type FlywheelWire, startFlywheelWire } from "./flywheel-wire.ts";
import { createPath, createTemporaryDirectory } from "./paths.ts";
import { sendJson } from "./wire.ts";

const TOKEN = "t0ken-that-must-not-leak";

/** Quick retries without chance. */
const QUICK: Partial<OpenCacheOptions> = {
  retry: { baseDelayMs: 1, maxDelayMs: 2 },
  environment: { random: () => 0.5 },
};

function open(
  wire: FlywheelWire,
  options: Partial<OpenCacheOptions> = {},
): ReturnType<typeof openCache> {
  return openCache({ server: wire.url, view: "main", token: TOKEN, ...QUICK, ...options });
}

/** A closure of three: app -> lib -> base, base signed by the upstream. */
async function createClosure(
  directory: string,
): Promise<{ base: PathInfo; lib: PathInfo; app: PathInfo; all: PathInfo[] }> {
  const base = await createPath(
    directory,
    "base",
    { libc: "c" },
    { signatures: ["cache.nixos.org-1:AAAA"] },
  );
  const lib = await createPath(
    directory,
    "lib",
    { so: "l".repeat(100_000) },
    { references: [base] },
  );
  const app = await createPath(
    directory,
    "app",
    { bin: randomBytes(300_000) },
    { references: [lib, base], signatures: ["ci-1:BBBB"] },
  );
  return { base, lib, app, all: [app, lib, base] };
}

test("a closure is asked about once, uploaded as zstd in parallel and committed once", async () => {
  await using directory = await createTemporaryDirectory();
  await using wire = await startFlywheelWire();
  await using cache = await open(wire);
  const { base, lib, app, all } = await createClosure(directory.path);
  const events: PushEvent[] = [];

  const summary = await cache.push(all, { onEvent: (event) => events.push(event) });

  expect(cache.kind).toBe("flywheel");
  expect(wire.log).toEqual([
    "GET /_api/v1/cache-config/main",
    "POST /_flywheel/v1/views/main/missing",
    expect.stringMatching(/^PUT /),
    expect.stringMatching(/^PUT /),
    "POST /_flywheel/v1/views/main/closures",
  ]);
  expect(new Set(wire.state.nars.keys())).toEqual(new Set([app.narHash, lib.narHash]));
  const sentBytes = [...wire.state.nars.values()].reduce((sum, body) => sum + body.length, 0);
  expect(summary).toMatchObject({
    paths: 3,
    uploaded: 2,
    deduplicated: 0,
    alreadyPresent: 0,
    missing: 2,
    conflicts: [],
    narBytes: app.narSize + lib.narSize,
    sentBytes,
    dryRun: false,
    skipped: [
      {
        reason: "1 path skipped: signed by cache.nixos.org-1",
        keyName: "cache.nixos.org-1",
        storePaths: [base.storePath.path],
      },
    ],
  });
  const [commit] = wire.state.commits;
  expect(commit?.externalReferences).toEqual([base.storePath.hash]);
  expect(commit?.paths.map(({ storePath }) => storePath)).toEqual([
    lib.storePath.path,
    app.storePath.path,
  ]);
  expect(commit?.paths.every(({ fileHash }) => /^[0-9a-f]{64}$/.test(fileHash ?? ""))).toBe(true);
  expect(commit?.paths[1]?.signatures).toEqual(["ci-1:BBBB"]);
  expect(new Set(events.map(({ type }) => type))).toEqual(
    new Set(["skipped", "planned", "upload-started", "upload-done", "committed"]),
  );
  expect(events.find(({ type }) => type === "planned")).toMatchObject({
    paths: 3,
    skipped: 1,
    missing: 2,
    uploads: 2,
    uploadBytes: app.narSize + lib.narSize,
  });
  // The largest first.
  expect(events.filter(({ type }) => type === "upload-started")).toMatchObject([
    { storePath: app.storePath.path, attempt: 1 },
    { storePath: lib.storePath.path, attempt: 1 },
  ]);
  expect(events.at(-1)).toEqual({ type: "committed", created: 2, unchanged: 0, conflicts: 0 });
});

test("a second push asks one question and sends nothing", async () => {
  await using directory = await createTemporaryDirectory();
  await using wire = await startFlywheelWire();
  await using cache = await open(wire);
  const { all } = await createClosure(directory.path);
  await cache.push(all);
  wire.log.length = 0;

  const summary = await cache.push(all);

  expect(summary).toMatchObject({ alreadyPresent: 2, missing: 0, uploaded: 0 });
  expect(wire.log).toEqual(["POST /_flywheel/v1/views/main/missing"]);
});

test("two paths with one NAR are one upload and two paths", async () => {
  await using directory = await createTemporaryDirectory();
  await using wire = await startFlywheelWire();
  await using cache = await open(wire);
  const one = await createPath(directory.path, "one", { same: "same" });
  const two = await createPath(directory.path, "two", { same: "same" });

  const summary = await cache.push([one, two, one]);

  expect(summary).toMatchObject({ paths: 2, missing: 2, uploaded: 1, deduplicated: 1 });
  expect(wire.log.filter((line) => line.startsWith("PUT"))).toHaveLength(1);
  expect(wire.state.paths.size).toBe(2);
});

test("a path pushed without its closure leaves its references to others", async () => {
  await using directory = await createTemporaryDirectory();
  await using wire = await startFlywheelWire();
  await using cache = await open(wire);
  const { app, lib, base } = await createClosure(directory.path);

  await cache.push([app]);

  expect(wire.state.commits[0]?.externalReferences).toEqual(
    [lib.storePath.hash, base.storePath.hash].sort(),
  );
});

test("key names given by the caller replace the view's", async () => {
  await using directory = await createTemporaryDirectory();
  await using wire = await startFlywheelWire();
  await using cache = await open(wire);
  const { all } = await createClosure(directory.path);
  expect(await cache.push(all, { upstreamKeyNames: [] })).toMatchObject({
    uploaded: 3,
    skipped: [],
  });
});

test("a dry run asks and sends nothing", async () => {
  await using directory = await createTemporaryDirectory();
  await using wire = await startFlywheelWire();
  await using cache = await open(wire);
  const { all } = await createClosure(directory.path);

  const summary = await cache.push(all, { dryRun: true });

  expect(summary).toMatchObject({ dryRun: true, missing: 2, uploaded: 0, sentBytes: 0 });
  expect(wire.state.nars.size + wire.state.commits.length).toBe(0);
});

test("uploads keep to the number the server wishes, whatever the caller asks for", async () => {
  await using directory = await createTemporaryDirectory();
  // Both of the first uploads are there before either is read: a busy machine may else do one after the other.
  const both = Promise.withResolvers<void>();
  let begun = 0;
  await using wire = await startFlywheelWire({
    maxConcurrentUploads: 2,
    intercept: async ({ path }) => {
      if (!path.includes("/nars/")) return false;
      begun += 1;
      if (begun === 2) both.resolve();
      await both.promise;
      return false;
    },
  });
  await using cache = await open(wire);
  const paths: PathInfo[] = [];
  for (let index = 0; index < 12; index += 1) {
    paths.push(await createPath(directory.path, `p${index}`, { data: randomBytes(200_000) }));
  }
  await cache.push(paths, { concurrency: 10 });
  expect(wire.state.mostUploads).toBe(2);
});

test("a damaged path is CORRUPT with how to repair it, and nothing becomes visible", async () => {
  await using directory = await createTemporaryDirectory();
  await using wire = await startFlywheelWire();
  await using cache = await open(wire);
  const good = await createPath(directory.path, "good", { file: "fine" });
  const resized = await createPath(directory.path, "resized", { file: randomBytes(50_000_000) });
  await appendFile(join(resized.realPath, "file"), "rust");

  await expect(cache.push([good, resized])).rejects.toMatchObject({
    code: "CORRUPT",
    message: expect.stringContaining(resized.storePath.path),
    hint: expect.stringContaining(`nix-store --repair-path ${resized.storePath.path}`),
  });

  expect(wire.state.nars.has(resized.narHash)).toBe(false);
  expect(wire.state.paths.size).toBe(0);
  expect(wire.log.filter((line) => line.includes(resized.narHash))).toHaveLength(1);
});

test("a path whose bytes changed but not its size is found by its hash before the body is whole", async () => {
  await using directory = await createTemporaryDirectory();
  await using wire = await startFlywheelWire();
  await using cache = await open(wire);
  const path = await createPath(directory.path, "flipped", { file: randomBytes(50_000_000) });
  const flipped = { ...path, narHash: "0".repeat(64) };

  await expect(cache.push([flipped])).rejects.toMatchObject({ code: "CORRUPT" });

  await expect
    .poll(() => wire.aborted)
    .toEqual([`PUT /_flywheel/v1/views/main/nars/${flipped.narHash}`]);
});

test("a path that vanished from this machine is NOT_FOUND by name", async () => {
  await using directory = await createTemporaryDirectory();
  await using wire = await startFlywheelWire();
  await using cache = await open(wire);
  const path = await createPath(directory.path, "gone", { file: "x" });
  await rm(path.realPath, { recursive: true });
  await expect(cache.push([path])).rejects.toMatchObject({
    code: "NOT_FOUND",
    message: expect.stringContaining(path.realPath),
  });
});

test("a reset connection, a 503 and a 429 are repeated after Retry-After, and told", async () => {
  await using directory = await createTemporaryDirectory();
  const waits: number[] = [];
  let puts = 0;
  await using wire = await startFlywheelWire({
    intercept: (request, response) => {
      if (request.method !== "PUT") return false;
      puts += 1;
      if (puts === 1) return request.incoming.socket.resetAndDestroy();
      if (puts === 2) {
        return sendJson(
          response,
          503,
          { code: 503, error: "UNAVAILABLE", message: "busy", requestId: "r-7" },
          { "retry-after": "7" },
        );
      }
      if (puts === 3) return response.writeHead(429, { "retry-after": "3" }).end("slow down");
      return false;
    },
  });
  await using cache = await open(wire, {
    environment: {
      random: () => 0,
      clock: { nowMs: () => 0, sleep: async (durationMs) => void waits.push(durationMs) },
    },
  });
  const path = await createPath(directory.path, "path", { file: randomBytes(3_000_000) });
  const retries: PushEvent[] = [];

  const summary = await cache.push([path], {
    onEvent: (event) => {
      if (event.type === "retry") retries.push(event);
    },
  });

  expect(summary.uploaded).toBe(1);
  expect(waits).toEqual([0, 7000, 3000]);
  expect(retries).toMatchObject([
    { attempt: 1, error: { code: "UNAVAILABLE" } },
    { attempt: 2, delayMs: 7000, error: { status: 503, requestId: "r-7" } },
    {
      attempt: 3,
      delayMs: 3000,
      error: { status: 429, message: expect.stringContaining("slow down") },
    },
  ]);
});

test("a connection that breaks in the middle of a body is repeated from the start", async () => {
  await using directory = await createTemporaryDirectory();
  let puts = 0;
  await using wire = await startFlywheelWire({
    intercept: async (request) => {
      if (request.method !== "PUT") return false;
      puts += 1;
      if (puts > 1) return false;
      for await (const _ of request.incoming) break;
      request.incoming.socket.resetAndDestroy();
      return true;
    },
  });
  await using cache = await open(wire);
  const path = await createPath(directory.path, "path", { file: randomBytes(30_000_000) });
  expect(await cache.push([path])).toMatchObject({ uploaded: 1 });
  expect(puts).toBe(2);
});

test("a rejected upload is not repeated, keeps the request id and never shows the token", async () => {
  await using directory = await createTemporaryDirectory();
  await using wire = await startFlywheelWire({
    intercept: (request, response) => {
      if (request.method !== "PUT") return false;
      return sendJson(response, 403, {
        code: 403,
        error: "FORBIDDEN",
        message: `${request.headers.authorization} may not push`,
        requestId: "r-9",
      });
    },
  });
  await using cache = await open(wire);
  const path = await createPath(directory.path, "path", { file: randomBytes(20_000_000) });

  const failed = cache.push([path]);

  await expect(failed).rejects.toMatchObject({
    code: "FORBIDDEN",
    requestId: "r-9",
    message: expect.stringContaining("Bearer <token> may not push"),
  });
  await expect(failed).rejects.not.toThrow(TOKEN);
  expect(wire.log.filter((line) => line.startsWith("PUT"))).toHaveLength(1);
  expect(wire.state.commits).toEqual([]);
});

test("an upload answered before its body is out is done", async () => {
  await using directory = await createTemporaryDirectory();
  const path = await createPath(directory.path, "path", { file: randomBytes(40_000_000) });
  await using wire = await startFlywheelWire({
    intercept: (request, response) => {
      if (request.method !== "PUT") return false;
      wire.state.nars.set(path.narHash, Buffer.alloc(0));
      return sendJson(response, 200, {
        kind: "Deduplicated",
        narHash: path.narHash,
        narSize: path.narSize,
        fileHash: "f".repeat(64),
        fileSize: 1,
      });
    },
  });
  await using cache = await open(wire);
  expect(await cache.push([path])).toMatchObject({ uploaded: 0, deduplicated: 1, narBytes: 0 });
});

test("what vanishes between question and commit is uploaded again, once, and committed", async () => {
  await using directory = await createTemporaryDirectory();
  const lib = await createPath(directory.path, "lib", { so: "lib" });
  const app = await createPath(directory.path, "app", { bin: "app" }, { references: [lib] });
  let hasVanished = false;
  await using wire = await startFlywheelWire({
    intercept: (request) => {
      if (request.path.endsWith("/closures") && wire.state.commits.length === 1 && !hasVanished) {
        hasVanished = true;
        wire.state.paths.clear();
        wire.state.nars.clear();
      }
      return false;
    },
  });
  await using cache = await open(wire);
  await cache.push([lib]);
  const warnings: PushEvent[] = [];

  const summary = await cache.push([app, lib], {
    onEvent: (event) => {
      if (event.type === "warning") warnings.push(event);
    },
  });

  expect(summary).toMatchObject({ paths: 2, alreadyPresent: 1, missing: 1, uploaded: 2 });
  expect(wire.state.paths.size).toBe(2);
  expect(warnings).toMatchObject([{ message: expect.stringContaining("2 of our paths gone") }]);
});

test("a commit that stays incomplete is given up", async () => {
  await using directory = await createTemporaryDirectory();
  await using wire = await startFlywheelWire({
    intercept: (request) => {
      if (request.path.endsWith("/closures")) wire.state.nars.clear();
      return false;
    },
  });
  await using cache = await open(wire);
  const path = await createPath(directory.path, "path", { file: "x" });
  await expect(cache.push([path])).rejects.toMatchObject({ code: "CONFLICT", status: 409 });
  expect(wire.state.commits).toHaveLength(3);
});

test("a path the cache keeps with other contents is done, with a warning and both hashes", async () => {
  await using directory = await createTemporaryDirectory();
  const path = await createPath(directory.path, "path", { file: "ours" });
  await using wire = await startFlywheelWire({
    intercept: (request) => {
      if (request.path.endsWith("/closures"))
        wire.state.paths.set(path.storePath.hash, "e".repeat(64));
      return false;
    },
  });
  await using cache = await open(wire);
  const events: PushEvent[] = [];

  const summary = await cache.push([path], { onEvent: (event) => events.push(event) });

  expect(summary.conflicts).toEqual([
    { storePath: path.storePath.path, narHash: path.narHash, existingNarHash: "e".repeat(64) },
  ]);
  expect(events).toContainEqual({
    type: "warning",
    message: expect.stringMatching(new RegExp(`${"e".repeat(64)}.*${path.narHash}`)),
  });
});

test("a NAR answered with 409 counts as done, with a warning", async () => {
  await using directory = await createTemporaryDirectory();
  const path = await createPath(directory.path, "path", { file: "ours" });
  await using wire = await startFlywheelWire({
    intercept: async (request, response) => {
      if (request.method !== "PUT") return false;
      await request.body();
      wire.state.nars.set(path.narHash, Buffer.alloc(0));
      return sendJson(response, 409, { code: 409, error: "CONFLICT", message: "already another" });
    },
  });
  await using cache = await open(wire);
  const events: PushEvent[] = [];
  expect(await cache.push([path], { onEvent: (event) => events.push(event) })).toMatchObject({
    uploaded: 0,
    deduplicated: 1,
  });
  expect(events).toContainEqual({
    type: "warning",
    message: expect.stringContaining("already another"),
  });
});

test("more than 20 000 paths are asked about in several questions", async () => {
  await using directory = await createTemporaryDirectory();
  await using wire = await startFlywheelWire();
  await using cache = await open(wire);
  const path = await createPath(directory.path, "path", { file: "x" });
  const paths = Array.from({ length: 45_000 }, () => path);
  expect(await cache.findMissing(paths)).toMatchObject({ narHashes: new Set([path.narHash]) });
  expect(wire.state.questions).toEqual([20_000, 20_000, 5000]);
});

test("a server that stops reading is given up after the idle deadline", async () => {
  await using directory = await createTemporaryDirectory();
  await using wire = await startFlywheelWire({ intercept: (request) => request.method === "PUT" });
  await using cache = await open(wire, { idleTimeoutMs: 200, retry: { maxAttempts: 1 } });
  const path = await createPath(directory.path, "path", { file: randomBytes(60_000_000) });
  await expect(cache.push([path])).rejects.toMatchObject({
    code: "TIMEOUT",
    message: expect.stringContaining("made no progress for 200 ms"),
  });
});

test("a signal stops running uploads with CANCELLED and leaves nothing visible", async () => {
  await using directory = await createTemporaryDirectory();
  const controller = new AbortController();
  await using wire = await startFlywheelWire({
    intercept: (request) => {
      if (request.method !== "PUT") return false;
      controller.abort(new Error("the user left"));
      return true;
    },
  });
  await using cache = await open(wire);
  const path = await createPath(directory.path, "path", { file: randomBytes(60_000_000) });
  await expect(cache.push([path], { signal: controller.signal })).rejects.toMatchObject({
    code: "CANCELLED",
  });
  expect(wire.state.commits).toEqual([]);
});

test("the memory budget makes uploads wait for each other, and is whole again afterwards", async () => {
  await using directory = await createTemporaryDirectory();
  await using wire = await startFlywheelWire();
  await using cache = await open(wire, { memoryBytes: 1 });
  const paths: PathInfo[] = [];
  for (let index = 0; index < 4; index += 1) {
    paths.push(await createPath(directory.path, `p${index}`, { data: randomBytes(200_000) }));
  }
  await cache.push(paths.slice(0, 2));
  await cache.push(paths);
  expect(wire.state.mostUploads).toBe(1);
  expect(wire.state.paths.size).toBe(4);
});

test("a path of another store directory is refused before anything is asked", async () => {
  await using directory = await createTemporaryDirectory();
  await using wire = await startFlywheelWire({ config: { store_dir: "/opt/store" } });
  await using cache = await open(wire);
  const path = await createPath(directory.path, "path", { file: "x" });
  await expect(cache.push([path])).rejects.toMatchObject({
    code: "INVALID",
    message: expect.stringContaining("/opt/store"),
  });
  expect(wire.log).toHaveLength(1);
});

test("what an upstream of the view has is left to it, and counts as given for the rest", async () => {
  await using directory = await createTemporaryDirectory();
  const { base, lib, app, all } = await createClosure(directory.path);
  const upstreamPaths = new Map([[lib.storePath.hash, "nixos"]]);
  await using wire = await startFlywheelWire({ upstreamPaths });
  await using cache = await open(wire);

  const summary = await cache.push(all);

  expect(summary).toMatchObject({ uploaded: 1, missing: 1, alreadyPresent: 0 });
  expect(summary.skipped.at(-1)).toEqual({
    reason: "1 path skipped: upstream nixos has it",
    upstream: "nixos",
    storePaths: [lib.storePath.path],
  });
  const [commit] = wire.state.commits;
  expect(commit?.paths.map(({ storePath }) => storePath)).toEqual([app.storePath.path]);
  expect(commit?.externalReferences).toEqual(
    [base, lib].map(({ storePath }) => storePath.hash).sort(),
  );

  // Who wants all of it pushed gets that.
  await using other = await startFlywheelWire({ upstreamPaths });
  await using again = await open(other);
  expect(await again.push(all, { upstreamKeyNames: [] })).toMatchObject({
    uploaded: 3,
    skipped: [],
  });
});
