import { once as nextEvent } from "node:events";
import { readdir } from "node:fs/promises";
import { type ClientRequest, request } from "node:http";
import { join } from "node:path";
import { zstdCompressSync, zstdDecompressSync } from "node:zlib";

import { create, toBinary, toJson } from "@bufbuild/protobuf";
import { ActionResultSchema, TreeSchema } from "@glorious/reapi";
import { expect, test } from "vitest";

import { startTestServer, type TestServer } from "../test-server.ts";
import { blobOf, randomBlob, type TestBlob, textBlob } from "./blobs.ts";

const HOUR_MS = 3_600_000;

async function startWithView(
  settings: Parameters<typeof startTestServer>[0] = {},
): Promise<{ readonly server: TestServer; readonly token: string } & AsyncDisposable> {
  const server = await startTestServer(settings);
  await server.createView("main");
  const token = await server.token({ "*": ["pull", "push"] });
  return { server, token, [Symbol.asyncDispose]: () => server[Symbol.asyncDispose]() };
}

function resultOf(files: readonly TestBlob[], trees: readonly TestBlob[] = []): Buffer {
  const digestOf = ({ hash, sizeBytes }: TestBlob): { hash: string; sizeBytes: bigint } => ({
    hash,
    sizeBytes: BigInt(sizeBytes),
  });
  const result = create(ActionResultSchema, {
    outputFiles: files.map((file, at) => ({ path: `out/${at}`, digest: digestOf(file) })),
    outputDirectories: trees.map((tree, at) => ({ path: `dir/${at}`, treeDigest: digestOf(tree) })),
    exitCode: 0,
    executionMetadata: { worker: "test" },
  });
  return Buffer.from(toBinary(ActionResultSchema, result));
}

const instances = ["main", "main/pr", "main/a/b.c/d"];

test("a blob is 404, then put with 200, then given with its length, below every instance name", async () => {
  await using started = await startWithView();
  const { server, token } = started;
  for (const instance of instances) {
    for (const size of [0, 10, 100_000]) {
      const blob = size === 0 ? blobOf("") : randomBlob(size);
      const path = `/${instance}/cas/${blob.hash}`;
      if (size > 0) expect((await server.send("GET", path, { token })).status).toBe(404);

      const put = await server.send("PUT", path, { token, body: blob.bytes });
      expect([put.status, put.text]).toEqual([200, ""]);

      for (const _ of [1, 2]) {
        const got = await server.send("GET", path, { token });
        expect(got.status).toBe(200);
        expect(got.body).toEqual(blob.bytes);
        expect(got.headers).toMatchObject({ "content-length": String(size) });
        expect(got.headers["x-request-id"]).toMatch(/^[0-9a-f]{16}$/);
      }
      const head = await server.send("HEAD", path, { token });
      expect([head.status, head.headers["content-length"], head.body.length]).toEqual([
        200,
        String(size),
        0,
      ]);
      expect((await server.send("PUT", path, { token, body: blob.bytes })).status).toBe(200);
    }
  }
});

test("instance names see nothing of one another", async () => {
  await using started = await startWithView();
  const { server, token } = started;
  const blob = randomBlob(100);
  await server.send("PUT", `/main/pr/cas/${blob.hash}`, { token, body: blob.bytes });

  expect((await server.send("GET", `/main/cas/${blob.hash}`, { token })).status).toBe(404);
  expect((await server.send("GET", `/main/pr/1/cas/${blob.hash}`, { token })).status).toBe(404);
  expect((await server.send("GET", `/main/pr/cas/${blob.hash}`, { token })).status).toBe(200);
});

test.each([
  [
    "content of another hash",
    (blob: TestBlob) => ({ body: randomBlob(blob.sizeBytes).bytes }),
    400,
  ],
  ["no content", () => ({ body: "" }), 400],
  ["no length", (blob: TestBlob) => ({ body: once(blob.bytes) }), 400],
  [
    "an unknown encoding",
    (blob: TestBlob) => ({ body: blob.bytes, headers: { "content-encoding": "gzip" } }),
    415,
  ],
  [
    "zstd without its size",
    (blob: TestBlob) => ({
      body: zstdCompressSync(blob.bytes),
      headers: { "content-encoding": "zstd" },
    }),
    400,
  ],
  [
    "zstd with a wrong size",
    (blob: TestBlob) => ({
      body: zstdCompressSync(blob.bytes),
      headers: { "content-encoding": "zstd", "x-digest-sizebytes": "7" },
    }),
    400,
  ],
  [
    "nonsense as its size",
    (blob: TestBlob) => ({
      body: zstdCompressSync(blob.bytes),
      headers: { "content-encoding": "zstd", "x-digest-sizebytes": "-1" },
    }),
    400,
  ],
] as const)("a blob with %s is refused and stays absent", async (_, upload, status) => {
  await using started = await startWithView();
  const { server, token } = started;
  for (const size of [200, 100_000]) {
    const blob = textBlob(size);
    const path = `/main/cas/${blob.hash}`;
    const put = await server.send("PUT", path, { token, ...upload(blob) });
    expect(put.status).toBe(status);
    expect(put.body.length).toBeLessThan(10_000);
    expect(put.json()).toMatchObject({ code: status, message: expect.any(String) });
    expect((await server.send("GET", path, { token })).status).toBe(404);
  }
});

test.each([
  "/main/cas/" + "a".repeat(63),
  "/main/cas/" + "a".repeat(40),
  "/main/cas/" + "A".repeat(64),
  "/main/cas/" + "g".repeat(64),
  "/main/ac/" + "a".repeat(128),
  "/main/cas/blobs/cas/" + "a".repeat(64),
  "/main/%2e%2e/ac/" + "a".repeat(64),
  "/main/a/b/c/d/e/f/g/h/i/ac/" + "a".repeat(64),
  "/main/sp%20ace/ac/" + "a".repeat(64),
])("%s is 400 for every method", async (path) => {
  await using started = await startWithView();
  const { server, token } = started;
  for (const method of ["GET", "HEAD", "PUT"]) {
    const answer = await server.send(method, path, {
      token,
      ...(method === "PUT" ? { body: "x" } : {}),
    });
    expect(answer.status).toBe(400);
  }
});

test("methods that there are not are 405 and say which there are", async () => {
  await using started = await startWithView();
  const { server, token } = started;
  const answer = await server.send("POST", `/main/cas/${"a".repeat(64)}`, { token });
  expect(answer.status).toBe(405);
  expect(answer.headers["allow"]).toBe("GET, HEAD, PUT");
});

test("zstd content is taken as zstd, and given so to who accepts it and decoded to others", async () => {
  await using started = await startWithView();
  const { server, token } = started;
  for (const size of [3000, 500_000]) {
    const blob = textBlob(size);
    const encoded = zstdCompressSync(blob.bytes);
    const path = `/main/cas/${blob.hash}`;
    const headers = { "content-encoding": "zstd", "x-digest-sizebytes": String(size) };
    expect((await server.send("PUT", path, { token, body: encoded, headers })).status).toBe(200);

    for (const _ of [1, 2]) {
      const plain = await server.send("GET", path, {
        token,
        headers: { "accept-encoding": "gzip" },
      });
      expect([plain.status, plain.headers["content-encoding"]]).toEqual([200, undefined]);
      expect(plain.body).toEqual(blob.bytes);
      expect(plain.headers["content-length"]).toBe(String(size));
      const small = await server.send("GET", path, {
        token,
        headers: { "accept-encoding": "zstd" },
      });
      expect(small.headers).toMatchObject({
        "content-encoding": "zstd",
        "content-length": String(encoded.length),
      });
      expect(small.body).toEqual(encoded);
      expect(zstdDecompressSync(small.body)).toEqual(blob.bytes);
    }
  }
});

test("an ActionResult is given back as it came, and only while all that it needs is there", async () => {
  await using started = await startWithView();
  const { server, token } = started;
  const [file, inTree] = [randomBlob(50), randomBlob(60_000)];
  const digest = { hash: inTree.hash, sizeBytes: BigInt(inTree.sizeBytes) };
  const tree = blobOf(
    toBinary(
      TreeSchema,
      create(TreeSchema, { children: [{ files: [{ name: "f", digest }] }], root: {} }),
    ),
  );
  const action = blobOf("an action").hash;
  const result = resultOf([file], [tree]);
  const path = `/main/ac/${action}`;

  expect((await server.send("GET", path, { token })).status).toBe(404);
  expect((await server.send("PUT", path, { token, body: result })).status).toBe(200);
  for (const blob of [file, tree, inTree]) {
    expect((await server.send("GET", path, { token })).status).toBe(404);
    await server.send("PUT", `/main/cas/${blob.hash}`, { token, body: blob.bytes });
  }
  for (const _ of [1, 2]) {
    const got = await server.send("GET", path, { token });
    expect(got.status).toBe(200);
    expect(got.body).toEqual(result);
  }
  expect((await server.send("GET", `/main/pr/ac/${action}`, { token })).status).toBe(404);
});

test("a second ActionResult is taken and dropped while the first is whole, and replaces it when it is not", async () => {
  await using started = await startWithView();
  const { server, token } = started;
  const [one, two] = [randomBlob(10), randomBlob(20)];
  const path = `/main/ac/${blobOf("action").hash}`;
  for (const blob of [one, two]) {
    await server.send("PUT", `/main/cas/${blob.hash}`, { token, body: blob.bytes });
  }
  await server.send("PUT", path, { token, body: resultOf([one]) });
  expect((await server.send("PUT", path, { token, body: resultOf([two]) })).status).toBe(200);
  expect((await server.send("GET", path, { token })).body).toEqual(resultOf([one]));

  const view = await server.index.findView("main");
  await (await server.bazel.openStore(view ?? expect.fail("no view"))).lose(one.key);
  expect((await server.send("GET", path, { token })).status).toBe(404);
  await server.send("PUT", path, { token, body: resultOf([two]) });
  expect((await server.send("GET", path, { token })).body).toEqual(resultOf([two]));
});

test("ActionResults come and go as JSON where that is asked for", async () => {
  await using started = await startWithView();
  const { server, token } = started;
  const path = `/main/ac/${blobOf("json").hash}`;
  const result = create(ActionResultSchema, { exitCode: 7, stdoutRaw: Buffer.from("hello") });
  const body = JSON.stringify(toJson(ActionResultSchema, result));
  const headers = { "content-type": "application/json" };

  expect((await server.send("PUT", path, { token, body, headers })).status).toBe(200);

  expect((await server.send("GET", path, { token })).body).toEqual(
    Buffer.from(toBinary(ActionResultSchema, result)),
  );
  const json = await server.send("GET", path, { token, headers: { accept: "application/json" } });
  expect(json.headers["content-type"]).toBe("application/json");
  expect(json.json()).toEqual({ exitCode: 7, stdoutRaw: Buffer.from("hello").toString("base64") });
  const wrong = await server.send("PUT", path, { token, body: "{nonsense", headers });
  expect(wrong.status).toBe(400);
});

test("an ActionResult without any content is given with some", async () => {
  await using started = await startWithView();
  const { server, token } = started;
  const path = `/main/ac/${blobOf("empty").hash}`;
  expect((await server.send("PUT", path, { token, body: "" })).status).toBe(200);
  expect((await server.send("GET", path, { token })).body.length).toBeGreaterThan(0);
});

test.each([
  ["bytes that are no message", Buffer.from("nonsense, and more of it")],
  ["an absolute path", resultWith({ path: "/etc/passwd" })],
  ["a path out of the tree", resultWith({ path: "a/../../b" })],
  ["an empty path", resultWith({ path: "" })],
  ["a hash of another length", resultWith({ hash: "ab".repeat(20) })],
  ["a negative size", resultWith({ sizeBytes: -5n })],
])("an ActionResult with %s is 400 and not stored", async (_, body) => {
  await using started = await startWithView();
  const { server, token } = started;
  const path = `/main/ac/${blobOf("bad").hash}`;
  const put = await server.send("PUT", path, { token, body });
  expect(put.status).toBe(400);
  expect(put.json()).toMatchObject({ error: "INVALID" });
  expect((await server.send("GET", path, { token })).status).toBe(404);
});

function resultWith(file: { path?: string; hash?: string; sizeBytes?: bigint }): Buffer {
  const { path = "out", hash = "a".repeat(64), sizeBytes = 5n } = file;
  const result = create(ActionResultSchema, {
    outputFiles: [{ path, digest: { hash, sizeBytes } }],
  });
  return Buffer.from(toBinary(ActionResultSchema, result));
}

test("values are kept under any key, with the answers that WebDAV's clients need", async () => {
  await using started = await startWithView();
  const { server, token } = started;
  for (const key of [
    "a",
    "ac/" + "a".repeat(64),
    "cas/x/y",
    "12/34567.manifest",
    "sp%20ace/%C3%A9",
  ]) {
    for (const size of [5, 100_000]) {
      const blob = randomBlob(size);
      const path = `/main/kv/${key}`;
      const send = (method: string, body?: Buffer): ReturnType<TestServer["send"]> =>
        server.send(method, path, { token, ...(body === undefined ? {} : { body }) });
      for (const method of ["GET", "HEAD", "DELETE", "PROPFIND"])
        expect((await send(method)).status).toBe(404);
      expect((await send("PUT", blob.bytes)).status).toBe(201);
      expect((await send("PUT", blob.bytes)).status).toBe(204);
      const got = await send("GET");
      expect([got.status, got.body]).toEqual([200, blob.bytes]);
      expect((await send("HEAD")).headers["content-length"]).toBe(String(size));
      const described = await send("PROPFIND");
      expect(described.status).toBe(207);
      expect(described.text).toContain(`<D:getcontentlength>${size}</D:getcontentlength>`);
      expect((await server.send("GET", `/main/cas/${blob.hash}`, { token })).status).toBe(404);
      expect((await send("DELETE")).status).toBe(204);
      expect((await send("GET")).status).toBe(404);
    }
  }
  const chunked = await server.send("PUT", "/main/kv/chunked", {
    token,
    body: once(Buffer.from("abc")),
  });
  expect(chunked.status).toBe(201);
  expect((await server.send("MKCOL", "/main/kv/folder/", { token })).status).toBe(201);
  const folder = await server.send("PROPFIND", "/main/kv/folder/", { token });
  expect(folder.text).toContain("<D:collection/>");
  expect((await server.send("GET", "/main/kv/", { token })).status).toBe(400);
});

test("who may only read can write nothing, and who may nothing learns nothing", async () => {
  await using started = await startWithView();
  const { server, token } = started;
  await server.createView("open", { isPublic: true });
  const reader = await server.token({ main: ["pull"] });
  const blob = randomBlob(20);
  const paths = [`cas/${blob.hash}`, `ac/${blob.hash}`, "kv/key"];
  await server.send("PUT", `/main/cas/${blob.hash}`, { token, body: blob.bytes });
  for (const path of paths) {
    expect(
      (await server.send("PUT", `/main/${path}`, { token: reader, body: blob.bytes })).status,
    ).toBe(403);
    expect((await server.send("PUT", `/open/${path}`, { body: blob.bytes })).status).toBe(401);
    expect((await server.send("GET", `/open/${path}`)).status).toBe(404);
    for (const view of path.startsWith("kv") ? ["main"] : ["main", "absent", "main/pr"]) {
      const refused = await server.send("GET", `/${view}/${path}`);
      expect(refused.status).toBe(401);
      expect(refused.headers["www-authenticate"]).toMatch(/^Basic /);
    }
  }
  expect((await server.send("GET", `/main/cas/${blob.hash}`, { token: reader })).status).toBe(200);
  const basic = `Basic ${Buffer.from(`anybody:${reader}`).toString("base64")}`;
  const withBasic = await server.send("GET", `/main/cas/${blob.hash}`, {
    headers: { authorization: basic },
  });
  expect(withBasic.status).toBe(200);
});

test("an ActionResult that was evicted is counted as such", async () => {
  await using started = await startWithView({ bazelMaxSizeBytes: "200000" });
  const { server } = started;
  const token = await server.token(
    { "*": ["pull", "push"] },
    { expiresAtMs: Date.now() + 24 * HOUR_MS },
  );
  const path = `/main/ac/${blobOf("an action").hash}`;
  await server.send("PUT", path, { token, body: resultOf([]) });
  server.advance(5 * HOUR_MS);
  const big = randomBlob(199_900);
  await server.send("PUT", `/main/cas/${big.hash}`, { token, body: big.bytes });

  for (const asked of [path, `/main/ac/${blobOf("no action").hash}`]) {
    expect((await server.send("GET", asked, { token })).status).toBe(404);
  }

  const stats = await server.send("GET", "/_flywheel/v1/views/main/stats", { token });
  expect(stats.json()["bazel"]).toMatchObject({ actionsAbsent: 2, actionsEvicted: 1 });
  const { text } = await server.send("GET", "/metrics");
  expect(text).toContain('flywheel_bazel_actions_total{result="evicted"} 1\n');
});

test("two tenants share neither answers nor a file, and one goes without the other", async () => {
  await using started = await startWithView();
  const { server, token } = started;
  await server.createView("acme+main");
  await server.createView("other+main");
  const blob = randomBlob(100_000);
  const result = resultOf([blob]);
  for (const view of ["acme+main", "other+main"]) {
    const path = `/${encodeURIComponent(view)}`;
    expect((await server.send("GET", `${path}/cas/${blob.hash}`, { token })).status).toBe(404);
    expect((await server.send("GET", `${path}/ac/${blob.hash}`, { token })).status).toBe(404);
    await server.send("PUT", `${path}/cas/${blob.hash}`, { token, body: blob.bytes });
    await server.send("PUT", `${path}/ac/${blob.hash}`, { token, body: result });
  }
  const tenants = join(server.directory, "tenants");
  expect((await readdir(tenants)).toSorted()).toEqual(["acme", "other"]);

  await server.index.deleteView("acme+main");
  await server.bazel.housekeep();

  expect(await readdir(tenants)).toEqual(["other"]);
  const left = await server.send("GET", `/other+main/cas/${blob.hash}`, { token });
  expect(left.body).toEqual(blob.bytes);
  await server.createView("acme+main");
  expect((await server.send("GET", `/acme+main/cas/${blob.hash}`, { token })).status).toBe(404);
});

test("a full cache says 507 and still gives what it has", async () => {
  await using started = await startWithView({ bazelMaxSizeBytes: "100 KiB" });
  const { server, token } = started;
  const [one, two] = [randomBlob(60_000), randomBlob(60_000)];
  const put = (blob: TestBlob): ReturnType<TestServer["send"]> =>
    server.send("PUT", `/main/cas/${blob.hash}`, { token, body: blob.bytes });
  expect((await put(one)).status).toBe(200);
  expect((await put(two)).status).toBe(507);
  expect((await server.send("GET", `/main/cas/${one.hash}`, { token })).body).toEqual(one.bytes);
  server.advance(4 * HOUR_MS);
  const again = await server.token({ "*": ["pull", "push"] });
  const later = await server.send("PUT", `/main/cas/${two.hash}`, {
    token: again,
    body: two.bytes,
  });
  expect(later.status).toBe(200);
});

test("a blob over the limit is 413", async () => {
  await using started = await startWithView({ bazelMaxBlobSizeBytes: "1 KiB" });
  const { server, token } = started;
  const blob = randomBlob(2000);
  const put = await server.send("PUT", `/main/cas/${blob.hash}`, { token, body: blob.bytes });
  expect([put.status, put.json()["error"]]).toEqual([413, "TOO_LARGE"]);
});

async function* once(bytes: Buffer): AsyncGenerator<Buffer> {
  yield bytes;
}

test("uploads share the memory of all requests: who finds none is asked to send when another has ended", async () => {
  await using started = await startWithView();
  const { server, token } = started;
  const waiting = async (): Promise<string | undefined> => {
    const { text } = await server.send("GET", "/metrics");
    return /^flywheel_bazel_request_memory_waiting (\d+)$/m.exec(text)?.[1];
  };
  const begin = (
    path: string,
  ): { readonly call: ClientRequest; readonly asked: Promise<unknown> } => {
    const headers = {
      authorization: `Bearer ${token}`,
      "content-length": 8 * 2 ** 20,
      expect: "100-continue",
    };
    const call = request(new URL(path, server.url), { method: "PUT", agent: false, headers });
    call.on("error", () => {});
    call.flushHeaders();
    return { call, asked: nextEvent(call, "continue") };
  };
  const [first, second] = [1, 2].map(() => begin(`/main/ac/${randomBlob(10).hash}`));
  if (first === undefined || second === undefined) throw new Error("there are two");
  await Promise.all([first.asked, second.asked]);

  const third = begin(`/main/ac/${randomBlob(10).hash}`);
  await expect.poll(waiting).toBe("1");
  first.call.destroy();
  await third.asked;

  await expect.poll(waiting).toBe("0");
  second.call.destroy();
  third.call.destroy();
  await expect
    .poll(async () => (await server.send("GET", "/metrics")).text)
    .toContain('flywheel_bazel_request_memory_bytes{state="used"} 0\n');
  const empty = await server.send("PUT", "/main/kv/empty", { token, body: Buffer.alloc(0) });
  expect(empty.status).toBe(201);
});
