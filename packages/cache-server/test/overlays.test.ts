import {
  narInfoFingerprint,
  parseNarInfo,
  parsePublicKey,
  parseSignature,
  verifySignature,
} from "@glorious/nix-store";
import { expect, test } from "vitest";

import { createOverlayKeys } from "../src/trust/overlay-keys.ts";
import { NO_VIEW_POLICY, type ViewPolicy } from "../src/trust/view-policy.ts";
import { jobToken, pullRequestToken, sampleGrant } from "./job-tokens.ts";
import { createTestPath, type TestPath } from "./test-path.ts";
import { startTestServer, type TestAnswer, type TestServer } from "./test-server.ts";
import { closurePath, encode, postJson, pushAttic, putNar } from "./uploads.ts";

const DAY_MS = 24 * 3_600_000;

function readNarInfo(
  server: TestServer,
  token: string,
  view: string,
  path: TestPath,
): Promise<TestAnswer> {
  return server.send("GET", `/${view}/${path.storePathHash}.narinfo`, { token });
}

function limited(quotaBytes: number | undefined, total?: number): ViewPolicy {
  const overlays = { quotaBytes, retentionSeconds: undefined };
  return {
    ...NO_VIEW_POLICY,
    settingsOf: () => ({ reads: [], overlays }),
    quotasOf: (tenant) => [{ tenants: [tenant], overlayBytes: total }],
  };
}

test("an overlay comes into being with its first write, and holds that for its own readers", async () => {
  await using server = await startTestServer();
  await server.createView("main");
  const token = await pullRequestToken(server, 7);
  const path = await createTestPath("changed");
  expect((await readNarInfo(server, token, "main_pr-7", path)).status).toBe(404);
  const asked = await postJson(server, token, "/_flywheel/v1/views/main_pr-7/missing", {
    paths: [{ storePathHash: path.storePathHash, narHash: path.narHash }],
  });
  expect(asked.json()).toEqual({
    missingPaths: [path.storePathHash],
    missingNars: [path.narHash],
    upstreamPaths: [],
  });
  expect(await server.index.findView("main_pr-7")).toBeUndefined();

  expect((await pushAttic(server, token, "main_pr-7", path)).status).toBe(200);

  expect((await readNarInfo(server, token, "main_pr-7", path)).status).toBe(200);
  expect(await server.index.findView("main_pr-7")).toMatchObject({
    isPublic: false,
    overlayOf: (await server.index.findView("main"))?.id,
    retentionSeconds: 7 * 24 * 3600,
    maxSizeBytes: 10 * 2 ** 30,
  });
  const main = await jobToken(server);
  expect((await readNarInfo(server, main, "main", path)).status).toBe(404);
  expect((await readNarInfo(server, main, "main_pr-7", path)).status).toBe(401);
  const other = await pullRequestToken(server, 8);
  expect((await readNarInfo(server, other, "main_pr-7", path)).status).toBe(401);
  expect((await readNarInfo(server, other, "main_pr-8", path)).status).toBe(404);
});

test("two first writes at once make one overlay", async () => {
  await using server = await startTestServer();
  await server.createView("main");
  const token = await pullRequestToken(server, 7);
  const paths = await Promise.all(["a", "b", "c", "d"].map((name) => createTestPath(name)));

  const pushed = await Promise.all(
    paths.map((path) => pushAttic(server, token, "main_pr-7", path)),
  );

  expect(pushed.map(({ status }) => status)).toEqual([200, 200, 200, 200]);
  const views = await server.index.listViews();
  expect(views.map(({ name }) => name)).toEqual(["main", "main_pr-7"]);
});

test("a job may trust an overlay's key before there is an overlay", async () => {
  await using server = await startTestServer();
  await server.createView("main");
  const token = await pullRequestToken(server, 7);
  const config = await server.send("GET", "/_api/v1/cache-config/main_pr-7", { token });
  const mainConfig = await server.send("GET", "/_api/v1/cache-config/main", { token });
  const [own = "", behind] = (config.json()["flywheel"] as { publicKeys: string[] }).publicKeys;
  expect(config.json()["public_key"]).toBe(own);
  expect(behind).toBe(mainConfig.json()["public_key"]);

  const path = await createTestPath("changed");
  await pushAttic(server, token, "main_pr-7", path);

  const info = parseNarInfo((await readNarInfo(server, token, "main_pr-7", path)).text);
  const key = parsePublicKey(own);
  expect(info.signatures.map((text) => parseSignature(text).keyName)).toEqual([key.name]);
  expect(verifySignature([key], narInfoFingerprint(info), info.signatures[0] ?? "")).toBe(true);
  const after = await server.send("GET", "/_api/v1/cache-config/main_pr-7", { token });
  expect(after.json()["public_key"]).toBe(own);
});

test("an overlay's key follows from the secret and the name alone", () => {
  const secret = Buffer.alloc(32, 1);
  const keys = createOverlayKeys(secret);

  expect(createOverlayKeys(Buffer.from(secret)).publicKey("main_pr-7")).toBe(
    keys.publicKey("main_pr-7"),
  );
  expect(keys.publicKey("main_pr-8")).not.toBe(keys.publicKey("main_pr-7"));
  expect(createOverlayKeys(Buffer.alloc(32, 2)).publicKey("main_pr-7")).not.toBe(
    keys.publicKey("main_pr-7"),
  );
  expect(keys.publicKey("main_pr-7")).toMatch(/^main_pr-7-[0-9a-f]{8}:/);
});

test("a grant writes to its own view and to no other, whatever its token's patterns say", async () => {
  await using server = await startTestServer();
  await server.createView("main");
  const path = await createTestPath("poison");
  const wide = await server.token(
    { "*": ["pull", "push", "delete", "configure", "destroy", "create"] },
    {
      grant: sampleGrant({
        trust: "overlay",
        read: ["main_pr-7", "main"],
        write: "main_pr-7",
        overlayOf: "main",
      }),
    },
  );

  expect((await pushAttic(server, wide, "main", path)).status).toBe(403);
  expect((await pushAttic(server, wide, "main_pr-8", path)).status).toBe(403);
  expect((await server.send("DELETE", "/_api/v1/cache-config/main", { token: wide })).status).toBe(
    403,
  );
  const untrusted = await jobToken(server, { trust: "untrusted", write: undefined });
  expect((await pushAttic(server, untrusted, "main", path)).status).toBe(403);
  expect((await pushAttic(server, untrusted, "main_pr-7", path)).status).toBe(401);
  expect((await server.index.listViews()).map(({ name }) => name)).toEqual(["main"]);
});

test("nothing trusted reads an overlay, even when its token seems to say so", async () => {
  await using server = await startTestServer();
  await server.createView("main");
  const path = await createTestPath("poison");
  await pushAttic(server, await pullRequestToken(server, 7), "main_pr-7", path);
  const trusted = await jobToken(server, { read: ["main_pr-7", "main"] });

  expect((await readNarInfo(server, trusted, "main_pr-7", path)).status).toBe(401);
  expect((await readNarInfo(server, trusted, "main", path)).status).toBe(404);
});

test("a branch whose short name is that of another cannot write to the other's overlay", async () => {
  await using server = await startTestServer();
  await server.createView("main");
  await pushAttic(
    server,
    await pullRequestToken(server, 7),
    "main_pr-7",
    await createTestPath("a"),
  );
  const twin = await pullRequestToken(server, 7, { overlayKey: "another" });

  const pushed = await pushAttic(server, twin, "main_pr-7", await createTestPath("b"));
  expect(pushed.status).toBe(403);
});

test("an overlay that is full refuses bytes, and its base goes on taking them and loses nothing", async () => {
  await using server = await startTestServer({}, { viewPolicy: limited(1) });
  await server.createView("main");
  const main = await jobToken(server);
  const kept = await createTestPath("kept");
  await pushAttic(server, main, "main", kept);
  const flood = await pullRequestToken(server, 7);
  const first = await createTestPath("first");
  await putNar(server, flood, "main_pr-7", first, await encode(first));

  const second = await createTestPath("second");
  for (const _time of [1, 2, 3]) {
    const refused = await putNar(server, flood, "main_pr-7", second, await encode(second));
    expect([refused.status, refused.json()["error"]]).toEqual([507, "STORAGE_FULL"]);
  }
  expect((await pushAttic(server, flood, "main_pr-7", second)).status).toBe(507);
  // What came before it was full can still be made visible.
  const commit = await postJson(server, flood, "/_flywheel/v1/views/main_pr-7/closures", {
    paths: [closurePath(first)],
  });
  expect(commit.status).toBe(200);
  const admin = await server.token({ "*": ["delete", "configureRetention"] }, { isAdmin: true });
  expect((await postJson(server, admin, "/_flywheel/v1/gc", {})).status).toBe(200);
  expect((await readNarInfo(server, main, "main", kept)).status).toBe(200);
  expect((await pushAttic(server, main, "main", second)).status).toBe(200);
});

test("all overlays of a tenant together have a bound, and other tenants have their own", async () => {
  await using server = await startTestServer({}, { viewPolicy: limited(undefined, 1) });
  await server.createView("main");
  await server.createView("acme+main");
  const path = await createTestPath("first");
  expect(
    (await pushAttic(server, await pullRequestToken(server, 7), "main_pr-7", path)).status,
  ).toBe(200);

  const eight = await pullRequestToken(server, 8);
  expect((await pushAttic(server, eight, "main_pr-8", path)).status).toBe(507);
  const acme = await pullRequestToken(server, 1, {
    tenant: "acme",
    read: ["acme+main_pr-1", "acme+main"],
    write: "acme+main_pr-1",
    overlayOf: "acme+main",
  });
  expect((await pushAttic(server, acme, "acme+main_pr-1", path)).status).toBe(200);
});

test("an overlay goes some time after its last write, and with its base", async () => {
  await using server = await startTestServer({ sweepIntervalMs: "50ms" });
  await server.createView("main");
  const token = await pullRequestToken(server, 7);
  await pushAttic(server, token, "main_pr-7", await createTestPath("a"));
  server.advance(5 * DAY_MS);
  const later = await pullRequestToken(server, 7);
  await pushAttic(server, later, "main_pr-7", await createTestPath("b"));
  await pushAttic(
    server,
    await pullRequestToken(server, 8),
    "main_pr-8",
    await createTestPath("c"),
  );
  server.advance(5 * DAY_MS);
  await pushAttic(
    server,
    await pullRequestToken(server, 9),
    "main_pr-9",
    await createTestPath("d"),
  );
  expect(await server.index.findView("main_pr-7")).toBeDefined();

  server.advance(3 * DAY_MS);
  await expect.poll(() => server.index.findView("main_pr-7")).toBeUndefined();
  expect(await server.index.findView("main_pr-9")).toBeDefined();
  const admin = await server.token({ "*": ["destroy"] });
  await server.send("DELETE", "/_api/v1/cache-config/main", { token: admin });
  expect(await server.index.listViews()).toEqual([]);
});

test("an overlay goes with its branch: a trusted job of the same repository, its own job and an operator may delete it", async () => {
  await using server = await startTestServer();
  await server.createView("main");
  const branch = {
    ...{ write: "main_ref-0a1b2c3d", read: ["main_ref-0a1b2c3d", "main"] },
    ...{ ref: "refs/heads/topic", overlayKey: "key of topic" },
  };
  const fill = async (number: number): Promise<void> => {
    const token = await pullRequestToken(server, number);
    await pushAttic(server, token, `main_pr-${number}`, await createTestPath(`of ${number}`));
  };
  const topic = await pullRequestToken(server, 1, branch);
  await pushAttic(server, topic, branch.write, await createTestPath("topic"));
  await Promise.all([fill(7), fill(8), fill(78)]);
  const remove = async (token: string, query: string, view = "main"): Promise<unknown> => {
    const path = `/_flywheel/v1/views/${view}/overlays?${query}`;
    const answer = await server.send("DELETE", path, { token });
    return answer.status === 200 ? answer.json()["deleted"] : answer.status;
  };
  const trusted = await jobToken(server);
  const sameView = await jobToken(server, { principal: "github:…:owner/1:repo/3" });
  const untrusted = await jobToken(server, { trust: "untrusted", write: undefined });
  const seven = await pullRequestToken(server, 7);
  const forged = await pullRequestToken(server, 8, { overlayKey: "key of another" });
  const admin = await server.token({}, { isAdmin: true });

  expect(await remove(sameView, "ref=refs/heads/topic")).toEqual([]);
  expect(await remove(untrusted, "ref=refs/heads/topic")).toBe(403);
  expect(await remove(seven, "ref=refs/heads/topic")).toEqual([]);
  expect(await remove(seven, "pullRequest=8")).toEqual([]);
  expect(await remove(forged, "pullRequest=8")).toEqual([]);
  expect(await remove(trusted, "name=main")).toEqual([]);
  expect(await remove(trusted, "")).toBe(400);
  expect(await remove(trusted, "ref=a&name=b")).toBe(400);
  expect(await remove(trusted, "pullRequest=.*")).toBe(400);
  expect(await remove(trusted, "pullRequest=8", "other")).toBe(401);

  expect(await remove(trusted, "ref=refs/heads/topic")).toEqual([branch.write]);
  expect(await remove(trusted, "ref=refs/heads/topic")).toEqual([]);
  expect(await remove(seven, "pullRequest=7", "main_pr-7")).toEqual(["main_pr-7"]);
  expect(await remove(trusted, "pullRequest=8")).toEqual(["main_pr-8"]);
  expect(await remove(admin, "name=main_pr-78")).toEqual(["main_pr-78"]);
  expect((await server.index.listViews()).map(({ name }) => name)).toEqual(["main"]);
});
