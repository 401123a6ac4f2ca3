import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { zstdDecompressSync } from "node:zlib";

import { silentLogger } from "@glorious/core";
import { expect, test } from "vitest";

import { createQuarantine } from "../src/housekeeping/quarantine.ts";
import { sweep } from "../src/housekeeping/sweeper.ts";
import type { CacheIndex } from "../src/index/cache-index.ts";
import { DAMAGES, damageObject, findObjectFile } from "./damage.ts";
import { compressNar, DAY_MS, listStoreFiles, openNixClient } from "./nix-client.ts";
import { createTestPath, type TestPath } from "./test-path.ts";
import { startTestServer, type TestServer } from "./test-server.ts";
import { closurePath, encode, postJson, pushAttic, putNar } from "./uploads.ts";

interface Scene {
  readonly server: TestServer;
  readonly token: string;
}

/** Pushes a path, and returns what the answer to its NAR says, where there is one. */
type Push = (scene: Scene, view: string, path: TestPath) => Promise<unknown>;

const PUSHES: Readonly<Record<string, Push>> = {
  "an Attic push": async ({ server, token }, view, path) => {
    const answer = await pushAttic(server, token, view, path);
    expect(answer.status).toBe(200);
    return answer.json()["kind"];
  },
  "a flywheel push": async ({ server, token }, view, path) => {
    const answer = await putNar(server, token, view, path, await encode(path));
    expect(answer.status).toBe(200);
    await commit({ server, token }, view, path);
    return answer.json()["kind"];
  },
  "nix copy": async ({ server }, view, path) => {
    const client = await openNixClient(server, view);
    await client.copy(path, compressNar(path.nar, "none"));
    return "Uploaded";
  },
};

async function commit({ server, token }: Scene, view: string, path: TestPath): Promise<void> {
  const closure = { paths: [closurePath(path)], externalReferences: [] };
  const url = `/_flywheel/v1/views/${view}/closures`;
  expect((await postJson(server, token, url, closure)).status).toBe(200);
}

async function open(): Promise<Scene & AsyncDisposable> {
  const server = await startTestServer();
  await server.createView("main");
  await server.createView("team+main");
  const token = await server.token({ main: ["pull", "push"], "team+main": ["pull", "push"] });
  return { server, token, [Symbol.asyncDispose]: () => server[Symbol.asyncDispose]() };
}

/** Larger than what is hashed on its way out, when `bytes` say so; compresses badly. */
function createLargePath(name: string, bytes = 400_000): Promise<TestPath> {
  const lines = Array.from({ length: bytes / 64 }, (_, line) =>
    createHash("sha256").update(`${name} ${line}`).digest("hex"),
  );
  return createTestPath(name, lines.join(""));
}

async function fileHashOf({ server }: Scene, view: string, path: TestPath): Promise<string> {
  const record = await server.index.findView(view);
  const found = await server.index.findPath([record?.id ?? 0], path.storePathHash);
  return found?.fileHash ?? "absent";
}

/** What a reader gets of the NAR, and then of the narinfo. */
async function read({ server, token }: Scene, view: string, path: TestPath): Promise<number[]> {
  const statuses = [];
  for (const name of [`nar/${path.storePathHash}.nar`, `${path.storePathHash}.narinfo`]) {
    statuses.push((await server.send("GET", `/${view}/${name}`, { token })).status);
  }
  return statuses;
}

async function missing({ server, token }: Scene, path: TestPath): Promise<unknown> {
  const answer = await postJson(server, token, "/_api/v1/get-missing-paths", {
    cache: "main",
    store_path_hashes: [path.storePathHash],
  });
  return answer.json()["missing_paths"];
}

for (const damage of DAMAGES) {
  for (const [name, push] of Object.entries(PUSHES)) {
    test(`an object that was ${damage} is in quarantine from its first read on, and ${name} heals it for every tenant`, async () => {
      await using scene = await open();
      const { server, token } = scene;
      const path = await createTestPath("shared", "shared ".repeat(500));
      await push(scene, "main", path);
      await push(scene, "team+main", path);
      const fileHash = await fileHashOf(scene, "main", path);
      expect(await fileHashOf(scene, "team+main", path)).toBe(fileHash);
      const narInfo = `/main/${path.storePathHash}.narinfo`;
      // Remembered, so that the memory has something to forget.
      expect((await server.send("GET", narInfo, { token })).status).toBe(200);
      await damageObject(server, fileHash, damage);

      expect(await read(scene, "main", path)).toEqual([404, 404]);

      expect(await read(scene, "team+main", path)).toEqual([404, 404]);
      expect(await missing(scene, path)).toEqual([path.storePathHash]);
      const lines = server.logs.filter(({ message }) => message.includes("quarantine"));
      expect(lines).toMatchObject([{ level: "error", fields: { fileHash, paths: 2 } }]);
      expect((await server.send("GET", "/metrics")).text).toContain(
        "flywheel_objects_quarantined_total 1\n",
      );

      expect(await push(scene, "main", path)).toBe("Uploaded");

      expect(await fileHashOf(scene, "main", path)).toBe(fileHash);
      expect(await read(scene, "main", path)).toEqual([200, 200]);
      expect(await read(scene, "team+main", path)).toEqual([200, 200]);
      expect(await missing(scene, path)).toEqual([]);
      expect(await server.index.listQuarantined({ limit: 10 })).toEqual([]);
      const nar = await server.send("GET", `/main/nar/${path.storePathHash}.nar`, { token });
      expect(zstdDecompressSync(nar.body).equals(path.nar)).toBe(true);
    });
  }
}

for (const [name, push] of Object.entries(PUSHES)) {
  test(`a rebuild with other bytes may take the place of a quarantined path, by ${name}`, async () => {
    await using scene = await open();
    const first = await createTestPath("rebuilt", "first");
    const second = await createTestPath("rebuilt", "second");
    expect(second.storePath).toBe(first.storePath);
    await push(scene, "main", first);
    await damageObject(scene.server, await fileHashOf(scene, "main", first), "deleted");
    expect(await read(scene, "main", first)).toEqual([404, 404]);

    expect(await push(scene, "main", second)).toBe("Uploaded");

    expect(await read(scene, "main", second)).toEqual([200, 200]);
    const { server, token } = scene;
    const nar = await server.send("GET", `/main/nar/${second.storePathHash}.nar`, { token });
    expect(zstdDecompressSync(nar.body).equals(second.nar)).toBe(true);
  });

  test(`an upload of what nobody has read since it was lost is a first one, by ${name}`, async () => {
    await using scene = await open();
    const path = await createTestPath("unread", "unread ".repeat(500));
    await push(scene, "main", path);
    await damageObject(scene.server, await fileHashOf(scene, "main", path), "truncated");

    expect(await push(scene, "main", path)).toBe("Uploaded");

    expect(await read(scene, "main", path)).toEqual([200, 200]);
    expect(await scene.server.index.listQuarantined({ limit: 10 })).toEqual([]);
  });
}

test("a HEAD finds a lost object too, and many readers at once make one finding", async () => {
  await using scene = await open();
  const { server, token } = scene;
  const path = await createTestPath("popular");
  await pushAttic(server, token, "main", path);
  await damageObject(server, await fileHashOf(scene, "main", path), "deleted");

  const url = `/main/nar/${path.storePathHash}.nar`;
  const answers = await Promise.all(
    Array.from({ length: 20 }, () => server.send("HEAD", url, { token })),
  );

  expect(answers.every(({ status }) => status === 404)).toBe(true);
  expect(await server.index.listQuarantined({ limit: 10 })).toMatchObject([
    { reason: "gone from the store", paths: 1 },
  ]);
});

test("a range behind the end of a truncated object is a miss, not a wrong range", async () => {
  await using scene = await open();
  const { server, token } = scene;
  const path = await createLargePath("resumed");
  await pushAttic(server, token, "main", path);
  await damageObject(server, await fileHashOf(scene, "main", path), "truncated");

  const url = `/main/nar/${path.storePathHash}.nar`;
  const resumed = await server.send("GET", url, { token, headers: { range: "bytes=1000-" } });

  expect(resumed.status).toBe(404);
  expect(await read(scene, "main", path)).toEqual([404, 404]);
});

test.each(DAMAGES)("a listing that is made from a %s NAR finds it", async (damage) => {
  await using scene = await open();
  const { server, token } = scene;
  const path = await createLargePath("listed");
  await pushAttic(server, token, "main", path);
  await damageObject(server, await fileHashOf(scene, "main", path), damage);

  const listing = await server.send("GET", `/main/${path.storePathHash}.ls`, { token });

  expect(listing.status).toBe(404);
  expect(await read(scene, "main", path)).toEqual([404, 404]);
  expect(await server.index.listQuarantined({ limit: 10 })).toHaveLength(1);
});

test("a file that Nix uploaded is not said to be there for another upload of a NAR that was lost", async () => {
  await using scene = await open();
  const { server } = scene;
  const client = await openNixClient(server, "main");
  const path = await createTestPath("copied", "copied ".repeat(500));
  const file = compressNar(path.nar, "gzip");
  await client.copy(path, file);
  await damageObject(server, await fileHashOf(scene, "main", path), "deleted");
  expect(await read(scene, "main", path)).toEqual([404, 404]);

  // Nix asks with HEAD whether it has to send the NAR; its own memory of the file lets it GET that.
  expect((await client.head(file.url)).status).toBe(404);
  expect((await client.get(file.url)).status).toBe(200);

  await client.copy(path, file);
  expect((await client.head(file.url)).status).toBe(200);
  expect(await read(scene, "main", path)).toEqual([200, 200]);
});

test("an upload that stores an object between a look at it and its quarantine wins", async () => {
  await using scene = await open();
  const { server, token } = scene;
  const path = await createTestPath("raced");
  await pushAttic(server, token, "main", path);
  const fileHash = await fileHashOf(scene, "main", path);
  const object = await server.index.findObjectState(fileHash);
  const bytes = await readFile(await findObjectFile(server, fileHash));
  await damageObject(server, fileHash, "truncated");
  // The upload has put the bytes and found no quarantine to lift.
  const putAnew = async function* (): AsyncGenerator<Buffer> {
    yield bytes;
  };
  const index = intercept(server.index, "quarantineObject", async () => {
    await server.store.put(putAnew(), { key: `nar/${fileHash}` });
  });
  const found: string[] = [];
  const quarantine = createQuarantine({
    index,
    store: server.store,
    logger: silentLogger,
    now: Date.now,
    onQuarantined: () => found.push(fileHash),
  });

  const verdict = await quarantine.examine(object ?? { fileHash, fileSize: 0 }, "bytes");

  expect(verdict).toEqual({ kind: "sound" });
  expect(found).toEqual([]);
  expect(await server.index.listQuarantined({ limit: 10 })).toEqual([]);
  expect(await read(scene, "main", path)).toEqual([200, 200]);
});

/** The same index, with something that happens just before one of its calls. */
function intercept(
  index: CacheIndex,
  method: keyof CacheIndex,
  before: () => Promise<void>,
): CacheIndex {
  return new Proxy(index, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name);
      if (typeof value !== "function") return value;
      if (name !== method) return value.bind(target) as unknown;
      return async (...args: unknown[]) => {
        await before();
        return (await value.apply(target, args)) as unknown;
      };
    },
  });
}

test("a quarantined path that nobody has any more can be deleted, and its object with it", async () => {
  await using scene = await open();
  const { server, token } = scene;
  const path = await createTestPath("given-up");
  await pushAttic(server, token, "main", path);
  await damageObject(server, await fileHashOf(scene, "main", path), "truncated");
  expect(await read(scene, "main", path)).toEqual([404, 404]);
  const client = await openNixClient(server, "main");

  expect((await client.deletePath(path)).status).toBe(204);

  const { index, store } = server;
  const now = (): number => Date.now() + 10 * DAY_MS;
  await sweep(
    { index, store, logger: silentLogger, now, objectGraceMs: 0, upstreamPathMaxAgeMs: 1 },
    new AbortController().signal,
  );
  expect(await index.listQuarantined({ limit: 10 })).toEqual([]);
  expect(await listStoreFiles(server)).toEqual([]);
});

test("a push of other bytes for the same NAR heals the view that pushes", async () => {
  await using scene = await open();
  const { server, token } = scene;
  const path = await createTestPath("recoded", "recoded ".repeat(3000));
  await pushAttic(server, token, "main", path);
  const lost = await fileHashOf(scene, "main", path);
  await damageObject(server, lost, "deleted");
  expect(await read(scene, "main", path)).toEqual([404, 404]);

  const answer = await putNar(server, token, "main", path, await encode(path, 19));
  expect(answer.json()).toMatchObject({ kind: "Uploaded" });
  await commit(scene, "main", path);

  expect(await read(scene, "main", path)).toEqual([200, 200]);
  expect(await fileHashOf(scene, "main", path)).not.toBe(lost);
});
