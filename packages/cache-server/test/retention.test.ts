import { silentLogger } from "@glorious/core";
import { expect, test } from "vitest";

import { sweep } from "../src/housekeeping/sweeper.ts";
import { createGraph, pushClosure } from "./closures.ts";
import { DAY_MS, listStoreFiles } from "./nix-client.ts";
import { createTestPath, type TestPath } from "./test-path.ts";
import { startTestServer, type TestAnswer, type TestServer } from "./test-server.ts";
import { encode, postJson, pushAttic } from "./uploads.ts";

const API = "/_flywheel/v1";
const HOUR_MS = 3_600_000;
const EVERYTHING = [
  "pull",
  "push",
  "delete",
  "create",
  "configure",
  "configureRetention",
  "destroy",
] as const;

interface Setup extends AsyncDisposable {
  readonly server: TestServer;
  readonly token: string;
  /** Lets time pass. */
  readonly pass: (durationMs: number) => Promise<void>;
  readonly configure: (
    view: string,
    changes: Readonly<Record<string, unknown>>,
  ) => Promise<TestAnswer>;
  readonly collect: (view: string, isDryRun?: boolean) => Promise<Record<string, unknown>>;
  /** Of these paths, the names of those that are there, without using them. */
  readonly present: (view: string, paths: Readonly<Record<string, TestPath>>) => Promise<string[]>;
  /** Removes what has expired. */
  readonly sweep: () => Promise<void>;
}

async function setUp(...settings: Parameters<typeof startTestServer>): Promise<Setup> {
  const server = await startTestServer(...settings);
  for (const name of ["main", "side"]) await server.createView(name);
  let passedMs = 0;
  const makeToken = (): Promise<string> =>
    server.token({ "*": EVERYTHING }, { expiresAtMs: Date.now() + 10_000 * DAY_MS, isAdmin: true });
  const token = await makeToken();
  return {
    server,
    token,
    pass: async (durationMs) => {
      passedMs += durationMs;
      server.advance(durationMs);
    },
    configure: (view, changes) => postJson(server, token, `${API}/views/${view}`, changes, "PATCH"),
    collect: async (view, isDryRun = false) => {
      const url = `${API}/views/${view}/gc?dryRun=${Number(isDryRun)}`;
      const answer = await server.send("POST", url, { token });
      expect(answer.status).toBe(200);
      return answer.json();
    },
    present: async (view, paths) => {
      const id = (await server.index.findView(view))?.id ?? 0;
      const hashes = Object.values(paths).map(({ storePathHash }) => storePathHash);
      const missing = await server.index.findMissingPaths(id, hashes);
      return Object.keys(paths).filter(
        (name) => !missing.includes(paths[name]?.storePathHash ?? ""),
      );
    },
    sweep: async () => {
      const { index, store } = server;
      const now = (): number => Date.now() + passedMs;
      const options = {
        index,
        store,
        logger: silentLogger,
        now,
        objectGraceMs: HOUR_MS,
        upstreamPathMaxAgeMs: 1,
      };
      await sweep(options, new AbortController().signal);
    },
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

const GRAPH = { libc: [], gcc: ["libc"], hello: ["libc"], app: ["hello", "libc"], tool: ["gcc"] };

test("a path unused for the view's retention goes, its NAR after the grace", async () => {
  await using cache = await setUp();
  const { server, token, pass, configure, collect, present } = cache;
  const paths = await createGraph({ libc: [], hello: ["libc"] });
  await pushClosure(server, token, "main", Object.values(paths));
  const narInfo = await server.send("GET", `/main/${paths["libc"]?.storePathHash}.narinfo`, {
    token,
  });
  const url = `/main/${/^URL: (.*)$/m.exec(narInfo.text)?.[1]}`;
  await configure("main", { retentionSeconds: (7 * DAY_MS) / 1000 });

  await pass(7 * DAY_MS);
  expect(await collect("main")).toMatchObject({ examined: 2, deleted: 0 });
  await pass(2 * HOUR_MS);
  const report = await collect("main");

  expect(report).toEqual({
    view: "main",
    dryRun: false,
    examined: 2,
    roots: 0,
    deleted: 2,
    spared: 0,
    freedBytes: expect.any(Number),
    remainingBytes: 0,
    durationMs: expect.any(Number),
  });
  expect(await present("main", paths)).toEqual([]);
  await cache.sweep();
  expect((await server.send("GET", url, { token })).status).toBe(200);
  await pass(25 * HOUR_MS);
  await cache.sweep();
  expect((await server.send("GET", url, { token })).status).toBe(404);
  expect(await listStoreFiles(server)).toEqual([]);
});

test("a view keeps everything for ever, unless the server's default or its own retention says otherwise", async () => {
  await using plain = await setUp();
  await using cache = await setUp({ defaultRetentionMs: "1d" });
  const paths = await createGraph({ libc: [] });
  for (const { server, token } of [plain, cache]) {
    for (const view of ["main", "side"])
      await pushClosure(server, token, view, Object.values(paths));
  }
  await cache.configure("side", { retentionSeconds: 0 });
  await plain.pass(900 * DAY_MS);
  await cache.pass(2 * DAY_MS);

  expect(await plain.collect("main")).toMatchObject({ examined: 0, deleted: 0 });
  expect(await cache.collect("side")).toMatchObject({ examined: 0, deleted: 0 });
  expect(await cache.collect("main")).toMatchObject({ examined: 1, deleted: 1 });

  await cache.configure("side", { retentionSeconds: null });
  expect(await cache.collect("side")).toMatchObject({ deleted: 1 });
});

const USES: Readonly<
  Record<string, (setup: Setup, path: TestPath, fileUrl: string) => Promise<TestAnswer>>
> = {
  "a narinfo": ({ server, token }, path) =>
    server.send("GET", `/main/${path.storePathHash}.narinfo`, { token }),
  "a narinfo's head": ({ server, token }, path) =>
    server.send("HEAD", `/main/${path.storePathHash}.narinfo`, { token }),
  "a NAR by its file hash": ({ server, token }, _, fileUrl) =>
    server.send("GET", fileUrl, { token }),
  "a NAR by its path": ({ server, token }, path) =>
    server.send("GET", `/main/nar/${path.storePathHash}.nar`, { token }),
  "our push's question": ({ server, token }, path) =>
    postJson(server, token, `${API}/views/main/missing`, {
      paths: [{ storePathHash: path.storePathHash, narHash: path.narHash }],
    }),
  "Attic's question": ({ server, token }, path) =>
    postJson(server, token, "/_api/v1/get-missing-paths", {
      cache: "main",
      store_path_hashes: [path.storePathHash],
    }),
};

test.each(Object.keys(USES))("%s uses a path, and with it its whole closure", async (what) => {
  await using cache = await setUp();
  const { server, token, pass, configure, collect, present } = cache;
  const paths = await createGraph(GRAPH);
  await pushClosure(server, token, "main", Object.values(paths));
  await configure("main", { retentionSeconds: (7 * DAY_MS) / 1000 });
  const app = paths["app"] as TestPath;
  const narInfo = await server.send("GET", `/main/${app.storePathHash}.narinfo`, { token });
  const fileUrl = `/main/${/^URL: (.*)$/m.exec(narInfo.text)?.[1]}`;

  await pass(6 * DAY_MS);
  // Twice: the second answer to a reader comes from memory.
  for (const _ of [1, 2]) {
    expect((await USES[what]?.(cache, app, fileUrl))?.status).toBe(200);
  }
  await pass(3 * DAY_MS);

  expect(await collect("main")).toMatchObject({ examined: 5, deleted: 2, spared: 0 });
  expect(await present("main", paths)).toEqual(["libc", "hello", "app"]);
});

test("uses are written once a while, not at all when one is known, and when the server stops", async () => {
  await using cache = await setUp({}, { timings: { accessFlushIntervalMs: 10 } });
  const { server, token, pass } = cache;
  const path = await createTestPath("libc");
  await pushClosure(server, token, "main", [path]);
  const view = await server.index.findView("main");
  const accessedAtMs = async (): Promise<number> =>
    (await server.index.findPath([view?.id ?? 0], path.storePathHash))?.accessedAtMs ?? 0;
  const read = (): Promise<TestAnswer> =>
    server.send("GET", `/main/${path.storePathHash}.narinfo`, { token });
  const pushedAtMs = await accessedAtMs();

  await read();
  await pass(2 * HOUR_MS);
  await read();
  await expect.poll(accessedAtMs).toBeGreaterThan(pushedAtMs + HOUR_MS);
  const readAtMs = await accessedAtMs();
  await pass(HOUR_MS / 2);
  await read();
  await pass(HOUR_MS);
  await read();
  await server.stop();
  // The one in between was within the resolution, and left no trace.
  expect(await accessedAtMs()).toBeGreaterThan(readAtMs + HOUR_MS);
});

test("a view that is too large loses the closures that were unused longest, until it is small enough", async () => {
  await using cache = await setUp();
  const { server, token, pass, configure, collect, present } = cache;
  const paths = await createGraph(GRAPH);
  for (const name of ["libc", "gcc", "hello", "app", "tool"]) {
    await pushClosure(server, token, "main", [paths[name] as TestPath]);
    await pass(HOUR_MS);
  }
  const view = await server.index.findView("main");
  const { fileBytes } = await server.index.viewStats(view?.id ?? 0);
  const used = await server.send("GET", `/main/${paths["hello"]?.storePathHash}.narinfo`, {
    token,
  });
  expect(used.status).toBe(200);
  await pass(2 * HOUR_MS);
  await configure("main", { maxSizeBytes: fileBytes - 1 });

  // The app is the oldest that nothing newer needs; what it refers to was used since.
  expect(await collect("main")).toMatchObject({ examined: 5, deleted: 1 });
  expect(await present("main", paths)).toEqual(["libc", "gcc", "hello", "tool"]);
  expect(await collect("main")).toMatchObject({ deleted: 0 });

  const size = async (name: string): Promise<number> =>
    (await encode(paths[name] as TestPath)).length;
  await configure("main", { maxSizeBytes: (await size("libc")) + (await size("hello")) });
  expect(await collect("main", true)).toMatchObject({ deleted: 2 });
  expect(await collect("main")).toMatchObject({ deleted: 2 });
  expect(await present("main", paths)).toEqual(["libc", "hello"]);

  await configure("main", { maxSizeBytes: 0 });
  await server.send("GET", `/main/${paths["libc"]?.storePathHash}.narinfo`, { token });
  expect(await collect("main")).toMatchObject({ deleted: 1 });
  // Used within the hour: a push may be relying on it.
  expect(await present("main", paths)).toEqual(["libc"]);
});

test("a use that is not recorded protects a path for as long as one that is", async () => {
  await using cache = await setUp();
  const { server, token, pass, configure, collect } = cache;
  const path = await createTestPath("libc");
  await pushClosure(server, token, "main", [path]);
  await configure("main", { maxSizeBytes: 0, retentionSeconds: 60 });
  const minute = HOUR_MS / 60;

  await pass(59 * minute);
  await server.send("GET", `/main/${path.storePathHash}.narinfo`, { token });
  await pass(59 * minute);
  expect(await collect("main")).toMatchObject({ examined: 1, deleted: 0 });
  await pass(3 * minute);
  expect(await collect("main")).toMatchObject({ deleted: 1 });
});

test("whoever finds a path while it is being deleted is told what became of it", async () => {
  await using cache = await setUp();
  const { server, token, pass, configure, collect } = cache;
  const paths = await createGraph({ libc: [], gone: [] });
  await pushClosure(server, token, "main", Object.values(paths));
  await configure("main", { maxSizeBytes: 1 });
  await pass(DAY_MS);
  const { index } = server;
  const { libc, gone } = paths as { libc: TestPath; gone: TestPath };
  await server.send("GET", `/main/${libc.storePathHash}.narinfo`, { token });
  const [entered, released] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const collectPaths = index.collectPaths.bind(index);
  index.collectPaths = async (...given) => {
    entered.resolve();
    await released.promise;
    return collectPaths(...given);
  };
  let looks = 0;
  const [findPath, findMissing] = [index.findPath.bind(index), index.findMissingPaths.bind(index)];
  index.findPath = (...given) => {
    looks += 1;
    return findPath(...given);
  };
  index.findMissingPaths = (...given) => {
    looks += 1;
    return findMissing(...given);
  };

  const collecting = collect("main");
  await entered.promise;
  const asked = Promise.all([
    server.send("GET", `/main/${gone.storePathHash}.narinfo`, { token }),
    postJson(server, token, `${API}/views/main/missing`, {
      paths: [libc, gone].map(({ storePathHash, narHash }) => ({ storePathHash, narHash })),
    }),
  ]);
  await expect.poll(() => looks).toBe(2);
  const other = await server.send("GET", `/main/${libc.storePathHash}.narinfo`, { token });
  expect(other.status).toBe(200);
  released.resolve();

  const [narInfo, missing] = await asked;
  expect(narInfo.status).toBe(404);
  expect(missing.json()).toMatchObject({ missingPaths: [gone.storePathHash] });
  expect(await collecting).toMatchObject({ deleted: 1, remainingBytes: expect.any(Number) });
});

test("a pin keeps its whole closure from both limits, until it is removed", async () => {
  await using cache = await setUp();
  const { server, token, pass, configure, collect, present } = cache;
  const paths = await createGraph(GRAPH);
  await pushClosure(server, token, "main", Object.values(paths));
  const pins = `${API}/views/main/pins`;
  const pin = (name: string, storePath: string): Promise<TestAnswer> =>
    postJson(server, token, `${pins}/${name}`, { storePath }, "PUT");
  const { storePath } = paths["app"] as TestPath;
  expect((await pin("release", (paths["tool"] as TestPath).storePath)).json()).toMatchObject({
    kind: "created",
  });
  expect((await pin("release", storePath)).json()).toEqual({
    kind: "replaced",
    name: "release",
    storePath,
  });
  expect((await server.send("GET", pins, { token })).json()).toEqual({
    pins: [{ name: "release", storePath, createdAt: expect.stringMatching(/^\d{4}-.*Z$/) }],
  });
  await configure("main", { retentionSeconds: 60, maxSizeBytes: 1 });
  await pass(DAY_MS);

  expect(await collect("main")).toMatchObject({ roots: 1, deleted: 2 });
  expect(await present("main", paths)).toEqual(["libc", "hello", "app"]);

  expect((await server.send("DELETE", `${pins}/release`, { token })).status).toBe(204);
  expect((await server.send("DELETE", `${pins}/release`, { token })).status).toBe(404);
  expect(await collect("main")).toMatchObject({ roots: 0, deleted: 3, remainingBytes: 0 });
});

test("only what the view has can be pinned, as it has it, under a plain name", async () => {
  await using cache = await setUp();
  const { server, token } = cache;
  const path = await createTestPath("libc");
  const absent = await createTestPath("absent");
  await pushClosure(server, token, "main", [path]);
  const pin = async (name: string, storePath: string): Promise<number> =>
    (await postJson(server, token, `${API}/views/main/pins/${name}`, { storePath }, "PUT")).status;

  expect(await pin("a", absent.storePath)).toBe(404);
  expect(await pin("a", path.storePath.replace("-libc", "-other"))).toBe(404);
  expect(await pin("a", "/elsewhere/x")).toBe(400);
  expect(await pin(".a", path.storePath)).toBe(400);
  expect(await pin("a%2Fb", path.storePath)).toBe(400);
  expect(await pin("a".repeat(255), path.storePath)).toBe(200);
});

test("a dry run deletes nothing and says what the collection then does", async () => {
  await using cache = await setUp();
  const { server, token, pass, configure, collect, present } = cache;
  const paths = await createGraph(GRAPH);
  await pushClosure(server, token, "main", Object.values(paths));
  await configure("main", { retentionSeconds: 60 });
  await pass(DAY_MS);

  const { dryRun, durationMs: _, ...said } = await collect("main", true);
  expect(dryRun).toBe(true);
  expect(await present("main", paths)).toHaveLength(5);
  const done = await collect("main");
  expect(done).toMatchObject({ ...said, dryRun: false, deleted: 5 });
});

test("an object that two views share lives until the last of them lets it go", async () => {
  await using cache = await setUp();
  const { server, token, pass, configure, collect } = cache;
  const path = await createTestPath("libc");
  for (const view of ["main", "side"]) await pushClosure(server, token, view, [path]);
  expect(await listStoreFiles(server)).toHaveLength(1);
  await configure("main", { retentionSeconds: 60 });
  await pass(DAY_MS);
  await collect("main");
  await pass(2 * DAY_MS);
  await cache.sweep();

  expect(await listStoreFiles(server)).toHaveLength(1);
  const nar = await server.send("GET", `/side/nar/${path.storePathHash}.nar`, { token });
  expect(nar.status).toBe(200);

  await configure("side", { retentionSeconds: 60 });
  await pass(DAY_MS);
  await collect("side");
  await pass(2 * DAY_MS);
  await cache.sweep();
  expect(await listStoreFiles(server)).toEqual([]);
});

test("an administrator collects every view; others those that they may delete from and set the retention of", async () => {
  await using cache = await setUp();
  const { server, token, pass, configure, present } = cache;
  const paths = await createGraph({ libc: [] });
  for (const view of ["main", "side"]) {
    await pushClosure(server, token, view, Object.values(paths));
    await configure(view, { retentionSeconds: 60 });
  }
  await pass(DAY_MS);
  const expiresAtMs = Date.now() + 2 * DAY_MS;
  const status = async (
    url: string,
    ...permissions: ("delete" | "configureRetention" | "configure")[]
  ): Promise<number> => {
    const weak = await server.token({ main: permissions }, { expiresAtMs });
    return (await server.send("POST", `${API}${url}`, { token: weak })).status;
  };
  expect(await status("/views/main/gc", "delete", "configure")).toBe(403);
  expect(await status("/views/main/gc", "configureRetention")).toBe(403);
  expect(await status("/views/side/gc", "delete", "configureRetention")).toBe(401);
  expect(await status("/gc", "delete", "configureRetention")).toBe(403);
  expect(await status("/views/main/gc?dryRun=yes", "delete", "configureRetention")).toBe(400);
  expect(await present("main", paths)).toEqual(["libc"]);

  expect(await status("/views/main/gc", "delete", "configureRetention")).toBe(200);
  expect(await present("main", paths)).toEqual([]);
  const all = await server.send("POST", `${API}/gc`, { token });
  expect(all.json()).toMatchObject({
    dryRun: false,
    views: [
      { view: "main", deleted: 0 },
      { view: "side", deleted: 1 },
    ],
  });
});

test("the limits of a view need their permission, are shown, and go back to the default", async () => {
  await using cache = await setUp();
  const { server, token, configure } = cache;
  const changes = { maxSizeBytes: 2 ** 40, retentionSeconds: 60, compressionLevel: 9 };
  const weak = await server.token({ main: ["configure"] });
  const patch = async (body: unknown): Promise<number> =>
    (await postJson(server, weak, `${API}/views/main`, body, "PATCH")).status;
  expect(await patch({ compressionLevel: 9 })).toBe(200);
  expect(await patch({ maxSizeBytes: 1 })).toBe(403);
  expect(await patch({ retentionSeconds: 1 })).toBe(403);
  expect(await patch({})).toBe(400);
  expect(await patch({ compressionLevel: 20 })).toBe(400);
  expect(await patch({ isPublic: true })).toBe(400);

  expect((await configure("main", changes)).json()).toMatchObject({ name: "main", ...changes });
  const list = async (): Promise<unknown> =>
    (await server.send("GET", `${API}/views`, { token })).json()["views"];
  expect(await list()).toMatchObject([{ name: "main", ...changes }, { name: "side" }]);
  const config = (): Promise<TestAnswer> =>
    server.send("GET", "/_api/v1/cache-config/main", { token });
  expect((await config()).json()).toMatchObject({
    retention_period: { Period: 60 },
    flywheel: { maxSizeBytes: 2 ** 40, compressionLevel: 9 },
  });

  await configure("main", { maxSizeBytes: null, retentionSeconds: null, compressionLevel: null });
  const { retention_period: period, flywheel } = (await config()).json();
  expect(period).toBe("Global");
  expect(flywheel).toMatchObject({ compressionLevel: 3 });
  expect(flywheel).not.toHaveProperty("maxSizeBytes");
});

test("the server encodes at the view's level", async () => {
  await using cache = await setUp();
  const { server, token, configure } = cache;
  const contents = Array.from({ length: 20_000 }, (_, line) => `${line * 7919} ${line % 97}`);
  const path = await createTestPath("numbers", contents.join("\n"));
  await configure("side", { compressionLevel: 15 });
  const [low, high] = [await encode(path, 3), await encode(path, 15)];
  expect(high.length).toBeLessThan(low.length);

  for (const [view, encoded] of [
    ["main", low],
    ["side", high],
  ] as const) {
    await pushAttic(server, token, view, path);
    const nar = await server.send("GET", `/${view}/nar/${path.storePathHash}.nar`, { token });
    expect(nar.body.equals(encoded)).toBe(true);
  }
});

test("collections are counted", async () => {
  await using cache = await setUp();
  const { server, token, pass, configure, collect } = cache;
  await pushClosure(server, token, "main", Object.values(await createGraph(GRAPH)));
  await configure("main", { retentionSeconds: 60 });
  await pass(DAY_MS);
  await collect("main", true);
  const { freedBytes } = await collect("main");

  const { text } = await server.send("GET", "/metrics");
  expect(text).toContain('flywheel_gc_runs_total{result="completed"} 1');
  expect(text).toContain("flywheel_gc_deleted_paths_total 5");
  expect(text).toContain(`flywheel_gc_freed_bytes_total ${String(freedBytes)}`);
  expect(text).toContain("flywheel_gc_seconds_count 1");
  expect(text).toMatch(/flywheel_gc_last_success_timestamp_seconds 1[0-9.e+]+/);
});

test("the server collects by itself, soon after its start", async () => {
  await using cache = await setUp({ collectIntervalMs: "200ms" });
  const { server, token, pass, configure, present } = cache;
  const paths = await createGraph(GRAPH);
  await pushClosure(server, token, "main", Object.values(paths));
  await configure("main", { retentionSeconds: 60 });
  await pass(DAY_MS);

  await expect.poll(() => present("main", paths)).toEqual([]);
});

test("the name of a destroyed view is free at once, and comes back empty", async () => {
  await using cache = await setUp();
  const { server, token } = cache;
  const paths = await createGraph(GRAPH);
  await pushClosure(server, token, "main", Object.values(paths));
  const config = "/_api/v1/cache-config/main";
  expect((await server.send("DELETE", config, { token })).status).toBe(200);
  expect((await server.send("GET", config, { token })).status).toBe(404);

  const body = {
    keypair: "Generate",
    is_public: false,
    store_dir: "/nix/store",
    priority: 41,
    upstream_cache_key_names: [],
  };
  expect((await postJson(server, token, config, body)).status).toBe(200);
  const { storePathHash } = paths["libc"] as TestPath;
  const narInfo = await server.send("GET", `/main/${storePathHash}.narinfo`, { token });
  expect(narInfo.status).toBe(404);
  const stats = await server.send("GET", `${API}/views/main/stats`, { token });
  expect(stats.json()).toMatchObject({ paths: 0, nars: 0, uploads: 0 });
  await cache.sweep();
  expect(await server.index.checkConsistency()).toEqual([]);
});
