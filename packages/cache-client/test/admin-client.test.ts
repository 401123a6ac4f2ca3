import { expect, test } from "vitest";

import { createAdminClient } from "../src/index.ts";
import { sendJson, startWire, type WireHandler, type WireServer } from "./wire.ts";

interface RecordingWire extends WireServer {
  readonly bodies: unknown[];
  readonly queries: string[];
}

/** Answers by `<method> <path>`; remembers the bodies. */
async function startRecordingWire(
  answers: Readonly<Record<string, unknown>>,
  otherwise: WireHandler = (_, response) => response.writeHead(404).end(),
): Promise<RecordingWire> {
  const bodies: unknown[] = [];
  const queries: string[] = [];
  const wire = await startWire(async (request, response) => {
    const body = await request.body();
    bodies.push(body.length === 0 ? undefined : JSON.parse(body.toString("utf8")));
    queries.push(request.query.toString());
    const answer = answers[`${request.method} ${request.path}`];
    if (answer === undefined) await otherwise(request, response);
    else if (answer === "") response.writeHead(200).end();
    else sendJson(response, 200, answer);
  });
  return Object.assign(wire, { bodies, queries });
}

test("a view is created, changed, read and destroyed as Attic's own client does it", async () => {
  const path = "/_api/v1/cache-config/acme+main";
  await using wire = await startRecordingWire({
    [`POST ${path}`]: "",
    [`PATCH ${path}`]: "",
    [`DELETE ${path}`]: "",
    [`GET ${path}`]: { public_key: "acme+main:AAAA", retention_period: "Global" },
  });
  await using admin = createAdminClient({ server: wire.url, token: "t" });

  await admin.createView("acme+main");
  await admin.configureView("acme+main", {
    isPublic: true,
    retentionPeriod: { seconds: 60 },
    keypair: "generate",
  });
  await admin.configureView("acme+main", { retentionPeriod: "global" });
  const config = await admin.viewConfig("acme+main");
  await admin.destroyView("acme+main");

  expect(config).toEqual({ publicKey: "acme+main:AAAA", retentionPeriod: "global" });
  expect(wire.bodies).toEqual([
    {
      keypair: "Generate",
      is_public: false,
      store_dir: "/nix/store",
      priority: 41,
      upstream_cache_key_names: ["cache.nixos.org-1"],
    },
    { keypair: "Generate", is_public: true, retention_period: { Period: 60 } },
    { retention_period: "Global" },
    undefined,
    undefined,
  ]);
});

test("limits go to our own route, before anything of Attic's is changed", async () => {
  const [ours, attic] = ["/_flywheel/v1/views/main", "/_api/v1/cache-config/main"];
  await using wire = await startRecordingWire({ [`PATCH ${ours}`]: "", [`PATCH ${attic}`]: "" });
  await using admin = createAdminClient({ server: wire.url, token: "t" });

  await admin.configureView("main", { maxSizeBytes: 5, compressionLevel: 7, priority: 1 });
  await admin.configureView("main", { maxSizeBytes: "none", compressionLevel: "default" });
  expect(wire.bodies).toEqual([
    { maxSizeBytes: 5, compressionLevel: 7 },
    { priority: 1 },
    { maxSizeBytes: null, compressionLevel: null },
  ]);

  await using elsewhere = await startRecordingWire({ [`PATCH ${attic}`]: "" });
  await using onAttic = createAdminClient({ server: elsewhere.url });
  await expect(
    onAttic.configureView("main", { maxSizeBytes: 5, priority: 1 }),
  ).rejects.toMatchObject({ code: "UNSUPPORTED" });
  expect(elsewhere.bodies).toHaveLength(1);
});

test("views are collected, and pins listed, put and removed", async () => {
  const base = "/_flywheel/v1";
  const report = {
    view: "main",
    dryRun: true,
    examined: 9,
    roots: 1,
    deleted: 4,
    spared: 0,
    freedBytes: 40,
    remainingBytes: 50,
    durationMs: 3,
  };
  const storePath = `/nix/store/${"0".repeat(32)}-hello`;
  const pin = { name: "release", storePath, createdAt: "2026-01-01T00:00:00.000Z" };
  await using wire = await startRecordingWire({
    [`POST ${base}/views/main/gc`]: report,
    [`POST ${base}/gc`]: { dryRun: false, views: [report] },
    [`GET ${base}/views/main/pins`]: { pins: [pin] },
    [`PUT ${base}/views/main/pins/release`]: { kind: "created", name: "release", storePath },
    [`DELETE ${base}/views/main/pins/a%2Fb`]: "",
  });
  await using admin = createAdminClient({ server: wire.url, token: "t" });

  expect(await admin.collectView("main", { dryRun: true })).toEqual(report);
  expect(await admin.collectAll()).toEqual([report]);
  expect(await admin.listPins("main")).toEqual([pin]);
  expect(await admin.putPin("main", "release", storePath)).toBe("created");
  await admin.deletePin("main", "a/b");
  expect(wire.queries.slice(0, 2)).toEqual(["dryRun=1", "dryRun=0"]);
  expect(wire.bodies[3]).toEqual({ storePath });
});

test("a change of nothing is refused before it is sent", async () => {
  await using wire = await startRecordingWire({});
  await using admin = createAdminClient({ server: wire.url });
  await expect(admin.configureView("main", {})).rejects.toMatchObject({ code: "INVALID" });
  expect(wire.log).toEqual([]);
});

test("keys are listed, added and retired", async () => {
  const keys = "/_flywheel/v1/views/main/keys";
  const key = { name: "main-1", publicKey: "main-1:AAAA", createdAt: "2026-01-01T00:00:00.000Z" };
  await using wire = await startRecordingWire({
    [`GET ${keys}`]: { keys: [key], outdatedPaths: 7 },
    [`POST ${keys}`]: key,
    [`DELETE ${keys}/main-1`]: "",
  });
  await using admin = createAdminClient({ server: wire.url, token: "t" });

  expect(await admin.listKeys("main")).toEqual({ keys: [key], outdatedPaths: 7 });
  expect(await admin.addKey("main")).toEqual(key);
  await admin.retireKey("main", "main-1");
  expect(wire.bodies).toEqual([undefined, {}, undefined]);
});

test("our own routes list views, tell statistics, delete paths, make and revoke tokens", async () => {
  const base = "/_flywheel/v1";
  const view = {
    name: "main",
    isPublic: false,
    storeDir: "/nix/store",
    priority: 41,
    upstreamCacheKeyNames: ["cache.nixos.org-1"],
    createdAt: "2026-01-01T00:00:00.000Z",
  };
  const stats = {
    paths: 1,
    nars: 1,
    narBytes: 2,
    fileBytes: 1,
    uploads: 1,
    uploadedNarBytes: 2,
    conflicts: 0,
  };
  const hash = "0".repeat(32);
  await using wire = await startRecordingWire({
    [`GET ${base}/views`]: { views: [view] },
    [`GET ${base}/views/main/stats`]: stats,
    [`DELETE ${base}/views/main/paths/${hash}`]: "",
    [`POST ${base}/tokens`]: { token: "secret", jti: "j 1", expiresAt: "2026-02-01T00:00:00.000Z" },
    [`DELETE ${base}/tokens/j%201`]: "",
    [`GET ${base}/info`]: { server: "gloriousflywheel", version: "0.0.0", api: 1 },
  });
  await using admin = createAdminClient({ server: wire.url, token: "t" });

  expect(await admin.listViews()).toEqual([view]);
  expect(await admin.viewStats("main")).toEqual(stats);
  await admin.deletePath("main", hash);
  const { jti } = await admin.createToken({
    subject: "ci",
    caches: { "acme+*": ["r", "w"] },
    isAdmin: true,
    expiresInSeconds: 60,
  });
  await admin.revokeToken(jti, 1_800_000_000);
  expect(await admin.serverInfo()).toMatchObject({ api: 1 });

  expect(wire.bodies[3]).toEqual({
    subject: "ci",
    caches: { "acme+*": { r: 1, w: 1 } },
    admin: 1,
    expiresInSeconds: 60,
  });
  expect(wire.queries[4]).toBe("expiresAt=1800000000");
});

test("an atticd, which has no such routes, is told apart from a view that is not there", async () => {
  await using attic = await startRecordingWire({}, (_, response) =>
    sendJson(response, 404, { code: 404, error: "NotFound", message: "The URL does not exist." }),
  );
  await using onAttic = createAdminClient({ server: attic.url });
  await expect(onAttic.viewStats("main")).rejects.toMatchObject({ code: "UNSUPPORTED" });

  await using ours = await startRecordingWire({}, (_, response) =>
    sendJson(response, 404, {
      code: 404,
      error: "NOT_FOUND",
      message: "no view main",
      requestId: "r",
    }),
  );
  await using onOurs = createAdminClient({ server: ours.url });
  await expect(onOurs.viewStats("main")).rejects.toMatchObject({
    code: "NOT_FOUND",
    requestId: "r",
  });
});

test("a change is never repeated, because it may have gone through", async () => {
  await using wire = await startRecordingWire({}, (request) =>
    request.incoming.socket.resetAndDestroy(),
  );
  await using admin = createAdminClient({ server: wire.url });
  await expect(admin.createView("main")).rejects.toMatchObject({ code: "UNAVAILABLE" });
  expect(wire.log).toHaveLength(1);
});

test("a view that exists already is a CONFLICT from an atticd too", async () => {
  await using wire = await startRecordingWire({}, (_, response) =>
    sendJson(response, 400, { code: 400, error: "CacheAlreadyExists", message: "exists" }),
  );
  await using admin = createAdminClient({ server: wire.url });
  await expect(admin.createView("main")).rejects.toMatchObject({ code: "CONFLICT", status: 400 });
});
