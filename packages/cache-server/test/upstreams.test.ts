import { formatPublicKey, secretKeyFromSeed, toPublicKey } from "@glorious/nix-store";
import { expect, test } from "vitest";

import { NO_VIEW_POLICY } from "../src/trust/view-policy.ts";
import { samplePath, storePathHashOf } from "./index/index-samples.ts";
import { push } from "./index/index-setup.ts";
import { createTestPath } from "./test-path.ts";
import { startTestServer, type TestAnswer, type TestServer } from "./test-server.ts";
import { postJson, pushAttic } from "./uploads.ts";
import { startFakeUpstream } from "./upstream/fake-upstream.ts";

const API = "/_flywheel/v1";
const SECRET = "hunter2hunter2";
const [KEY, OTHER_KEY] = ["up-1", "up-2"].map((name) =>
  formatPublicKey(toPublicKey(secretKeyFromSeed(name, Buffer.alloc(32, name)))),
);

interface Setup extends AsyncDisposable {
  readonly server: TestServer;
  readonly admin: string;
  /** Configures and reads `main`. */
  readonly owner: string;
  /** The same of `other`. */
  readonly stranger: string;
  readonly add: (upstream: Readonly<Record<string, unknown>>) => Promise<TestAnswer>;
  readonly attach: (view: string, token: string, ...names: string[]) => Promise<TestAnswer>;
  readonly upstreamsOf: (view: string, token?: string) => Promise<readonly string[]>;
}

async function setUp(...settings: Parameters<typeof startTestServer>): Promise<Setup> {
  const server = await startTestServer(...settings);
  await server.createView("main");
  await server.createView("other");
  const admin = await server.token(
    { "*": ["pull", "push", "configure", "configureRetention"] },
    { isAdmin: true },
  );
  const tokenFor = (view: string): Promise<string> =>
    server.token({ [view]: ["pull", "push", "configure"] });
  return {
    server,
    admin,
    owner: await tokenFor("main"),
    stranger: await tokenFor("other"),
    add: (upstream) =>
      postJson(server, admin, `${API}/upstreams`, {
        url: "https://cache.example",
        publicKeys: [KEY],
        ...upstream,
      }),
    attach: (view, token, ...upstreams) =>
      postJson(server, token, `${API}/views/${view}/upstreams`, { upstreams }, "PUT"),
    upstreamsOf: async (view, token = admin) => {
      const answer = await server.send("GET", `${API}/views/${view}/upstreams`, { token });
      expect(answer.status).toBe(200);
      const { upstreams } = answer.json() as { upstreams: readonly { readonly name: string }[] };
      return upstreams.map(({ name }) => name);
    },
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

test("an administrator defines upstreams, and views have those that were defined, in order", async () => {
  await using cache = await setUp();
  const { server, admin, owner, add, attach, upstreamsOf } = cache;

  const added = await add({ name: "nixos", maxSizeBytes: 1000 });
  expect(added.status).toBe(200);
  expect(added.json()).toEqual({
    name: "nixos",
    url: "https://cache.example/",
    publicKeys: [KEY],
    storeDir: "/nix/store",
    priority: 40,
    isPrivate: false,
    hasCredentials: false,
    isReadableOnTheWay: false,
    views: [],
    paths: 0,
    fileBytes: 0,
    maxSizeBytes: 1000,
    createdAt: expect.any(String),
    state: "asked",
  });
  await add({ name: "corp", url: "http://10.0.0.1/" });
  expect((await add({ name: "corp" })).status).toBe(409);
  expect((await attach("main", owner, "corp", "nixos")).status).toBe(200);
  expect(await upstreamsOf("main", owner)).toEqual(["corp", "nixos"]);
  expect(await upstreamsOf("other")).toEqual([]);

  const list = await server.send("GET", `${API}/upstreams`, { token: admin });
  expect(list.json()).toMatchObject({
    upstreams: [
      { name: "corp", views: ["main"], isReadableOnTheWay: true },
      { name: "nixos", views: ["main"] },
    ],
  });
  expect((await attach("main", owner)).status).toBe(200);
  expect(await upstreamsOf("main")).toEqual([]);
});

test("an overlay shows what a read of it looks into: its base, the shared views behind that, and their upstreams", async () => {
  const reads: Record<string, readonly string[]> = { main: ["common", "hidden"] };
  await using cache = await setUp(
    {},
    {
      viewPolicy: {
        ...NO_VIEW_POLICY,
        commons: { view: "common", tenants: 2, contributors: [] },
        settingsOf: (name) => ({ ...NO_VIEW_POLICY.settingsOf(name), reads: reads[name] ?? [] }),
      },
    },
  );
  const { server, admin, owner, add, attach } = cache;
  for (const name of ["common", "hidden"]) await server.createView(name);
  await add({ name: "nixos" });
  await add({ name: "near", priority: 10 });
  await add({ name: "secret" });
  await attach("main", owner, "nixos");
  await attach("common", await server.token({ common: ["configure"] }), "near", "nixos");
  await attach("hidden", await server.token({ hidden: ["configure"] }), "secret");
  const show = async (view: string, token: string): Promise<unknown> =>
    (await server.send("GET", `${API}/views/${view}/upstreams`, { token })).json();

  const reader = await server.token({ "main_pr-1": ["pull"], main: ["pull"], common: ["pull"] });
  const shown = await show("main_pr-1", reader);
  expect(shown).toMatchObject({
    upstreams: [],
    reads: [
      { view: "main", isCommons: false, upstreams: ["nixos"] },
      { view: "common", isCommons: true, upstreams: ["near", "nixos"] },
    ],
    asked: [{ name: "near" }, { name: "nixos" }],
  });
  expect(JSON.stringify(shown)).not.toMatch(/hidden|secret|fileBytes/);

  expect(await show("main", await server.token({ main: ["pull", "configure"] }))).toMatchObject({
    reads: [{ view: "main" }],
    asked: [{ name: "nixos", fileBytes: 0 }],
  });
  expect(await show("main", admin)).toMatchObject({
    reads: [{ view: "main" }, { view: "common" }, { view: "hidden", upstreams: ["secret"] }],
    asked: [{ name: "near", fileBytes: 0 }, { name: "nixos" }, { name: "secret" }],
  });
});

test("only administrators define upstreams, only who configures a view attaches them", async () => {
  await using cache = await setUp();
  const { server, owner, stranger, add, attach, upstreamsOf } = cache;
  await add({ name: "nixos" });
  const reader = await server.token({ main: ["pull"] });

  for (const token of [owner, reader]) {
    for (const [method, path] of [
      ["GET", "upstreams"],
      ["GET", "upstreams/nixos"],
      ["DELETE", "upstreams/nixos"],
    ] as const) {
      expect((await server.send(method, `${API}/${path}`, { token })).status).toBe(403);
    }
    const body = { name: "mine", url: "http://169.254.169.254/", publicKeys: [KEY] };
    expect((await postJson(server, token, `${API}/upstreams`, body)).status).toBe(403);
    const change = await postJson(server, token, `${API}/upstreams/nixos`, {}, "PATCH");
    expect(change.status).toBe(403);
  }
  expect((await attach("main", reader, "nixos")).status).toBe(403);
  expect((await attach("main", stranger, "nixos")).status).toBe(401);
  expect((await attach("main", owner, "absent")).status).toBe(404);
  await attach("main", owner, "nixos");
  expect(await upstreamsOf("main", reader)).toEqual(["nixos"]);
  const seen = await server.send("GET", `${API}/views/main/upstreams`, { token: reader });
  expect(seen.text).not.toContain("fileBytes");
  const hidden = await server.send("GET", `${API}/views/main/upstreams`, { token: stranger });
  expect(hidden.status).toBe(401);
});

test("credentials are in no answer and no log, and belong to one view", async () => {
  await using cache = await setUp();
  const { server, admin, owner, stranger, add, attach, upstreamsOf } = cache;
  const authorization = `Bearer ${SECRET}`;

  const shared = await add({ name: "shared", authorization });
  expect(shared.status).toBe(400);
  const readable = await add({ name: "x", view: "main", url: "http://10.0.0.1", authorization });
  expect(readable.status).toBe(400);
  const inUrl = await add({ name: "x", url: `https://user:${SECRET}@cache.example/` });
  expect(inUrl.status).toBe(400);
  const malformed = await add({ name: "x", view: "main", authorization: `Digest ${SECRET} x` });
  expect(malformed.status).toBe(400);
  const added = await add({ name: "mine", view: "main", authorization });
  expect(added.json()).toMatchObject({ view: "main", isPrivate: true, hasCredentials: true });
  const changed = await postJson(
    server,
    admin,
    `${API}/upstreams/mine`,
    { authorization: `Basic ${SECRET}` },
    "PATCH",
  );
  expect(changed.status).toBe(200);
  expect(await server.index.findUpstream("mine")).toMatchObject({
    authorization: `Basic ${SECRET}`,
  });

  // To others it is as if it was not there.
  const [private_, absent] = [
    await attach("other", stranger, "mine"),
    await attach("other", stranger, "none"),
  ];
  expect(private_.status).toBe(404);
  expect(private_.json()["message"]).toBe(String(absent.json()["message"]).replace("none", "mine"));
  const attached = await attach("main", owner, "mine");
  expect(attached.status).toBe(200);
  expect(await upstreamsOf("other", stranger)).toEqual([]);
  const listed = await server.send("GET", `${API}/upstreams`, { token: admin });
  const answers = [shared, readable, inUrl, malformed, added, changed, attached, listed];
  expect(answers.map(({ text }) => text).join()).not.toContain(SECRET);
  expect(JSON.stringify(server.logs)).not.toContain(SECRET);
});

test("what credentials give is never for everybody, whichever is there first", async () => {
  await using cache = await setUp();
  const { server, admin, owner, add, attach } = cache;
  const authorization = `Bearer ${SECRET}`;
  const expose = (view: string): Promise<TestAnswer> =>
    postJson(server, admin, `/_api/v1/cache-config/${view}`, { is_public: true }, "PATCH");

  await add({ name: "mine", view: "main", authorization });
  expect((await attach("main", owner, "mine")).status).toBe(200);
  expect((await expose("main")).status).toBe(409);
  expect(await server.index.findView("main")).toMatchObject({ isPublic: false });

  expect((await attach("main", owner)).status).toBe(200);
  expect((await expose("main")).status).toBe(200);
  expect((await attach("main", owner, "mine")).status).toBe(409);
  expect((await add({ name: "more", view: "main", authorization })).status).toBe(409);
  await add({ name: "plain", view: "main" });
  expect((await attach("main", owner, "plain")).status).toBe(200);
  const change = { authorization };
  const changed = await postJson(server, admin, `${API}/upstreams/plain`, change, "PATCH");
  expect(changed.status).toBe(409);
});

test.each([
  [{ name: "Bad Name" }, 400],
  [{ name: "x".repeat(33) }, 400],
  [{ url: "file:///etc" }, 400],
  [{ publicKeys: [] }, 400],
  [{ publicKeys: ["no-key"] }, 400],
  [{ storeDir: "relative" }, 400],
  [{ priority: -1 }, 400],
  [{ maxSizeBytes: "1GiB" }, 400],
  [{ view: "absent" }, 404],
  [{ surprise: 1 }, 400],
])("a definition with %j is refused", async (wrong, status) => {
  await using cache = await setUp();

  const answer = await cache.add({ name: "x", ...wrong });

  expect(answer.status).toBe(status);
  expect(answer.json()["message"]).toEqual(expect.any(String));
  expect(await cache.server.index.listUpstreams()).toEqual([]);
});

test("an upstream is for views with its store directory, and no overlay has one of its own", async () => {
  await using cache = await setUp();
  await cache.add({ name: "opt", storeDir: "/opt/store" });
  await cache.add({ name: "nixos" });

  expect((await cache.attach("main", cache.owner, "opt")).status).toBe(409);
  const many = Array.from({ length: 9 }, () => "nixos");
  expect((await cache.attach("main", cache.owner, ...many)).status).toBe(400);
  const overlay = await cache.server.index.createView(
    {
      ...{ name: "main_pr-1", isPublic: false, storeDir: "/nix/store", priority: 41 },
      ...{ upstreamCacheKeyNames: [], retentionSeconds: 1000, createdAtMs: Date.now() },
      ...{ maxSizeBytes: undefined, compressionLevel: undefined },
      overlayOf: (await cache.server.index.findView("main"))?.id,
    },
    { name: "k", secretKey: "k:s", publicKey: "k:p", createdAtMs: 0 },
  );
  const answer = await cache.attach(overlay.name, cache.admin, "nixos");
  expect(answer.status).toBe(400);
  expect(answer.json()).toMatchObject({ hint: expect.stringContaining("main") });
});

test("a removed upstream leaves the views that had it, and they are named", async () => {
  await using cache = await setUp();
  const { server, admin, owner, stranger, add, attach, upstreamsOf } = cache;
  await add({ name: "a" });
  await add({ name: "b" });
  await attach("main", owner, "a", "b");
  await attach("other", stranger, "a");

  const removed = await server.send("DELETE", `${API}/upstreams/a`, { token: admin });

  expect(removed.json()).toEqual({ name: "a", views: ["main", "other"] });
  expect(await upstreamsOf("main")).toEqual(["b"]);
  expect(await upstreamsOf("other")).toEqual([]);
  expect((await server.send("DELETE", `${API}/upstreams/a`, { token: admin })).status).toBe(404);
});

test("a key that is taken from an upstream takes what it vouched for along", async () => {
  await using cache = await setUp();
  const { server, admin, add } = cache;
  await add({ name: "up" });
  const before = await server.index.findUpstream("up");
  await push(server.index, before?.viewId ?? 0, "a");
  const change = (publicKeys: readonly (string | undefined)[]): Promise<TestAnswer> =>
    postJson(server, admin, `${API}/upstreams/up`, { publicKeys }, "PATCH");

  expect((await change([KEY, OTHER_KEY])).json()).toMatchObject({ paths: 1 });
  expect((await change([OTHER_KEY])).json()).toMatchObject({ paths: 0, publicKeys: [OTHER_KEY] });
});

test("what was fetched goes by its own limit, the longest unused first, and pushed data never", async () => {
  await using cache = await setUp({ accessResolutionMs: "1s" });
  const { server, admin, add } = cache;
  const paths = await Promise.all(["a", "b", "c"].map((name) => createTestPath(name)));
  for (const path of paths) await pushAttic(server, admin, "main", path);
  // Each of the samples takes 105 bytes.
  await add({ name: "small", maxSizeBytes: 220 });
  await add({ name: "roomy" });
  const [small, roomy] = [
    await server.index.findUpstream("small"),
    await server.index.findUpstream("roomy"),
  ];
  if (small === undefined || roomy === undefined) throw new Error("There are no upstreams");
  const seeds = ["x", "y", "z"];
  for (const { viewId } of [small, roomy]) await push(server.index, viewId, ...seeds);
  for (const [age, seed] of ["y", "z", "x"].entries()) {
    const touch = { storePathHash: storePathHashOf(seed), atMs: Date.now() - 10_000 + age };
    for (const { viewId } of [small, roomy]) {
      await server.index.touchPaths([{ viewId, ...touch }]);
    }
  }

  const collected = await postJson(server, admin, `${API}/gc?dryRun=0`, {});

  const { views } = collected.json() as { views: readonly Record<string, unknown>[] };
  expect(views.map(({ view, deleted }) => [view, deleted])).toEqual([
    ["main", 0],
    ["other", 0],
    ["upstream/roomy", 0],
    ["upstream/small", 1],
  ]);
  const hashes = seeds.map((seed) => storePathHashOf(seed));
  expect(await server.index.findMissingPaths(small.viewId, hashes)).toEqual([storePathHashOf("y")]);
  expect(await server.index.findMissingPaths(roomy.viewId, hashes)).toEqual([]);
  const main = await server.index.findView("main");
  expect(await server.index.viewStats(main?.id ?? 0)).toMatchObject({ paths: 3 });
  // A view that may hold nothing evicts nothing of an upstream.
  await postJson(server, admin, `${API}/views/main`, { maxSizeBytes: 0 }, "PATCH");
  server.advance(10_000);
  await postJson(server, admin, `${API}/gc?dryRun=0`, {});
  expect(await server.index.viewStats(main?.id ?? 0)).toMatchObject({ paths: 0 });
  expect(await server.index.findMissingPaths(roomy.viewId, hashes)).toEqual([]);
});

test("two tenants share what was fetched, and none of their views shows it as its own", async () => {
  await using cache = await setUp();
  const { server, owner, stranger, add, attach } = cache;
  await add({ name: "up" });
  await attach("main", owner, "up");
  await attach("other", stranger, "up");
  const upstream = await server.index.findUpstream("up");
  await push(server.index, upstream?.viewId ?? 0, "a");
  const { storePathHash, narHash } = samplePath("a");

  for (const [view, token] of [
    ["main", owner],
    ["other", stranger],
  ] as const) {
    const seen = await server.send("GET", `${API}/views/${view}/upstreams`, { token });
    expect(seen.json()).toMatchObject({ upstreams: [{ name: "up", paths: 1 }] });
    const stats = await server.send("GET", `${API}/views/${view}/stats`, { token });
    expect(stats.json()).toMatchObject({ paths: 0, fileBytes: 0 });
    const missing = await postJson(server, token, `${API}/views/${view}/missing`, {
      paths: [{ storePathHash, narHash }],
    });
    expect(missing.json()).toMatchObject({ missingPaths: [storePathHash], missingNars: [narHash] });
  }
});

test("whether a view signs and pushes what upstreams have is set by who configures it", async () => {
  await using cache = await setUp();
  const { server, owner } = cache;

  const set = await postJson(
    server,
    owner,
    `${API}/views/main`,
    { signsUpstream: true, pushesUpstream: true },
    "PATCH",
  );

  expect(set.json()).toMatchObject({ signsUpstream: true, pushesUpstream: true });
  const seen = await server.send("GET", `${API}/views/main/upstreams`, { token: owner });
  expect(seen.json()).toMatchObject({
    signsUpstream: true,
    pushesUpstream: true,
    upstreams: [],
    asked: [],
  });
});

test("readers learn the keys of upstreams to trust, unless the view signs what they have", async () => {
  await using cache = await setUp();
  const { server, owner, add, attach } = cache;
  const keysFor = async (): Promise<readonly string[]> => {
    const answer = await server.send("GET", "/_api/v1/cache-config/main", { token: owner });
    const { flywheel } = answer.json() as { flywheel: { publicKeys: readonly string[] } };
    return flywheel.publicKeys;
  };
  const own = await keysFor();
  await add({ name: "a", publicKeys: [KEY, OTHER_KEY] });
  await add({ name: "b", publicKeys: [OTHER_KEY] });
  await attach("main", owner, "b", "a");

  expect(await keysFor()).toEqual([...own, OTHER_KEY, KEY]);
  const sign = { signsUpstream: true };
  await postJson(server, owner, `${API}/views/main`, sign, "PATCH");
  expect(await keysFor()).toEqual(own);
});

test("an upstream is tried out: its answer, whether its key is right, and what is wrong", async () => {
  await using cache = await setUp();
  await using upstream = await startFakeUpstream();
  const { server, admin, add } = cache;
  const path = await createTestPath("hello");
  await upstream.add(path);
  const { storePathHash } = path;
  const tryOut = async (name: string, body = {}): Promise<Record<string, unknown>> => {
    const answer = await postJson(server, admin, `${API}/upstreams/${name}/test`, body);
    expect(answer.status).toBe(200);
    return answer.json();
  };
  await add({ name: "right", url: upstream.url, publicKeys: [upstream.publicKey] });
  await add({ name: "wrong", url: upstream.url, publicKeys: [KEY] });
  await add({ name: "gone", url: "http://127.0.0.1:9/" });

  expect(await tryOut("right")).toEqual({
    name: "right",
    isReachable: true,
    durationMs: expect.any(Number),
    problems: [],
    storeDir: "/nix/store",
    priority: 40,
    state: "asked",
  });
  expect(await tryOut("right", { storePathHash })).toMatchObject({
    problems: [],
    sample: { storePathHash, storePath: path.storePath },
  });
  expect(await tryOut("wrong", { storePathHash })).toMatchObject({
    isReachable: true,
    problems: [{ reason: "other-key", message: expect.stringContaining("upstream-1") }],
    sample: { storePathHash },
  });
  expect(await tryOut("gone")).toMatchObject({
    isReachable: false,
    problems: [{ reason: "unreachable" }],
    state: "asked",
  });
  const strangerAsks = await postJson(server, cache.owner, `${API}/upstreams/right/test`, {});
  expect(strangerAsks.status).toBe(403);
});

test("readers of a view see how it goes with its upstreams", async () => {
  await using cache = await setUp();
  await using upstream = await startFakeUpstream();
  const { server, owner, add, attach } = cache;
  const path = await createTestPath("hello");
  await upstream.add(path);
  await add({ name: "wrong", url: upstream.url, publicKeys: [KEY] });
  await attach("main", owner, "wrong");

  const narInfo = `/main/${path.storePathHash}.narinfo`;
  expect((await server.send("GET", narInfo, { token: owner })).status).toBe(404);

  const seen = await server.send("GET", `${API}/views/main/upstreams`, { token: owner });
  expect(seen.json()).toMatchObject({
    upstreams: [{ state: "asked", lastFault: { reason: "other-key", secondsAgo: 0 } }],
  });
});

test("the space that an upstream takes is a figure of the server, gone with the upstream", async () => {
  await using cache = await setUp();
  const { server, admin, add } = cache;
  await add({ name: "up" });
  const upstream = await server.index.findUpstream("up");
  await push(server.index, upstream?.viewId ?? 0, "a");
  const figures = async (): Promise<string> => (await server.send("GET", "/metrics")).text;

  expect(await figures()).toMatch(/^flywheel_upstream_stored_bytes\{upstream="up"\} 105$/m);
  await server.send("DELETE", `${API}/upstreams/up`, { token: admin });
  expect(await figures()).not.toContain('upstream="up"');
});
