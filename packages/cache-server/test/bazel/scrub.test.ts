import { readdir, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { zstdCompressSync } from "node:zlib";

import { create, toBinary } from "@bufbuild/protobuf";
import { ActionResultSchema } from "@glorious/reapi";
import { expect, test } from "vitest";

import { startTestServer, type TestServer } from "../test-server.ts";
import { randomBlob, type TestBlob, textBlob } from "./blobs.ts";

const DAY_MS = 86_400_000;

interface Scene extends AsyncDisposable {
  readonly server: TestServer;
  readonly token: string;
  readonly admin: string;
}

async function open(settings: Parameters<typeof startTestServer>[0] = {}): Promise<Scene> {
  const server = await startTestServer({ scrubIntervalMs: "0s", ...settings });
  await server.createView("main");
  const expiresAtMs = Date.now() + 400 * DAY_MS;
  return {
    server,
    token: await server.token({ main: ["pull", "push"] }, { expiresAtMs }),
    admin: await server.token({}, { isAdmin: true, expiresAtMs }),
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

interface Pass {
  readonly state: string;
  readonly fraction: number;
  readonly checkedBefore: string;
  readonly bazel: {
    readonly scanned: number;
    readonly bytes: number;
    readonly badTotal: number;
    readonly bad: readonly { readonly name: string; readonly reason: string }[];
  };
}

async function scrub({ server, admin }: Scene, query = ""): Promise<Pass> {
  let bound = query;
  for (;;) {
    const answer = await server.send("POST", `/_flywheel/v1/scrub?wait=5${bound}`, {
      token: admin,
    });
    expect(answer.status).toBe(200);
    const run: Pass = JSON.parse(answer.text);
    if (run.state !== "running") return run;
    bound = `&checkedBefore=${run.checkedBefore}`;
  }
}

/** An ActionResult that needs one blob; gives its path. */
async function storeAction(
  { server, token }: Scene,
  { hash, sizeBytes }: TestBlob,
): Promise<string> {
  const digest = { hash, sizeBytes: BigInt(sizeBytes) };
  const result = create(ActionResultSchema, { outputFiles: [{ path: "out", digest }] });
  const path = `/main/ac/${randomBlob(10).hash}`;
  const body = toBinary(ActionResultSchema, result);
  expect((await server.send("PUT", path, { token, body })).status).toBe(200);
  return path;
}

async function status({ server, token }: Scene, path: string): Promise<number> {
  return (await server.send("GET", path, { token })).status;
}

const tenantDirectory = ({ server }: Scene): string =>
  join(server.directory, "tenants", "_default", "bazel");

async function findFile(scene: Scene, part: string): Promise<string> {
  const root = join(tenantDirectory(scene), "store", "blobs");
  const names = await readdir(root, { recursive: true });
  const isOf = (name: string): boolean => name.includes(part) && /[0-9a-f]{24}/.test(name);
  return join(root, names.find(isOf) ?? expect.fail("no file"));
}

async function flip(file: string): Promise<void> {
  const bytes = await readFile(file);
  bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] ?? 0) ^ 1;
  await writeFile(file, bytes);
}

const inFile = (damage: (file: string) => Promise<void>) => {
  return async (scene: Scene, { hash }: TestBlob): Promise<void> =>
    damage(await findFile(scene, hash));
};

const DAMAGES: readonly [
  title: string,
  makeBlob: () => TestBlob,
  damage: (scene: Scene, blob: TestBlob) => Promise<void>,
][] = [
  ["whose file was deleted", () => randomBlob(100_000), inFile((file) => rm(file))],
  ["whose file was cut short", () => randomBlob(100_000), inFile((file) => truncate(file, 9))],
  ["with a flipped bit in its file", () => randomBlob(300_000), inFile(flip)],
  ["with a flipped bit in its zstd file", () => textBlob(300_000), inFile(flip)],
  [
    "with a flipped bit in the index",
    () => randomBlob(1000),
    async (scene, { bytes }) => {
      using database = new DatabaseSync(join(tenantDirectory(scene), "index.sqlite"));
      const damaged = Buffer.from(bytes);
      damaged[500] = (damaged[500] ?? 0) ^ 1;
      database.prepare("UPDATE contents SET data = ? WHERE data = ?").run(damaged, bytes);
    },
  ],
];

test.for(DAMAGES)(
  "a scrub makes a blob absent %s, with the ActionResults that need it, and an upload heals both",
  async ([, makeBlob, damage]) => {
    await using scene = await open();
    const { server, token } = scene;
    const blob = makeBlob();
    const good = randomBlob(50_000);
    const upload = async (): Promise<void> => {
      const isText = blob.bytes.includes("same words");
      const headers = isText
        ? { "content-encoding": "zstd", "x-digest-sizebytes": String(blob.sizeBytes) }
        : {};
      const body = isText ? zstdCompressSync(blob.bytes) : blob.bytes;
      const path = `/main/cas/${blob.hash}`;
      expect((await server.send("PUT", path, { token, headers, body })).status).toBe(200);
    };
    await upload();
    await server.send("PUT", `/main/cas/${good.hash}`, { token, body: good.bytes });
    const action = await storeAction(scene, blob);
    const goodAction = await storeAction(scene, good);
    expect(await status(scene, action)).toBe(200);
    await damage(scene, blob);

    expect(await scrub(scene)).toMatchObject({
      state: "done",
      fraction: 1,
      bazel: {
        scanned: 2,
        badTotal: 1,
        bad: [{ kind: "blob", name: blob.hash, sizeBytes: blob.sizeBytes, instances: ["main"] }],
        unanswered: 0,
      },
    });

    expect(await status(scene, action)).toBe(404);
    expect(await status(scene, `/main/cas/${blob.hash}`)).toBe(404);
    expect(await status(scene, goodAction)).toBe(200);
    const metrics = (await server.send("GET", "/metrics")).text.split("\n");
    expect(metrics).toContain("flywheel_bazel_lost_total 1");
    expect(metrics).toContain("flywheel_scrub_objects_total 2");

    await upload();
    expect(await status(scene, action)).toBe(200);
    expect((await scrub(scene)).bazel).toMatchObject({ scanned: 2, badTotal: 0 });
  },
);

test("a scrub makes a damaged value under a key absent", async () => {
  await using scene = await open();
  const { server, token } = scene;
  const [large, small] = [randomBlob(100_000), randomBlob(100)];
  await server.send("PUT", "/main/kv/large", { token, body: large.bytes });
  await server.send("PUT", "/main/kv/small", { token, body: small.bytes });
  await flip(await findFile(scene, "kv/"));

  expect((await scrub(scene)).bazel).toMatchObject({
    scanned: 2,
    bad: [{ kind: "value", name: "large", sizeBytes: 100_000, instances: ["main"] }],
  });

  expect(await status(scene, "/main/kv/large")).toBe(404);
  expect(await status(scene, "/main/kv/small")).toBe(200);
});

test("what was checked or stored lately is looked for and not read", async () => {
  await using scene = await open();
  const { server, token } = scene;
  const [one, other] = [randomBlob(100_000), randomBlob(100)];
  for (const { hash, bytes } of [one, other]) {
    await server.send("PUT", `/main/cas/${hash}`, { token, body: bytes });
  }

  expect((await scrub(scene, "&maxAge=60")).bazel).toMatchObject({ scanned: 0, badTotal: 0 });
  server.advance(3_600_000);
  expect((await scrub(scene, "&maxAge=60")).bazel).toMatchObject({ scanned: 2, bytes: 100_100 });
  expect((await scrub(scene, "&maxAge=60")).bazel).toMatchObject({ scanned: 0 });

  await rm(await findFile(scene, one.hash));
  expect((await scrub(scene, "&maxAge=60")).bazel).toMatchObject({
    scanned: 0,
    bad: [{ name: one.hash, reason: "gone from the store" }],
  });
});
