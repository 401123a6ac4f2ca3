import { expect, test } from "vitest";

import { createTestPath, type TestPath } from "./test-path.ts";
import { startTestServer, type TestAnswer, type TestServer } from "./test-server.ts";
import { closurePath, encode, postJson, pushAttic, putNar } from "./uploads.ts";

interface Scene extends AsyncDisposable {
  readonly server: TestServer;
  readonly token: string;
  put(path: TestPath): Promise<TestAnswer>;
  commit(paths: readonly TestPath[], externalReferences?: readonly string[]): Promise<TestAnswer>;
  isVisible(path: TestPath): Promise<boolean>;
}

async function open(): Promise<Scene> {
  const server = await startTestServer();
  await server.createView("main");
  const token = await server.token({ main: ["pull", "push"] });
  return {
    server,
    token,
    put: async (path) => putNar(server, token, "main", path, await encode(path)),
    commit: (paths, externalReferences = []) =>
      postJson(server, token, "/_flywheel/v1/views/main/closures", {
        paths: paths.map(closurePath),
        externalReferences,
      }),
    async isVisible(path) {
      const answer = await server.send("GET", `/main/${path.storePathHash}.narinfo`, { token });
      return answer.status === 200;
    },
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

test("a closure becomes visible in one commit, in whatever order its paths are named", async () => {
  await using scene = await open();
  const dependency = await createTestPath("dependency");
  const top = await createTestPath("top", "top", [dependency.baseName]);
  await scene.put(dependency);
  await scene.put(top);
  expect(await scene.isVisible(dependency)).toBe(false);

  const answer = await scene.commit([top, dependency]);

  expect(answer.json()).toEqual({
    created: expect.arrayContaining([top.storePathHash, dependency.storePathHash]),
    unchanged: [],
    conflicts: [],
  });
  expect([await scene.isVisible(top), await scene.isVisible(dependency)]).toEqual([true, true]);
  expect((await scene.commit([top, dependency])).json()).toMatchObject({
    created: [],
    unchanged: expect.arrayContaining([top.storePathHash]),
  });
});

test("a closure whose NAR is missing is not committed at all", async () => {
  await using scene = await open();
  const [here, absent] = [await createTestPath("here"), await createTestPath("absent")];
  await scene.put(here);
  const answer = await scene.commit([here, absent]);
  expect(answer.status).toBe(409);
  expect(answer.json()).toMatchObject({
    error: "CONFLICT",
    missingNars: [absent.narHash],
    hint: expect.any(String),
  });
  expect(await scene.isVisible(here)).toBe(false);
});

test("a reference must be in the view, in the closure, or named as another's", async () => {
  await using scene = await open();
  const outside = await createTestPath("outside");
  const top = await createTestPath("top", "top", [outside.baseName]);
  await scene.put(top);
  const refused = await scene.commit([top]);
  expect(refused.json()).toMatchObject({
    code: 409,
    missingReferences: [{ storePathHash: top.storePathHash, reference: outside.storePathHash }],
  });
  expect(await scene.isVisible(top)).toBe(false);
  expect((await scene.commit([top], [outside.storePathHash])).status).toBe(200);
  expect(await scene.isVisible(top)).toBe(true);
});

test("a path that is there with other bytes stays, and the rest is committed", async () => {
  await using scene = await open();
  const first = await createTestPath("unstable", "first");
  const second = await createTestPath("unstable", "second");
  const top = await createTestPath("top", "top", [second.baseName]);
  await pushAttic(scene.server, scene.token, "main", first);
  await scene.put(second);
  await scene.put(top);
  const answer = await scene.commit([second, top]);
  expect(answer.json()).toEqual({
    created: [top.storePathHash],
    unchanged: [],
    conflicts: [{ storePathHash: first.storePathHash, narHash: first.narHash }],
  });
  const { text } = await scene.server.send("GET", `/main/${first.storePathHash}.narinfo`, {
    token: scene.token,
  });
  expect(text).toContain(`NarSize: ${first.nar.length}\n`);
});

test("an upload that is cut is no upload: its NAR stays missing and nothing is stored", async () => {
  await using scene = await open();
  const path = await createTestPath("cut", "long ".repeat(10_000));
  const encoded = await encode(path);
  const answer = await putNar(
    scene.server,
    scene.token,
    "main",
    path,
    encoded.subarray(0, encoded.length - 10),
  );
  expect(answer.json()).toMatchObject({ code: 400, error: "TRUNCATED" });
  expect(await Array.fromAsync(scene.server.store.list("nar/"))).toEqual([]);
});

test.each([
  ["no size", "compression=zstd", 400],
  ["another size", "size=5&compression=zstd", 422],
  ["an unknown compression", "size=100&compression=lz4", 415],
])("an upload with %s is refused", async (_, query, status) => {
  await using scene = await open();
  const path = await createTestPath("odd");
  const answer = await scene.server.send(
    "PUT",
    `/_flywheel/v1/views/main/nars/${path.narHash}?${query}`,
    { token: scene.token, body: await encode(path) },
  );
  expect(answer.status).toBe(status);
});

test.each([
  ["no paths", { paths: [] }, /Expected at least one path/],
  ["a body that is no object", "text", /its root/],
  ["a bad hash", { paths: [{ narHash: "x" }] }, /paths\.0\./],
])("a commit with %s says where it is wrong", async (_, body, message) => {
  await using scene = await open();
  const url = "/_flywheel/v1/views/main/closures";
  const answer = await postJson(scene.server, scene.token, url, body);
  expect(answer.json()).toMatchObject({ code: 400, message: expect.stringMatching(message) });
});

test("a deleted path is gone at once, its NAR stays for those who know it already", async () => {
  await using scene = await open();
  const path = await createTestPath("deleted");
  await pushAttic(scene.server, scene.token, "main", path);
  const { text } = await scene.server.send("GET", `/main/${path.storePathHash}.narinfo`, {
    token: scene.token,
  });
  const url = /^URL: (.*)$/m.exec(text)?.[1];
  const deleter = await scene.server.token({ main: ["delete"] });
  const address = `/_flywheel/v1/views/main/paths/${path.storePathHash}`;
  expect((await scene.server.send("DELETE", address, { token: deleter })).status).toBe(204);
  expect(await scene.isVisible(path)).toBe(false);
  expect((await scene.server.send("GET", `/main/${url}`, { token: scene.token })).status).toBe(200);
  expect((await scene.server.send("DELETE", address, { token: deleter })).status).toBe(404);
});
