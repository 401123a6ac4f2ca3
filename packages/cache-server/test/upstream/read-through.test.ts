import { randomBytes } from "node:crypto";
import { readdir } from "node:fs/promises";
import { request } from "node:http";
import { join } from "node:path";
import { gunzipSync, brotliDecompressSync, zstdDecompressSync } from "node:zlib";

import { CacheError } from "@glorious/core";
import { parseHash, parseNarInfo } from "@glorious/nix-store";
import { describe, expect, test } from "vitest";

import { createTestPath, type TestPath } from "../test-path.ts";
import { sha256, startTestServer, type TestAnswer } from "../test-server.ts";
import { postJson } from "../uploads.ts";
import { sendFile, startFakeUpstream } from "./fake-upstream.ts";
import { attach, type ReadThrough, startReadThrough } from "./read-through.ts";

const DECODE = {
  none: (bytes: Buffer) => bytes,
  zstd: zstdDecompressSync,
  gzip: gunzipSync,
  br: brotliDecompressSync,
};

/** Larger than what is held back, and nothing that compresses. */
function createLargePath(name = "large"): Promise<TestPath> {
  return createTestPath(name, randomBytes(600_000));
}

async function requireNarInfo(world: ReadThrough, path: TestPath): Promise<string> {
  const text = await world.narInfo(path.storePathHash);
  if (text === undefined) throw new Error(`There is no narinfo of ${path.storePath}`);
  return text;
}

/** Waits until what was fetched is in the index, where the upstream is not needed any more. */
async function untilStored({ server, record }: ReadThrough, path: TestPath): Promise<void> {
  await expect.poll(() => server.index.findPath([record.viewId], path.storePathHash)).toBeDefined();
}

/** Waits until what came in another encoding is kept in zstd. */
async function untilInZstd(world: ReadThrough, path: TestPath): Promise<void> {
  await expect
    .poll(async () => parseNarInfo(await requireNarInfo(world, path)).compression)
    .toBe("zstd");
}

async function requireListing({ server }: ReadThrough, path: TestPath): Promise<TestAnswer> {
  const answer = await server.send("GET", `/main/${path.storePathHash}.ls`);
  expect(answer.status).toBe(200);
  return answer;
}

/** Asserts that the upstream's hidden view holds nothing. */
async function expectNothingStored({ server, record }: ReadThrough): Promise<void> {
  expect(await server.index.viewStats(record.viewId)).toMatchObject({ paths: 0, nars: 0 });
  expect(await Array.fromAsync(server.store.list("nar/"))).toEqual([]);
}

describe.each(["none", "zstd", "gzip", "br"] as const)(
  "a path that is upstream in %s",
  (compression) => {
    test("is served as it comes, kept in zstd, and needs the upstream no more", async () => {
      await using world = await startReadThrough({}, { timings: { reencodeQuietMs: 0 } });
      const { upstream, server } = world;
      const path = await createTestPath("hello", "hello ".repeat(50_000));
      const theirs = await upstream.add(path, { compression });

      const first = await requireNarInfo(world, path);
      expect(parseNarInfo(first)).toMatchObject({ compression, signatures: theirs.signatures });
      const file = await world.nar(first);
      expect(DECODE[compression](file)).toEqual(path.nar);

      await untilStored(world, path);
      await upstream[Symbol.asyncDispose]();
      await untilInZstd(world, path);
      const second = parseNarInfo(await requireNarInfo(world, path));
      expect(second).toMatchObject({ compression: "zstd", signatures: theirs.signatures });
      expect(zstdDecompressSync(await world.nar(await requireNarInfo(world, path)))).toEqual(
        path.nar,
      );
      // Who has the upstream's narinfo still gets the file that it names.
      expect(await world.nar(first)).toEqual(file);
      expect(world.reasons()).toEqual([]);
      expect(await readdir(join(server.directory, "upstream"))).toEqual([]);
      expect(await server.index.checkConsistency()).toEqual([]);
    });

    test("is kept as it came by a server that is told so", async () => {
      await using world = await startReadThrough(
        { upstreamEncoding: "as-is" },
        { timings: { reencodeQuietMs: 0 } },
      );
      const path = await createTestPath("hello", "hello ".repeat(50_000));
      await world.upstream.add(path, { compression });
      const first = await requireNarInfo(world, path);
      const file = await world.nar(first);
      await untilStored(world, path);
      await world.upstream[Symbol.asyncDispose]();

      // By a name of its own, and the same file.
      const second = await requireNarInfo(world, path);
      expect({ ...parseNarInfo(second), url: "" }).toEqual({ ...parseNarInfo(first), url: "" });
      expect(await world.nar(second)).toEqual(file);
      expect(await world.nar(first)).toEqual(file);
      expect(JSON.parse((await requireListing(world, path)).text)).toMatchObject({ version: 1 });
      expect(await world.server.index.checkConsistency()).toEqual([]);
    });
  },
);

test("a file whose hash is not known beforehand goes by its path's name", async () => {
  await using world = await startReadThrough();
  const path = await createTestPath("hello", "hello ".repeat(50_000));
  await world.upstream.add(path, { compression: "gzip", withoutFileHash: true });
  const text = await requireNarInfo(world, path);
  expect(parseNarInfo(text).url).toBe(`nar/${path.storePathHash}.nar.gz`);
  expect(gunzipSync(await world.nar(text))).toEqual(path.nar);
  await untilStored(world, path);
  // The path is there in another compression now; the name still means this one.
  expect(gunzipSync(await world.nar(text))).toEqual(path.nar);
});

test("64 clients that ask for one cold path cost one narinfo and one download", async () => {
  await using world = await startReadThrough();
  const path = await createLargePath();
  const { url } = await world.upstream.add(path);
  const files = await Promise.all(
    Array.from({ length: 64 }, async () => world.nar(await requireNarInfo(world, path))),
  );
  expect(new Set(files.map(sha256)).size).toBe(1);
  expect(zstdDecompressSync(files[0] ?? Buffer.alloc(0))).toEqual(path.nar);
  expect(world.upstream.count(`/${path.storePathHash}.narinfo`)).toBe(1);
  expect(world.upstream.count(`/${url}`)).toBe(1);
});

test("a part of a NAR that is still coming can be asked for", async () => {
  await using world = await startReadThrough();
  const path = await createLargePath();
  const { url } = await world.upstream.add(path, { compression: "none" });
  let finish = (): void => {};
  world.upstream.conduct(`/${url}`, (response) => {
    response.writeHead(200, { "content-length": path.nar.length });
    response.write(path.nar.subarray(0, 300_000));
    finish = () => response.end(path.nar.subarray(300_000));
  });
  const text = await requireNarInfo(world, path);
  const whole = world.nar(text);
  const part = world.server.send("GET", `/main/${parseNarInfo(text).url}`, {
    headers: { range: "bytes=100000-100099" },
  });
  expect(await part).toMatchObject({ status: 206, body: path.nar.subarray(100_000, 100_100) });
  finish();
  expect(await whole).toEqual(path.nar);
});

test("clients that go away do not end the download, and when all go it is stored all the same", async () => {
  await using world = await startReadThrough();
  const path = await createLargePath();
  const { url } = await world.upstream.add(path, { compression: "none" });
  let finish = (): void => {};
  world.upstream.conduct(`/${url}`, (response) => {
    response.writeHead(200, { "content-length": path.nar.length });
    response.write(path.nar.subarray(0, 300_000));
    finish = () => response.end(path.nar.subarray(300_000));
  });
  const text = await requireNarInfo(world, path);
  await new Promise<void>((resolve, reject) => {
    const impatient = request(`${world.server.url}/main/${parseNarInfo(text).url}`, (response) => {
      response.once("data", () => {
        impatient.destroy();
        resolve();
      });
    });
    impatient.on("error", reject);
    impatient.end();
  });
  finish();
  await untilStored(world, path);
  expect(world.upstream.count(`/${url}`)).toBe(1);
});

test("a connection that breaks in the middle is resumed, and no client sees it", async () => {
  await using world = await startReadThrough();
  const path = await createLargePath();
  const { url } = await world.upstream.add(path, { compression: "none" });
  world.upstream.conduct(`/${url}`, (response, headers) => {
    if (headers.range !== undefined) {
      sendFile(response, headers, path.nar);
      return;
    }
    response.writeHead(200, { "content-length": path.nar.length, "accept-ranges": "bytes" });
    response.write(path.nar.subarray(0, 300_000), () => setTimeout(() => response.destroy(), 20));
  });
  expect(await world.nar(await requireNarInfo(world, path))).toEqual(path.nar);
  expect(world.reasons()).toEqual([]);
});

describe("what is not right is a miss, and nothing of it is kept", () => {
  test.each<[string, (nar: Buffer) => Buffer]>([
    ["other bytes", (nar) => Buffer.alloc(nar.length)],
    ["another last byte", (nar) => Buffer.concat([nar.subarray(0, -1), Buffer.from([1])])],
  ])("a small NAR of %s is not found", async (_title, lie) => {
    await using world = await startReadThrough();
    const path = await createTestPath("hello");
    const { url } = await world.upstream.add(path, { compression: "none" });
    world.upstream.files.set(`/${url}`, lie(path.nar));
    const text = await requireNarInfo(world, path);
    expect((await world.server.send("GET", `/main/${parseNarInfo(text).url}`)).status).toBe(404);
    await expect.poll(() => world.reasons()).toHaveLength(1);
    expect(world.reasons()[0]).toMatch(/^(file|nar)-hash$/);
    await expectNothingStored(world);
    // It is not promised again.
    await expect.poll(() => world.narInfo(path.storePathHash)).toBeUndefined();
  });

  test("a large one is cut before its end", async () => {
    await using world = await startReadThrough();
    const path = await createLargePath();
    const { url } = await world.upstream.add(path, { compression: "none" });
    const wrong = Buffer.from(path.nar);
    wrong[wrong.length - 20_000] = 255 - (wrong.at(-20_000) ?? 0);
    world.upstream.files.set(`/${url}`, wrong);
    const text = await requireNarInfo(world, path);
    await expect(world.nar(text)).rejects.toThrow(/aborted|socket hang up|ECONNRESET/);
    await expect.poll(() => world.reasons()).toHaveLength(1);
    await expectNothingStored(world);
  });

  test("a file that is what its narinfo names, but not the NAR that was signed", async () => {
    await using world = await startReadThrough();
    const path = await createTestPath("hello");
    const other = await createTestPath("other");
    await world.upstream.add(path, {
      compression: "gzip",
      signed: { narHash: parseHash(other.narHash, "sha256") },
    });
    const text = await requireNarInfo(world, path);
    expect((await world.server.send("GET", `/main/${parseNarInfo(text).url}`)).status).toBe(404);
    await expect.poll(() => world.reasons()).toEqual(["nar-hash"]);
    await expectNothingStored(world);
  });

  test("a narinfo whose NAR is not there is not promised again", async () => {
    await using world = await startReadThrough();
    const path = await createTestPath("hello");
    const { url } = await world.upstream.add(path);
    world.upstream.files.delete(`/${url}`);
    const text = await requireNarInfo(world, path);
    expect((await world.server.send("GET", `/main/${parseNarInfo(text).url}`)).status).toBe(404);
    await expect.poll(() => world.reasons()).toEqual(["nar-missing"]);
    await expect.poll(() => world.narInfo(path.storePathHash)).toBeUndefined();
  });

  test("a narinfo with another key", async () => {
    await using world = await startReadThrough();
    const path = await createTestPath("hello");
    await world.upstream.add(path, { key: "none" });
    expect(await world.narInfo(path.storePathHash)).toBeUndefined();
    expect(await world.narInfo(path.storePathHash)).toBeUndefined();
    expect(world.reasons()).toEqual(["unsigned"]);
    const metrics = await world.server.send("GET", "/metrics");
    expect(metrics.text).toContain(
      'flywheel_upstream_faults_total{upstream="fake",reason="unsigned"} 1',
    );
  });
});

test("a server that cannot keep a NAR has verified it, and sends it on", async () => {
  let isFull = true;
  await using world = await startReadThrough(
    {},
    {
      wrapStore: (store) =>
        new Proxy(store, {
          get(target, name) {
            if (name === "adopt" && isFull) {
              return () => Promise.reject(new CacheError("STORAGE_FULL", "The disk is full"));
            }
            const value: unknown = Reflect.get(target, name);
            return typeof value === "function" ? value.bind(target) : value;
          },
        }),
    },
  );
  const path = await createTestPath("hello");
  await world.upstream.add(path);
  const text = await requireNarInfo(world, path);
  expect(zstdDecompressSync(await world.nar(text))).toEqual(path.nar);
  await expect.poll(() => world.reasons()).toEqual(["storage"]);
  await expectNothingStored(world);
  isFull = false;
  expect(zstdDecompressSync(await world.nar(await requireNarInfo(world, path)))).toEqual(path.nar);
  await untilStored(world, path);
});

describe("look-ups", () => {
  test("what is absent is asked for once in its time, and what is there is not asked for again", async () => {
    await using world = await startReadThrough({
      upstreamNegativeTtlMs: "1m",
      upstreamPositiveTtlMs: "1h",
    });
    const absent = await createTestPath("absent");
    const present = await createTestPath("present");
    await world.upstream.add(present);
    const asked = (path: TestPath): number =>
      world.upstream.count(`/${path.storePathHash}.narinfo`);
    for (let count = 0; count < 3; count += 1) {
      expect(await world.narInfo(absent.storePathHash)).toBeUndefined();
      await requireNarInfo(world, present);
    }
    expect([asked(absent), asked(present)]).toEqual([1, 1]);
    world.server.advance(61_000);
    await world.narInfo(absent.storePathHash);
    await requireNarInfo(world, present);
    expect([asked(absent), asked(present)]).toEqual([2, 1]);
    world.server.advance(3_600_000);
    await requireNarInfo(world, present);
    expect(asked(present)).toBe(2);
  });

  test("answers outlive the server", async () => {
    await using world = await startReadThrough();
    const path = await createTestPath("hello");
    await world.upstream.add(path);
    const text = await requireNarInfo(world, path);
    await world.server.stop();
    await using again = await startTestServer({}, { directory: world.server.directory });
    expect((await again.send("GET", `/main/${path.storePathHash}.narinfo`)).text).toBe(text);
    expect(world.upstream.count(`/${path.storePathHash}.narinfo`)).toBe(1);
    const nar = await again.send("GET", `/main/${parseNarInfo(text).url}`);
    expect(zstdDecompressSync(nar.body)).toEqual(path.nar);
  });

  test("a NAR is found by its narinfo when the server has forgotten what its upstream said", async () => {
    await using world = await startReadThrough();
    await using second = await startFakeUpstream();
    const record = await attach(world.server, second, "main", { name: "second", priority: 50 });
    const path = await createTestPath("hello");
    await second.add(path, { compression: "gzip" });
    const text = await requireNarInfo(world, path);
    // The preferred upstream comes to have it in another file: that is not what the narinfo names.
    await world.upstream.add(path, { compression: "br" });
    await world.server.stop();
    await using again = await startTestServer({}, { directory: world.server.directory });
    await again.index.removeUpstreamPath(record.viewId, path.storePathHash);

    const nar = await again.send("GET", `/main/${parseNarInfo(text).url}`);
    expect(nar.status).toBe(200);
    expect(gunzipSync(nar.body)).toEqual(path.nar);
    const other = parseNarInfo(text).url.replace(/-.*?\./, `-${"0".repeat(52)}.`);
    expect((await again.send("GET", `/main/${other}`)).status).toBe(404);
  });

  test("of two upstreams the preferred one answers, and the other where that has nothing", async () => {
    await using world = await startReadThrough();
    await using second = await startFakeUpstream();
    await attach(world.server, second, "main", { name: "second", priority: 50 });
    const both = await createTestPath("both");
    const one = await createTestPath("one");
    const { signatures } = await world.upstream.add(both);
    await second.add(both, { compression: "none" });
    await second.add(one);
    expect(parseNarInfo(await requireNarInfo(world, both))).toMatchObject({
      compression: "zstd",
      signatures,
    });
    await requireNarInfo(world, one);
    await world.upstream[Symbol.asyncDispose]();
    expect(await world.narInfo((await createTestPath("none")).storePathHash)).toBeUndefined();
  });

  test("a path whose NAR is still to be fetched is a miss while its upstream is left alone", async () => {
    await using world = await startReadThrough();
    const path = await createTestPath("hello");
    await world.upstream.add(path);
    await requireNarInfo(world, path);
    const tired = await createTestPath("tired");
    world.upstream.conduct(`/${tired.storePathHash}.narinfo`, (response) =>
      response.writeHead(429, { "retry-after": "60" }).end(),
    );
    await world.narInfo(tired.storePathHash);
    expect(await world.narInfo(path.storePathHash)).toBeUndefined();
  });

  test("with the upstreams turned off, what was fetched is served and nobody is asked", async () => {
    await using world = await startReadThrough();
    const path = await createTestPath("hello");
    const other = await createTestPath("other");
    await world.upstream.add(path);
    await world.upstream.add(other);
    await world.nar(await requireNarInfo(world, path));
    await untilStored(world, path);
    await world.server.stop();
    const { directory } = world.server;
    await using off = await startTestServer({ upstreamEnabled: "false" }, { directory });
    const before = world.upstream.requests.length;
    const statusOf = async ({ storePathHash }: TestPath): Promise<number> =>
      (await off.send("GET", `/main/${storePathHash}.narinfo`)).status;
    expect([await statusOf(path), await statusOf(other)]).toEqual([200, 404]);
    expect(world.upstream.requests).toHaveLength(before);
  });
});

test.each([1, 2])(
  "%i servers that name each other in a circle do not ask in circles",
  async (count) => {
    await using opened = new AsyncDisposableStack();
    const servers = await Promise.all(
      Array.from({ length: count }, async () => opened.use(await startTestServer())),
    );
    for (const server of servers) await server.createView("main", { isPublic: true });
    for (const [position, server] of servers.entries()) {
      const next = servers[(position + 1) % count] ?? server;
      const url = `${next.url}/main/`;
      const keys = await next.index.listSigningKeys((await next.index.findView("main"))?.id ?? 0);
      await attach(server, { url, publicKey: keys[0]?.publicKey ?? "" }, "main");
    }
    const [first] = servers;
    const path = await createTestPath("nowhere");
    for (const name of [
      `${path.storePathHash}.narinfo`,
      `${path.storePathHash}.ls`,
      "log/nothing.drv",
    ]) {
      expect((await first?.send("GET", `/main/${name}`))?.status).toBe(404);
    }
    for (const { logs } of servers) {
      expect(logs.filter(({ level }) => level === "warn" || level === "error")).toEqual([]);
    }
  },
);

describe("trust", () => {
  test("a view that signs what is upstream's adds its signature, before and after it is stored", async () => {
    await using world = await startReadThrough();
    const { server } = world;
    await server.index.updateView("main", { signsUpstream: true });
    const path = await createTestPath("hello");
    const { signatures } = await world.upstream.add(path);
    const view = await server.index.findView("main");
    const [key] = await server.index.listSigningKeys(view?.id ?? 0);
    for (const _ of ["coming", "stored"]) {
      const info = parseNarInfo(await requireNarInfo(world, path));
      expect(info.signatures).toHaveLength(2);
      expect(info.signatures[0]?.startsWith(`${key?.name}:`)).toBe(true);
      expect(info.signatures[1]).toBe(signatures[0]);
      await world.nar(await requireNarInfo(world, path));
      await untilStored(world, path);
    }
  });

  test("a view without the upstream learns nothing of what was fetched for another", async () => {
    await using world = await startReadThrough();
    await world.server.createView("other", { isPublic: true });
    const path = await createTestPath("hello");
    await world.upstream.add(path);
    const text = await requireNarInfo(world, path);
    await world.nar(text);
    await untilStored(world, path);
    const stored = parseNarInfo(await requireNarInfo(world, path)).url;
    for (const name of [`${path.storePathHash}.narinfo`, parseNarInfo(text).url, stored]) {
      expect((await world.server.send("GET", `/other/${name}`)).status).toBe(404);
    }
  });

  test("what an upstream has counts as nobody's possession", async () => {
    await using world = await startReadThrough();
    const { server } = world;
    const path = await createTestPath("hello");
    await world.upstream.add(path);
    await world.nar(await requireNarInfo(world, path));
    await untilStored(world, path);
    const token = await server.token({ main: ["pull", "push"] });
    const { url } = parseNarInfo(await requireNarInfo(world, path));
    expect((await server.send("HEAD", `/main/${url}`, { token })).status).toBe(404);
    await server.index.updateView("main", { pushesUpstream: true });
    const { storePathHash, narHash } = path;
    const missing = await postJson(server, token, "/_flywheel/v1/views/main/missing", {
      paths: [{ storePathHash, narHash }],
    });
    expect(missing.json()).toMatchObject({ missingPaths: [storePathHash], missingNars: [narHash] });
  });
});
