import { parseNarInfo } from "@glorious/nix-store";
import { expect, test } from "vitest";

import { NO_VIEW_POLICY } from "../src/trust/view-policy.ts";
import { createTestPath, type TestPath } from "./test-path.ts";
import { startTestServer, type TestServer } from "./test-server.ts";
import { closurePath, encode, postJson, pushAttic, putNar } from "./uploads.ts";

/** A main view with a shared one behind it, another tenant's, and one path in each. */
async function startWithViews(): Promise<{
  readonly server: TestServer;
  readonly paths: { readonly main: TestPath; readonly shared: TestPath; readonly other: TestPath };
  readonly admin: string;
}> {
  const reads: Record<string, readonly string[]> = { "acme+main": ["common", "main_pr-1"] };
  const server = await startTestServer(
    {},
    {
      viewPolicy: {
        ...NO_VIEW_POLICY,
        settingsOf: (name) => ({ ...NO_VIEW_POLICY.settingsOf(name), reads: reads[name] ?? [] }),
      },
    },
  );
  for (const name of ["acme+main", "common", "globex+main"]) await server.createView(name);
  const admin = await server.token({ "*": ["pull", "push"] });
  const paths = {
    main: await createTestPath("main"),
    shared: await createTestPath("shared"),
    other: await createTestPath("other"),
  };
  await pushAttic(server, admin, "acme+main", paths.main);
  await pushAttic(server, admin, "common", paths.shared);
  await pushAttic(server, admin, "globex+main", paths.other);
  return { server, paths, admin };
}

function readNarInfo(
  server: TestServer,
  token: string | undefined,
  view: string,
  path: TestPath,
): ReturnType<TestServer["send"]> {
  return server.send("GET", `/${view}/${path.storePathHash}.narinfo`, {
    ...(token === undefined ? {} : { token }),
  });
}

test("an overlay reads through to its base and to the shared views behind it, and no further", async () => {
  const { server, paths } = await startWithViews();
  await using _ = server;
  await server.createView("acme+main_pr-1");
  const token = await server.token({
    "acme+main_pr-1": ["pull", "push"],
    "acme+main": ["pull"],
    common: ["pull"],
    "globex+main": ["pull"],
  });
  const own = await createTestPath("own");
  await pushAttic(server, token, "acme+main_pr-1", own);

  for (const path of [own, paths.main, paths.shared]) {
    // The second time from memory.
    for (const _time of [1, 2]) {
      const narInfo = await readNarInfo(server, token, "acme+main_pr-1", path);
      expect([path.storePath, narInfo.status]).toEqual([path.storePath, 200]);
      const nar = await server.send("GET", `/acme+main_pr-1/${parseNarInfo(narInfo.text).url}`, {
        token,
      });
      expect(nar.status).toBe(200);
      const listing = `/acme+main_pr-1/${path.storePathHash}.ls`;
      expect((await server.send("GET", listing, { token })).status).toBe(200);
    }
  }
  expect((await readNarInfo(server, token, "acme+main_pr-1", paths.other)).status).toBe(404);
  expect((await readNarInfo(server, token, "acme+main", own)).status).toBe(404);
  expect((await readNarInfo(server, token, "common", own)).status).toBe(404);
});

test("what lies behind a view is read by those alone who may pull it", async () => {
  const { server, paths } = await startWithViews();
  await using _ = server;
  const narrow = await server.token({ "acme+main": ["pull"] });
  const wide = await server.token({ "acme+main": ["pull"], common: ["pull"] });

  expect((await readNarInfo(server, wide, "acme+main", paths.shared)).status).toBe(200);
  // Neither has the other's answer from memory.
  for (const _time of [1, 2]) {
    expect((await readNarInfo(server, narrow, "acme+main", paths.shared)).status).toBe(404);
    expect((await readNarInfo(server, wide, "acme+main", paths.shared)).status).toBe(200);
  }
  await server.index.updateView("common", { isPublic: true });
  expect((await readNarInfo(server, narrow, "acme+main", paths.shared)).status).toBe(200);
});

test("an answer is for everybody only when everything it may come from is", async () => {
  const { server, paths } = await startWithViews();
  await using _ = server;
  await server.index.updateView("acme+main", { isPublic: true });
  const token = await server.token({ "acme+main": ["pull"], common: ["pull"] });

  const anonymous = await readNarInfo(server, undefined, "acme+main", paths.main);
  expect(anonymous.headers["cache-control"]).toBe("public, max-age=300");
  const known = await readNarInfo(server, token, "acme+main", paths.shared);
  expect(known.headers["cache-control"]).toBe("private, max-age=300");
  expect((await readNarInfo(server, undefined, "acme+main", paths.shared)).status).toBe(404);
});

test("an overlay that nobody has written to reads as its base does", async () => {
  const { server, paths } = await startWithViews();
  await using _ = server;
  const token = await server.token({
    "acme+main_ref-0a1b2c3d": ["pull"],
    "acme+main": ["pull"],
  });
  const info = await server.send("GET", "/acme+main_ref-0a1b2c3d/nix-cache-info", { token });

  expect(info.text).toContain("StoreDir: /nix/store");
  expect((await readNarInfo(server, token, "acme+main_ref-0a1b2c3d", paths.main)).status).toBe(200);
  expect((await readNarInfo(server, token, "acme+main_ref-ffffffff", paths.main)).status).toBe(401);
  expect((await readNarInfo(server, undefined, "acme+main_pr-2", paths.main)).status).toBe(401);
  await server.index.updateView("acme+main", { isPublic: true });
  expect((await readNarInfo(server, undefined, "acme+main_pr-2", paths.main)).status).toBe(401);
});

test("a pull request need not upload what its base has, and never counts as having it", async () => {
  const { server, paths } = await startWithViews();
  await using _ = server;
  await server.createView("acme+main_pr-1");
  const view = "acme+main_pr-1";
  const token = await server.token({ [view]: ["pull", "push"], "acme+main": ["pull"] });
  const app = await createTestPath("app", "app", [paths.main.baseName]);
  const asked = [app, paths.main, paths.shared, paths.other];

  const attic = await postJson(server, token, "/_api/v1/get-missing-paths", {
    cache: view,
    store_path_hashes: asked.map((path) => path.storePathHash),
  });
  const absent = [app, paths.shared, paths.other].map((path) => path.storePathHash);
  expect(attic.json()).toEqual({ missing_paths: absent });
  const ours = await postJson(server, token, `/_flywheel/v1/views/${view}/missing`, {
    paths: [app, paths.main].map(({ storePathHash, narHash }) => ({ storePathHash, narHash })),
  });
  expect(ours.json()).toEqual({
    missingPaths: [app.storePathHash],
    missingNars: [app.narHash],
    upstreamPaths: [],
  });
  await putNar(server, token, view, app, await encode(app));
  const closures = `/_flywheel/v1/views/${view}/closures`;
  const stolen = await postJson(server, token, closures, {
    paths: [closurePath(app), closurePath(paths.main)],
  });
  expect(stolen.json()).toMatchObject({ code: 409, missingNars: [paths.main.narHash] });
  const committed = await postJson(server, token, closures, { paths: [closurePath(app)] });
  expect(committed.json()).toMatchObject({ created: [app.storePathHash] });
  expect(await server.index.viewStats((await server.index.findView(view))?.id ?? 0)).toMatchObject({
    paths: 1,
    nars: 1,
  });
});

test("a push into a base refers to nothing of the shared views behind it", async () => {
  const { server, paths } = await startWithViews();
  await using _ = server;
  const token = await server.token({ "acme+main": ["pull", "push"], common: ["pull"] });
  const app = await createTestPath("app", "app", [paths.shared.baseName]);
  await putNar(server, token, "acme+main", app, await encode(app));

  const missing = await postJson(server, token, "/_api/v1/get-missing-paths", {
    cache: "acme+main",
    store_path_hashes: [paths.shared.storePathHash],
  });
  expect(missing.json()).toEqual({ missing_paths: [paths.shared.storePathHash] });
  const commit = await postJson(server, token, "/_flywheel/v1/views/acme+main/closures", {
    paths: [closurePath(app)],
  });
  expect(commit.json()).toMatchObject({ code: 409, missingReferences: [{}] });
});

test("a NAR that only the base holds is not offered to who would push into the overlay", async () => {
  const { server, paths } = await startWithViews();
  await using _ = server;
  await server.createView("acme+main_pr-1");
  const reader = await server.token({ "acme+main_pr-1": ["pull"], "acme+main": ["pull"] });
  const pusher = await server.token({ "acme+main_pr-1": ["pull", "push"], "acme+main": ["pull"] });
  const { url } = parseNarInfo((await readNarInfo(server, reader, "acme+main", paths.main)).text);

  const file = `/acme+main_pr-1/${url}`;
  expect((await server.send("HEAD", file, { token: reader })).status).toBe(200);
  expect((await server.send("HEAD", file, { token: pusher })).status).toBe(404);
  expect((await server.send("GET", file, { token: pusher })).status).toBe(200);
});

test("reading a base's path through an overlay counts as its use", async () => {
  const { server, paths } = await startWithViews();
  await using _ = server;
  const base = await server.index.findView("acme+main");
  const find = async (): Promise<number> =>
    (await server.index.findPath([base?.id ?? 0], paths.main.storePathHash))?.accessedAtMs ?? 0;
  const before = await find();
  server.advance(30 * 24 * 3_600_000);
  const token = await server.token({ "acme+main_pr-1": ["pull"], "acme+main": ["pull"] });
  await readNarInfo(server, token, "acme+main_pr-1", paths.main);
  await server.stop();

  expect(await find()).toBeGreaterThan(before);
});

test("nobody creates an overlay by its name", async () => {
  await using server = await startTestServer();
  await server.createView("main");
  const token = await server.token({ "*": ["create", "pull"] });

  const created = await postJson(server, token, "/_api/v1/cache-config/main_pr-3", {
    keypair: "Generate",
    is_public: true,
    store_dir: "/nix/store",
    priority: 40,
    upstream_cache_key_names: [],
  });
  expect(created.status).toBe(400);
  expect(await server.index.findView("main_pr-3")).toBeUndefined();
});
