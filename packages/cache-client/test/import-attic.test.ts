import { spawnSync } from "node:child_process";
import { readFile, rename, rm, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";

import {
  formatSecretKey,
  narInfoFingerprint,
  parseHash,
  secretKeyFromSeed,
  signFingerprint,
} from "@glorious/nix-store";
import {
  type AtticServerData,
  type AtticServerDataOptions,
  createAtticServerData,
} from "@glorious/testkit";
import { expect, test } from "vitest";

import {
  type AtticDatabase,
  importPaths,
  openAtticDatabase,
  openAtticSource,
  openCache,
  type TransferSummary,
} from "../src/index.ts";
import { type FlywheelWire, startFlywheelWire } from "./flywheel-wire.ts";
import { createTemporaryDirectory } from "./paths.ts";
import { addStaticPath, SOURCE_KEY, type StaticPath } from "./static-cache.ts";
import { sendJson, startWire } from "./wire.ts";

const TEAM_KEY = secretKeyFromSeed("team", Buffer.alloc(32, 3));

interface Bench extends AsyncDisposable {
  readonly folder: string;
  readonly data: AtticServerData;
  readonly view: FlywheelWire;
  readonly failures: string[];
  openDatabase(): Promise<AtticDatabase>;
  path(name: string, references?: readonly StaticPath[], sizeBytes?: number): Promise<StaticPath>;
  importAll(database: AtticDatabase, cache?: string): Promise<TransferSummary>;
}

async function startBench(options: AtticServerDataOptions = {}): Promise<Bench> {
  await using opened = new AsyncDisposableStack();
  const folder = opened.use(await createTemporaryDirectory()).path;
  const data = opened.use(await createAtticServerData(folder, options));
  data.addCache({ name: "team", keypair: formatSecretKey(TEAM_KEY) });
  const view: FlywheelWire = opened.use(
    await startFlywheelWire({
      intercept: async (request, response) => {
        if (request.path !== "/_api/v1/get-missing-paths") return false;
        const asked = (await request.json()) as { store_path_hashes: string[] };
        const missing = asked.store_path_hashes.filter((hash) => !view.state.paths.has(hash));
        return sendJson(response, 200, { missing_paths: missing });
      },
    }),
  );
  const failures: string[] = [];
  const owned = opened.move();
  return {
    folder,
    data,
    view,
    failures,
    openDatabase: () => openAtticDatabase(data.databaseFile),
    path: (name, references = [], sizeBytes = 200_000) =>
      addStaticPath(join(folder, "made"), name, {
        references,
        contents: Buffer.alloc(sizeBytes, name),
      }),
    importAll: async (database, cache = "team") => {
      await using target = await openCache({ server: view.url, view: "main" });
      const source = database.openSource(cache, data.storage);
      return await importPaths({
        source,
        cache: target,
        roots: source.list(),
        followsReferences: true,
        onEvent: (event) => {
          if (event.type === "failed") failures.push(event.error.message);
        },
      });
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** Adds a path, in chunks of 64 KiB. */
function add(
  { data }: Bench,
  path: StaticPath,
  references: readonly StaticPath[] = [],
  options: Partial<Parameters<AtticServerData["addPath"]>[1]> = {},
): Promise<string[]> {
  const { storePath, nar } = path;
  const names = references.map(({ baseName }) => baseName);
  return data.addPath("team", { storePath, nar, references: names, ...options });
}

test("a database gives its caches with their settings, keys and pins, without those that were deleted", async () => {
  await using bench = await startBench();
  bench.data.addCache({
    name: "public",
    keypair: formatSecretKey(secretKeyFromSeed("public", Buffer.alloc(32, 4))),
    isPublic: true,
    priority: 30,
    upstreamCacheKeyNames: ["cache.nixos.org-1"],
    retentionSeconds: 86_400,
  });
  bench.data.addCache({ name: "gone", keypair: formatSecretKey(TEAM_KEY), isDeleted: true });
  {
    using database = await bench.openDatabase();
    const [first, second, ...others] = database.listCaches();
    expect(others).toEqual([]);
    expect(first).toMatchObject({
      name: "public",
      config: {
        isPublic: true,
        storeDir: "/nix/store",
        priority: 30,
        upstreamCacheKeyNames: ["cache.nixos.org-1"],
        retentionPeriod: { seconds: 86_400 },
      },
    });
    expect(second).toMatchObject({
      name: "team",
      config: { isPublic: false, retentionPeriod: "global" },
      secretKey: formatSecretKey(TEAM_KEY),
      pins: new Map(),
    });
    expect(() => database.openSource("gone", bench.data.storage)).toThrow('no cache "gone"');
  }
  const a = await bench.path("a");
  bench.data.addPin("team", "release", a.storePath);
  using database = await bench.openDatabase();
  expect(database.listCaches()[1]?.pins).toEqual(new Map([["release", a.storePath]]));
});

const XZ = spawnSync("xz", ["--version"]).status === 0;

test.each(["folder", "bucket"] as const)(
  "NARs come from the chunks of a storage that is a %s, in each of Attic's compressions",
  async (storage) => {
    await using bench = await startBench({ storage });
    const compressions = ["none", "zstd", "br", ...(XZ ? (["xz"] as const) : [])] as const;
    const paths: StaticPath[] = [];
    for (const compression of compressions) {
      const path = await bench.path(compression, [], 300_000);
      const files = await add(bench, path, [], { compression });
      expect(files.length).toBeGreaterThan(4);
      paths.push(path);
    }
    using database = await bench.openDatabase();
    const summary = await bench.importAll(database);
    expect([summary.added, bench.failures]).toEqual([paths.length, []]);
    const narHashes = paths.map(({ narHash }) => narHash);
    expect(new Set(bench.view.state.nars.keys())).toEqual(new Set(narHashes));
  },
);

test("a chunk in xz that is cut short or damaged is named, and its path left out", async ({
  skip,
}) => {
  if (!XZ) skip("the program xz is not installed");
  await using bench = await startBench({ storage: "bucket" });
  const [cut, damaged, whole] = [
    await bench.path("cut"),
    await bench.path("damaged"),
    await bench.path("whole"),
  ];
  const [, second = ""] = await add(bench, cut, [], { compression: "xz" });
  await truncate(second, 40);
  const [first = ""] = await add(bench, damaged, [], { compression: "xz" });
  const bytes = await readFile(first);
  await writeFile(first, bytes.fill(0x55, 30, 40));
  await add(bench, whole, [], { compression: "xz" });
  using database = await bench.openDatabase();
  expect(await bench.importAll(database)).toMatchObject({ added: 1, failed: 2 });
  expect(bench.failures.join()).toMatch(/xz stream is (cut short|damaged)/);
  expect([...bench.view.state.nars.keys()]).toEqual([whole.narHash]);
});

test("NARs are put together from their chunks, in whatever compression and layout", async () => {
  await using bench = await startBench();
  const a = await bench.path("a");
  const b = await bench.path("b", [a]);
  const c = await bench.path("c", [a, b], 10);
  await add(bench, a);
  await add(bench, b, [a], { compression: "br" });
  const [only = ""] = await add(bench, c, [a, b], {
    compression: "none",
    signatures: ["someone-1:AAAA"],
  });
  // As servers of before 2023 have it.
  await rename(only, join(bench.data.storage, only.slice(only.lastIndexOf("/") + 1)));
  using database = await bench.openDatabase();

  expect(await bench.importAll(database)).toMatchObject({ paths: 3, added: 3, failed: 0 });
  expect(new Set(bench.view.state.nars.keys())).toEqual(
    new Set([a, b, c].map(({ narHash }) => narHash)),
  );
  const paths = bench.view.state.commits.flatMap((commit) => commit.paths);
  expect(paths.find(({ storePath }) => storePath === c.storePath)).toMatchObject({
    references: [a, b].map(({ baseName }) => baseName),
    signatures: ["someone-1:AAAA"],
  });
});

test("what has lost a chunk, was never finished or lies wrong is named, and the rest comes", async () => {
  await using bench = await startBench();
  const [lost, missing, pending, damaged, good] = (await Promise.all(
    ["lost", "missing", "pending", "damaged", "good"].map((name) => bench.path(name)),
  )) as [StaticPath, StaticPath, StaticPath, StaticPath, StaticPath];
  const needing = await bench.path("needing", [lost]);
  await bench.data.forgetChunk((await add(bench, lost))[2] ?? "");
  await rm((await add(bench, missing))[1] ?? "");
  await add(bench, pending, [], { isPending: true });
  const [, , changed = ""] = await add(bench, damaged, [], { compression: "none" });
  await writeFile(changed, Buffer.alloc(65_536, "other"));
  await add(bench, good);
  await add(bench, needing, [lost]);
  using database = await bench.openDatabase();

  const summary = await bench.importAll(database);

  expect(summary).toMatchObject({ paths: 6, added: 1, failed: 5 });
  expect(bench.failures).toHaveLength(5);
  expect(bench.failures).toEqual(
    expect.arrayContaining([
      `${lost.storePath}: chunk 3 of 4 is not in the database any more`,
      `${missing.storePath}: chunk 2 of 4 is missing in ${bench.data.storage}`,
      `${needing.storePath} is left out: it refers to ${lost.baseName}, which cannot be had`,
      `The upload of ${pending.storePath} was never finished`,
      expect.stringContaining(`${damaged.storePath}: the source's NAR hashes to sha256:`),
    ]),
  );
});

test("a file that is no Attic's is refused", async () => {
  await using bench = await startBench();
  const path = await bench.path("a");
  await expect(openAtticDatabase(join(bench.folder, "none"))).rejects.toMatchObject({
    code: "NOT_FOUND",
  });
  await expect(openAtticDatabase(join(bench.folder, "made", path.url))).rejects.toMatchObject({
    code: "UNSUPPORTED",
  });
});

/** Answers as atticd does: the hash in hex, no file hash, nothing behind an empty list, a NAR of several frames. */
async function startAttic(folder: string, paths: readonly StaticPath[]) {
  return startWire(async (request, response) => {
    if (request.headers.authorization !== "Bearer attic-token") {
      const message = "Unauthorized.";
      return sendJson(response, 401, { code: 401, error: "Unauthorized", message });
    }
    if (request.path === "/_api/v1/cache-config/team") {
      return sendJson(response, 200, {
        substituter_endpoint: "http://internal:8080/team",
        api_endpoint: "http://internal:8080/",
        public_key: SOURCE_KEY,
        is_public: false,
        store_dir: "/nix/store",
        priority: 41,
        upstream_cache_key_names: ["cache.nixos.org-1"],
        retention_period: { Period: 3600 },
      });
    }
    if (request.path === "/team/nix-cache-info") {
      return response.end("WantMassQuery: 1\nStoreDir: /nix/store\nPriority: 41\n");
    }
    const path = paths.find(({ hash }) => request.path.includes(hash));
    if (path === undefined) return response.writeHead(404).end();
    if (request.path === `/team/nar/${path.hash}.nar`) {
      return response.end(await readFile(join(folder, path.url)));
    }
    const sig = /^Sig: .*$/m.exec(path.narInfo)?.[0];
    const references = /^References: (.*)$/m.exec(path.narInfo)?.[1] ?? "";
    return response.end(
      `StorePath: ${path.storePath}\nURL: nar/${path.hash}.nar\nCompression: zstd\n` +
        `NarHash: sha256:${path.narHash}\nNarSize: ${path.nar.length}\n` +
        `References:${references === "" ? "" : ` ${references}`}\n${sig}\n`,
    );
  });
}

test("an Attic server's cache comes over its API, with its token, its key and its settings", async () => {
  await using bench = await startBench();
  const a = await bench.path("a");
  const b = await bench.path("b", [a]);
  await using attic = await startAttic(join(bench.folder, "made"), [a, b]);
  const ask = { server: attic.url, cache: "team", keys: undefined };
  await expect(openAtticSource({ ...ask, token: "wrong" })).rejects.toMatchObject({
    code: "UNAUTHENTICATED",
  });

  const { source, config } = await openAtticSource({ ...ask, token: "attic-token" });
  await using _ = source;
  expect(config).toMatchObject({ isPublic: false, retentionPeriod: { seconds: 3600 } });
  await using cache = await openCache({ server: bench.view.url, view: "main" });
  const summary = await importPaths({ source, cache, roots: [b.hash], followsReferences: true });

  expect(summary).toMatchObject({ added: 2, failed: 0 });
  const [commit] = bench.view.state.commits;
  const facts = { storePath: a.storePath, narSize: a.nar.length, references: [] };
  const fingerprint = narInfoFingerprint({ ...facts, narHash: parseHash(a.narHash, "sha256") });
  const secret = secretKeyFromSeed("source-1", Buffer.alloc(32, 1));
  expect(commit?.paths.find(({ storePath }) => storePath === a.storePath)?.signatures).toEqual([
    signFingerprint(secret, fingerprint),
  ]);
});
