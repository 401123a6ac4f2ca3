import { decodeTokenUnverified } from "@glorious/trust";
import { expect, test } from "vitest";

import { createTestPath } from "./test-path.ts";
import { startTestServer, type TestServer } from "./test-server.ts";
import { closurePath, encode, postJson, pushAttic, putNar } from "./uploads.ts";

const API = "/_flywheel/v1";

async function makeToken(
  server: TestServer,
  request: Readonly<Record<string, unknown>>,
): Promise<{ readonly token: string; readonly jti: string; readonly expiresAt: string }> {
  const admin = await server.token({}, { isAdmin: true });
  const answer = await postJson(server, admin, `${API}/tokens`, request);
  expect(answer.status).toBe(200);
  return answer.json() as never;
}

async function mayPull(server: TestServer, view: string, token: string): Promise<boolean> {
  return (await server.send("GET", `/${view}/nix-cache-info`, { token })).status === 200;
}

test("anybody may ask which server this is", async () => {
  await using server = await startTestServer();
  const answer = await server.send("GET", `${API}/info`);
  expect(answer.json()).toEqual({
    server: "gloriousflywheel",
    version: expect.stringMatching(/^\d+\.\d+\.\d+/),
    api: 1,
  });
});

test("a listed view tells what a client needs, and its retention only when it has its own", async () => {
  await using server = await startTestServer();
  await server.createView("main");
  const token = await server.token({ main: ["pull", "configure", "configureRetention"] });
  const list = async (): Promise<unknown> =>
    (await server.send("GET", `${API}/views`, { token })).json()["views"];
  const view = {
    name: "main",
    isPublic: false,
    storeDir: "/nix/store",
    priority: 41,
    upstreamCacheKeyNames: [],
    signsUpstream: false,
    pushesUpstream: false,
    createdAt: expect.stringMatching(/^\d{4}-\d\d-\d\dT.*Z$/),
  };
  expect(await list()).toEqual([view]);
  const change = { retention_period: { Period: 0 } };
  await postJson(server, token, "/_api/v1/cache-config/main", change, "PATCH");
  expect(await list()).toEqual([{ ...view, retentionSeconds: 0 }]);
});

test("figures count what this view's clients sent, and what it holds", async () => {
  await using server = await startTestServer();
  await server.createView("main");
  const token = await server.token({ main: ["pull", "push", "delete"] });
  const stats = async (): Promise<unknown> => {
    const {
      bazel: _,
      latency: __,
      ...nix
    } = (await server.send("GET", `${API}/views/main/stats`, { token })).json();
    return nix;
  };
  expect(await stats()).toEqual({
    paths: 0,
    nars: 0,
    narBytes: 0,
    fileBytes: 0,
    uploads: 0,
    uploadedNarBytes: 0,
    conflicts: 0,
  });
  const first = await createTestPath("one");
  const second = await createTestPath("two");
  const encoded = await encode(second);
  const pushed = await pushAttic(server, token, "main", first);
  await putNar(server, token, "main", second, encoded);
  const narBytes = first.nar.length + second.nar.length;
  const fileBytes = Number(pushed.json()["file_size"]) + encoded.length;
  const held = { nars: 2, narBytes, fileBytes, uploads: 2, uploadedNarBytes: narBytes };
  expect(await stats()).toEqual({ paths: 1, ...held, conflicts: 0 });

  await server.send("DELETE", `${API}/views/main/paths/${first.storePathHash}`, { token });
  expect(await stats()).toMatchObject({ paths: 0, uploads: 2, uploadedNarBytes: narBytes });
});

test("a made token lasts as long as asked for, or 90 days", async () => {
  await using server = await startTestServer();
  await server.createView("main");
  const caches = { main: { r: 1 } };
  const day = 24 * 3600;
  const usual = await makeToken(server, { subject: "ci", caches });
  const short = await makeToken(server, { caches, expiresInSeconds: 60 });
  const lasts = Date.parse(usual.expiresAt) - Date.parse(short.expiresAt);
  expect(Math.round(lasts / 1000 / 60)).toBe((90 * day) / 60 - 1);
  expect(decodeTokenUnverified(usual.token)?.payload).toMatchObject({ sub: "ci", jti: usual.jti });

  server.advance(60_000 + 61_000);
  expect(await mayPull(server, "main", short.token)).toBe(false);
  server.advance(89 * day * 1000);
  expect(await mayPull(server, "main", usual.token)).toBe(true);
});

test("a made token grants in the order it was asked for: the exact name, else the first pattern", async () => {
  await using server = await startTestServer();
  for (const name of ["main", "ci-1", "ci-2"]) await server.createView(name);
  const caches = { "ci-*": { w: 1 }, "*": { r: 1 }, "ci-2": { r: 1, w: 1 }, main: {} };
  const { token } = await makeToken(server, { caches });
  const verdicts = await Promise.all(
    ["main", "ci-1", "ci-2"].map((view) => mayPull(server, view, token)),
  );
  expect(verdicts).toEqual([false, false, true]);
  expect((await server.send("GET", "/main/nix-cache-info", { token })).status).toBe(401);
  expect((await server.send("GET", "/ci-1/nix-cache-info", { token })).status).toBe(403);
});

test("an administrator's token made here manages, and grants nothing on a view", async () => {
  await using server = await startTestServer();
  await server.createView("main");
  const { token } = await makeToken(server, { admin: 1 });
  expect((await postJson(server, token, `${API}/tokens`, {})).status).toBe(200);
  expect(await mayPull(server, "main", token)).toBe(false);
});

test.each(["5c0", "repo:acme/site:ref:main", "a b", "ü%"])(
  "the token %j, made anywhere, is revoked by its id",
  async (jti) => {
    await using server = await startTestServer();
    await server.createView("main");
    const token = await server.token({ main: ["pull"] }, { jti });
    expect(await mayPull(server, "main", token)).toBe(true);
    const admin = await server.token({}, { isAdmin: true });
    const expiresAt = Math.ceil(Date.now() / 1000) + 3600;
    const address = `${API}/tokens/${encodeURIComponent(jti)}?expiresAt=${expiresAt}`;
    expect((await server.send("DELETE", address, { token: admin })).status).toBe(204);
    expect(await mayPull(server, "main", token)).toBe(false);
  },
);

test.each([
  ["an id too long", "x".repeat(257), /is no token id/],
  ["an id with control characters", "a%00b", /is no token id/],
  ["a time that is none", "abc?expiresAt=tomorrow", /expiresAt is no number of seconds/],
])("revoking with %s is refused", async (_, address, message) => {
  await using server = await startTestServer();
  const token = await server.token({}, { isAdmin: true });
  const answer = await server.send("DELETE", `${API}/tokens/${address}`, { token });
  expect(answer.json()).toMatchObject({
    code: 400,
    error: "INVALID",
    message: expect.stringMatching(message),
  });
});

test("questions and closures are bounded, and the refusal says by what", async () => {
  await using server = await startTestServer();
  await server.createView("main");
  const token = await server.token({ main: ["push"] });
  const path = await createTestPath("many");
  const { storePathHash, narHash } = path;
  for (const [address, entry] of [
    ["missing", { storePathHash, narHash }],
    ["closures", closurePath(path)],
  ] as const) {
    const paths = Array.from({ length: 20_001 }, () => entry);
    const answer = await postJson(server, token, `${API}/views/main/${address}`, { paths });
    expect(answer.json()).toMatchObject({
      code: 400,
      message: expect.stringContaining("Expected at most 20000"),
    });
  }
});

test("what is missing is answered for any notation of a hash, each once", async () => {
  await using server = await startTestServer();
  await server.createView("main");
  const token = await server.token({ main: ["push"] });
  const held = await createTestPath("held", "same");
  const other = await createTestPath("other", "same");
  const absent = await createTestPath("absent");
  await pushAttic(server, token, "main", held);
  const sri = (hex: string): string => `sha256-${Buffer.from(hex, "hex").toString("base64")}`;
  const answer = await postJson(server, token, `${API}/views/main/missing`, {
    paths: [
      { storePathHash: held.storePathHash, narHash: sri(held.narHash) },
      { storePathHash: other.storePathHash, narHash: `sha256:${other.narHash}` },
      { storePathHash: absent.storePathHash, narHash: sri(absent.narHash) },
      { storePathHash: absent.storePathHash, narHash: sri(absent.narHash) },
    ],
  });
  expect(answer.json()).toEqual({
    missingPaths: [other.storePathHash, absent.storePathHash],
    missingNars: [absent.narHash],
    upstreamPaths: [],
  });
});

test("a closure's refusal names a NAR that two of its paths lack once", async () => {
  await using server = await startTestServer();
  await server.createView("main");
  const token = await server.token({ main: ["push"] });
  const paths = [await createTestPath("one", "same"), await createTestPath("two", "same")];
  const answer = await postJson(server, token, `${API}/views/main/closures`, {
    paths: paths.map(closurePath),
  });
  expect(answer.json()).toMatchObject({ code: 409, missingNars: [paths[0]?.narHash] });
});

test("who may configure a view lists what it holds, page by page in order, and nothing that is lost", async () => {
  await using server = await startTestServer();
  await server.createView("main", { isPublic: true });
  const token = await server.token({ main: ["pull", "push", "configure"] });
  const list = (query = "", by = token): ReturnType<TestServer["send"]> =>
    server.send("GET", `${API}/views/main/paths${query}`, { token: by });
  expect((await list()).json()).toEqual({ paths: [] });

  const pushed: string[] = [];
  for (let number = 0; number < 5; number += 1) {
    const path = await createTestPath(`path-${number}`);
    await pushAttic(server, token, "main", path);
    pushed.push(path.storePath);
  }
  pushed.sort();

  const all = (await list()).json() as { paths: { storePath: string }[]; next?: string };
  expect(all.paths.map(({ storePath }) => storePath)).toEqual(pushed);
  expect(all.next).toBeUndefined();
  const first = (await list("?limit=2")).json() as { next: string };
  expect(first).toMatchObject({ paths: [{ storePath: pushed[0] }, { storePath: pushed[1] }] });
  const second = (await list(`?limit=4&after=${first.next}`)).json();
  expect(second).toMatchObject({ paths: pushed.slice(2).map((storePath) => ({ storePath })) });
  expect(second).not.toHaveProperty("next");

  expect((await list("", await server.token({ main: ["pull", "push"] }))).status).toBe(403);
  expect((await server.send("GET", `${API}/views/main/paths`)).status).toBe(401);
  expect((await list("?limit=0")).status).toBe(400);
  expect((await list("?after=x")).status).toBe(400);
});
