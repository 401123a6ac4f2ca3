import { randomBytes } from "node:crypto";
import { appendFile } from "node:fs/promises";
import { join } from "node:path";

import * as v from "valibot";
import { expect, test } from "vitest";

import { openCache, type OpenCacheOptions, type PathInfo, type PushEvent } from "../src/index.ts";
import { createPath, createTemporaryDirectory } from "./paths.ts";
import { sendJson, sha256Hex, startWire, type WireHandler, type WireServer } from "./wire.ts";

/** What an atticd was sent for one path. */
interface Upload {
  readonly info: v.InferOutput<typeof UploadInfo>;
  readonly headers: Readonly<Record<string, unknown>>;
  /** The paths that were there when this one began. */
  readonly before: ReadonlySet<string>;
}

// The order of fields is the official client's.
const UploadInfo = v.strictObject({
  cache: v.string(),
  store_path_hash: v.string(),
  store_path: v.string(),
  references: v.array(v.string()),
  system: v.null(),
  deriver: v.nullable(v.string()),
  sigs: v.array(v.string()),
  ca: v.nullable(v.string()),
  nar_hash: v.pipe(v.string(), v.regex(/^sha256:[0-9a-f]{64}$/)),
  nar_size: v.number(),
});
const Question = v.object({ cache: v.string(), store_path_hashes: v.array(v.string()) });

interface AtticWire extends WireServer {
  readonly uploads: Upload[];
  readonly present: Set<string>;
  readonly questions: number[];
}

/** Speaks an atticd's part of a push: section by section what `upload-path` checks. */
async function startAtticWire(
  options: { intercept?: WireHandler; config?: Readonly<Record<string, unknown>> } = {},
): Promise<AtticWire> {
  const uploads: Upload[] = [];
  const present = new Set<string>();
  const questions: number[] = [];
  const wire = await startWire(async (request, response) => {
    if (options.intercept !== undefined && (await options.intercept(request, response)) !== false)
      return;
    if (request.path === "/prefix/_api/v1/cache-config/main") {
      sendJson(response, 200, {
        substituter_endpoint: `http://${request.headers.host}/prefix/main`,
        api_endpoint: `http://${request.headers.host}/prefix/`,
        public_key: "main:AAAA",
        is_public: false,
        store_dir: "/nix/store",
        priority: 41,
        upstream_cache_key_names: ["cache.nixos.org-1"],
        retention_period: "Global",
        ...options.config,
      });
    } else if (request.path === "/prefix/_api/v1/get-missing-paths") {
      const { store_path_hashes: hashes } = v.parse(Question, await request.json());
      questions.push(hashes.length);
      sendJson(response, 200, { missing_paths: hashes.filter((hash) => !present.has(hash)) });
    } else if (request.path === "/prefix/_api/v1/upload-path") {
      const before = new Set(present);
      const body = await request.body();
      const preambleBytes = Number(request.headers["x-attic-nar-info-preamble-size"]);
      const info = v.parse(
        UploadInfo,
        JSON.parse(body.subarray(0, preambleBytes).toString("utf8")),
      );
      const nar = body.subarray(preambleBytes);
      if (`sha256:${sha256Hex(nar)}` !== info.nar_hash || nar.length !== info.nar_size) {
        const message = "Request error: Bad NAR Hash or Size";
        return sendJson(response, 400, { code: 400, error: "RequestError", message });
      }
      uploads.push({ info, headers: request.headers, before });
      present.add(info.store_path_hash);
      return sendJson(response, 200, { kind: "Uploaded", file_size: 94, frac_deduplicated: null });
    } else {
      response.writeHead(404).end();
    }
    return undefined;
  });
  return Object.assign(wire, { uploads, present, questions });
}

function open(
  wire: WireServer,
  options: Partial<OpenCacheOptions> = {},
): ReturnType<typeof openCache> {
  return openCache({
    server: `${wire.url}/prefix`,
    view: "main",
    token: "t",
    retry: { baseDelayMs: 1, maxDelayMs: 2 },
    ...options,
  });
}

test("each path is sent raw behind its preamble, after all it refers to", async () => {
  await using directory = await createTemporaryDirectory();
  await using wire = await startAtticWire();
  await using cache = await open(wire);
  const base = await createPath(directory.path, "base", { a: "b" });
  const left = await createPath(directory.path, "left", { a: "l" }, { references: [base] });
  const right = await createPath(
    directory.path,
    "right",
    { a: randomBytes(500_000) },
    { references: [base] },
  );
  const top: PathInfo = {
    ...(await createPath(
      directory.path,
      "top",
      { a: "t" },
      { references: [right, left], signatures: ["ci-1:ÄÖ"] },
    )),
    deriver: `${"0".repeat(32)}-top.drv`,
    ca: "fixed:r:sha256:0000000000000000000000000000000000000000000000000000",
  };

  const summary = await cache.push([top, right, left, base]);

  expect(cache.kind).toBe("attic");
  expect(summary).toMatchObject({
    paths: 4,
    uploaded: 4,
    narBytes: base.narSize + left.narSize + right.narSize + top.narSize,
  });
  for (const { info, before } of wire.uploads) {
    for (const reference of info.references) expect(before).toContain(reference.slice(0, 32));
  }
  const last = wire.uploads.at(-1);
  expect(Object.keys(last?.info ?? {})).toEqual(Object.keys(UploadInfo.entries));
  expect(last?.info).toEqual({
    cache: "main",
    store_path_hash: top.storePath.hash,
    store_path: top.storePath.path,
    // Sorted: an atticd signs them in the order they come, and Nix wants them sorted.
    references: [left.storePath.baseName, right.storePath.baseName].sort(),
    system: null,
    deriver: top.deriver,
    sigs: ["ci-1:ÄÖ"],
    ca: top.ca,
    nar_hash: `sha256:${top.narHash}`,
    nar_size: top.narSize,
  });
  expect(last?.headers["x-attic-nar-info"]).toBeUndefined();
  expect(Number(last?.headers["content-length"])).toBeGreaterThan(top.narSize);
  expect(wire.questions).toEqual([4]);
});

test("more than 50 000 hashes are asked about in several questions", async () => {
  await using directory = await createTemporaryDirectory();
  await using wire = await startAtticWire();
  await using cache = await open(wire);
  const path = await createPath(directory.path, "path", { a: "b" });
  await cache.findMissing(Array.from({ length: 120_000 }, () => path));
  expect(wire.questions).toEqual([50_000, 50_000, 20_000]);
});

test("an atticd that knows the NAR and answers without reading the body is understood", async () => {
  await using directory = await createTemporaryDirectory();
  await using wire = await startAtticWire({
    intercept: (request, response) =>
      request.method === "PUT"
        ? sendJson(response, 200, { kind: "Deduplicated", frac_deduplicated: null })
        : false,
  });
  await using cache = await open(wire);
  const path = await createPath(directory.path, "path", { a: randomBytes(50_000_000) });
  expect(await cache.push([path])).toMatchObject({ uploaded: 0, deduplicated: 1 });
});

test("an early answer lost in a reset is found out by asking, not by sending again", async () => {
  await using directory = await createTemporaryDirectory();
  const path = await createPath(directory.path, "path", { a: randomBytes(5_000_000) });
  await using wire = await startAtticWire({
    intercept: (request) => {
      if (request.method !== "PUT") return false;
      wire.present.add(path.storePath.hash);
      return request.incoming.socket.resetAndDestroy();
    },
  });
  await using cache = await open(wire);
  const events: PushEvent[] = [];
  const summary = await cache.push([path], { onEvent: (event) => events.push(event) });
  expect(summary).toMatchObject({ uploaded: 0, deduplicated: 1 });
  expect(events.some(({ type }) => type === "retry")).toBe(false);
});

test("a reset that lost the upload is sent again", async () => {
  await using directory = await createTemporaryDirectory();
  let puts = 0;
  await using wire = await startAtticWire({
    intercept: (request) => {
      if (request.method !== "PUT") return false;
      puts += 1;
      return puts === 1 ? request.incoming.socket.resetAndDestroy() : false;
    },
  });
  await using cache = await open(wire);
  const path = await createPath(directory.path, "path", { a: randomBytes(5_000_000) });
  expect(await cache.push([path])).toMatchObject({ uploaded: 1, deduplicated: 0 });
  expect(puts).toBe(2);
});

test("a success without JSON counts as uploaded", async () => {
  await using directory = await createTemporaryDirectory();
  await using wire = await startAtticWire({
    intercept: async (request, response) => {
      if (request.method !== "PUT") return false;
      await request.body();
      return response.writeHead(204).end();
    },
  });
  await using cache = await open(wire);
  const path = await createPath(directory.path, "path", { a: "x" });
  expect(await cache.push([path])).toMatchObject({ uploaded: 1 });
});

test("a failed hash check of the server is final and points at proxies", async () => {
  await using directory = await createTemporaryDirectory();
  await using wire = await startAtticWire({
    intercept: async (request, response) => {
      if (request.method !== "PUT") return false;
      await request.body();
      const message = "Request error: Bad NAR Hash or Size";
      return sendJson(response, 400, { code: 400, error: "RequestError", message });
    },
  });
  await using cache = await open(wire);
  const path = await createPath(directory.path, "path", { a: "x" });
  await expect(cache.push([path])).rejects.toMatchObject({
    code: "CORRUPT",
    kind: "RequestError",
    hint: expect.stringContaining("proxy"),
  });
  expect(wire.log.filter((line) => line.startsWith("PUT"))).toHaveLength(1);
});

test("a damaged path never arrives whole, and what refers to it is not sent", async () => {
  await using directory = await createTemporaryDirectory();
  await using wire = await startAtticWire();
  await using cache = await open(wire);
  const lib = await createPath(directory.path, "lib", { so: randomBytes(2_000_000) });
  const app = await createPath(directory.path, "app", { bin: "x" }, { references: [lib] });
  await appendFile(join(lib.realPath, "so"), "rust");
  await expect(cache.push([app, lib])).rejects.toMatchObject({ code: "CORRUPT" });
  expect(wire.uploads).toEqual([]);
});

test("a 409 counts as done, with a warning and the conflict told", async () => {
  await using directory = await createTemporaryDirectory();
  await using wire = await startAtticWire({
    intercept: async (request, response) => {
      if (request.method !== "PUT") return false;
      await request.body();
      return sendJson(response, 409, { code: 409, error: "Conflict", message: "another content" });
    },
  });
  await using cache = await open(wire);
  const path = await createPath(directory.path, "path", { a: "x" });
  const events: PushEvent[] = [];
  const summary = await cache.push([path], { onEvent: (event) => events.push(event) });
  expect(summary.conflicts).toEqual([{ storePath: path.storePath.path, narHash: path.narHash }]);
  expect(events).toContainEqual({
    type: "warning",
    message: expect.stringContaining("another content"),
  });
});
