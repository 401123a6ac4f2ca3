import { createHash } from "node:crypto";
import { utimes } from "node:fs/promises";

import { silentLogger } from "@glorious/core";
import { expect, test } from "vitest";

import { sweep } from "../src/housekeeping/sweeper.ts";
import { DAMAGES, damageObject, findObjectFile } from "./damage.ts";
import { createTestPath, type TestPath } from "./test-path.ts";
import { startTestServer, type TestAnswer, type TestServer } from "./test-server.ts";
import { pushAttic } from "./uploads.ts";

const DAY_MS = 86_400_000;

interface Scene extends AsyncDisposable {
  readonly server: TestServer;
  readonly token: string;
  readonly admin: string;
  readonly paths: readonly TestPath[];
}

async function open(
  count = 5,
  settings: Parameters<typeof startTestServer>[0] = {},
): Promise<Scene> {
  const server = await startTestServer({ scrubIntervalMs: "0s", ...settings });
  await server.createView("main");
  const token = await server.token(
    { main: ["pull", "push", "delete"] },
    { expiresAtMs: Date.now() + 400 * DAY_MS },
  );
  const admin = await server.token({}, { isAdmin: true, expiresAtMs: Date.now() + 400 * DAY_MS });
  const paths: TestPath[] = [];
  for (let number = 0; number < count; number += 1) {
    const path = await createTestPath(`path-${number}`, contents(number));
    await pushAttic(server, token, "main", path);
    paths.push(path);
  }
  return {
    server,
    token,
    admin,
    paths,
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

/** Too large to be hashed on their way out, so that nobody but a scrub finds a flipped byte. */
function contents(seed: number): Buffer {
  const lines = Array.from({ length: 3000 }, (_, line) =>
    createHash("sha256").update(`${seed} ${line}`).digest("hex"),
  );
  return Buffer.from(lines.join("\n"));
}

async function fileHashOf({ server }: Scene, path: TestPath): Promise<string> {
  const view = await server.index.findView("main");
  const found = await server.index.findPath([view?.id ?? 0], path.storePathHash);
  return found?.fileHash ?? "absent";
}

function narInfo({ server, token }: Scene, path: TestPath): Promise<TestAnswer> {
  return server.send("GET", `/main/${path.storePathHash}.narinfo`, { token });
}

/** Asks for a scrub until it is done, and returns what it says. */
async function scrub({ server, admin }: Scene, query = ""): Promise<Record<string, unknown>> {
  let bound = query;
  for (;;) {
    const url = `/_flywheel/v1/scrub?wait=5${bound}`;
    const answer = await server.send("POST", url, { token: admin });
    expect(answer.status).toBe(200);
    const run = answer.json();
    if (run["state"] !== "running") return run;
    bound = `&checkedBefore=${String(run["checkedBefore"])}`;
  }
}

for (const damage of DAMAGES) {
  test(`a scrub finds an object that was ${damage}, takes it out of service at once, and a push heals it`, async () => {
    await using scene = await open();
    const { server, token, admin, paths } = scene;
    const [bad, good] = paths as [TestPath, TestPath];
    const fileHash = await fileHashOf(scene, bad);
    await damageObject(server, fileHash, damage);
    // Remembered by the server, which has seen nothing wrong yet.
    expect((await narInfo(scene, bad)).status).toBe(200);

    expect(await scrub(scene)).toMatchObject({
      state: "done",
      fraction: 1,
      scanned: 5,
      badTotal: 1,
      bad: [{ fileHash, paths: [{ view: "main", storePath: bad.storePath }] }],
      restored: 0,
      orphans: { files: 0, bytes: 0 },
    });

    expect((await narInfo(scene, bad)).status).toBe(404);
    expect((await narInfo(scene, good)).status).toBe(200);
    const quarantine = await server.send("GET", "/_flywheel/v1/quarantine", { token: admin });
    expect(quarantine.json()).toMatchObject({
      total: 1,
      objects: [{ fileHash, pathsTotal: 1, paths: [{ view: "main", storePath: bad.storePath }] }],
    });
    const metrics = (await server.send("GET", "/metrics")).text.split("\n");
    expect(metrics).toContain("flywheel_objects_quarantined 1");
    expect(metrics).toContain("flywheel_scrub_objects_total 5");

    expect((await pushAttic(server, token, "main", bad)).json()).toMatchObject({
      kind: "Uploaded",
    });
    expect((await narInfo(scene, bad)).status).toBe(200);
    expect(await scrub(scene)).toMatchObject({ badTotal: 0 });
  });
}

test("what was checked is not read again until it is due", async () => {
  await using scene = await open();
  const { server } = scene;
  expect(await scrub(scene)).toMatchObject({ scanned: 5 });

  expect(await scrub(scene, "&maxAge=3600")).toMatchObject({ scanned: 0, fraction: 1 });

  server.advance(2 * 3_600_000);
  expect(await scrub(scene, "&maxAge=3600")).toMatchObject({ scanned: 5 });
});

test("what was put lately counts as checked, and a lost file is found all the same", async () => {
  await using scene = await open();
  const [lost] = scene.paths as [TestPath];
  await damageObject(scene.server, await fileHashOf(scene, lost), "deleted");

  expect(await scrub(scene, "&maxAge=3600")).toMatchObject({ scanned: 1, badTotal: 1 });
});

test("an object whose bytes come back leaves quarantine with the next scrub", async () => {
  await using scene = await open();
  const [path] = scene.paths as [TestPath];
  const fileHash = await fileHashOf(scene, path);
  await damageObject(scene.server, fileHash, "flipped");
  expect(await scrub(scene)).toMatchObject({ badTotal: 1 });
  expect(await scrub(scene)).toMatchObject({ badTotal: 1, restored: 0 });

  // Flipped once more, the bit is what it was.
  await damageObject(scene.server, fileHash, "flipped");

  expect(await scrub(scene)).toMatchObject({ badTotal: 0, restored: 1 });
  expect((await narInfo(scene, path)).status).toBe(200);
});

test("files that the index does not know are counted and left alone", async () => {
  await using scene = await open();
  const { store } = scene.server;
  const key = `nar/${"f".repeat(64)}`;
  const source = (async function* () {
    yield Buffer.from("stray");
  })();
  await store.put(source, { key });

  expect(await scrub(scene)).toMatchObject({ badTotal: 0, orphans: { files: 1, bytes: 5 } });

  expect(await store.stat(key)).toBeDefined();
});

test("the server checks what is due by itself", async () => {
  await using scene = await open(3, { scrubIntervalMs: "2s" });
  const { server, paths } = scene;
  const fileHash = await fileHashOf(scene, paths[0] as TestPath);
  await damageObject(server, fileHash, "flipped");
  const file = await findObjectFile(server, fileHash);
  // A bad disk does not say when.
  await utimes(file, new Date(0), new Date(0));

  await expect
    .poll(() => server.index.listQuarantined({ limit: 10 }))
    .toMatchObject([{ object: { fileHash } }]);

  await expect
    .poll(async () => (await server.send("GET", "/metrics")).text)
    .toMatch(/^flywheel_scrub_last_full_pass_timestamp_seconds 1\d{9}/m);
});

test("only administrators may scrub, and look", async () => {
  await using scene = await open(1);
  const { server, token } = scene;
  for (const [method, path] of [
    ["POST", "scrub"],
    ["GET", "scrub"],
    ["GET", "quarantine"],
  ] as const) {
    const answer = await server.send(method, `/_flywheel/v1/${path}`, { token });
    expect(answer.status).toBe(403);
  }
});

test.each(["maxAge=-1", "wait=x", "checkedBefore=yesterday", "bytesPerSecond=0"])(
  "%s is refused",
  async (query) => {
    await using scene = await open(0);
    const { server, admin } = scene;
    const answer = await server.send("POST", `/_flywheel/v1/scrub?${query}`, { token: admin });
    expect(answer.status).toBe(400);
  },
);

test("a second request joins the scrub under way, and a server that stops ends it", async () => {
  await using scene = await open(5, { scrubBytesPerSecond: "20 KiB" });
  const { server, admin } = scene;
  const ask = (): Promise<TestAnswer> =>
    server.send("POST", "/_flywheel/v1/scrub", { token: admin });
  const first = (await ask()).json();
  expect(first).toMatchObject({ state: "running", done: false });
  expect((await ask()).json()).toMatchObject({ startedAt: first["startedAt"] });
  const waiting = server.send("POST", "/_flywheel/v1/scrub?wait=30", { token: admin });
  await expect
    .poll(async () => (await server.send("GET", "/metrics")).text)
    .toContain('route="/_flywheel/v1/scrub",status="200"');

  await server.stop();

  expect((await waiting).json()).toMatchObject({ state: "stopped", done: false });
});

test("a scrub beside sweeps and deletions calls nothing bad that is merely gone", async () => {
  await using scene = await open(0);
  const { server, token } = scene;
  const view = await server.index.findView("main");
  const over = new AbortController();
  const parts = { index: server.index, store: server.store, logger: silentLogger };
  const churn = async (worker: number): Promise<void> => {
    for (let round = 0; round < 12; round += 1) {
      const path = await createTestPath(`churn-${worker}-${round}`, contents(worker * 100 + round));
      // Unavailable when the sweep below has been faster than the upload.
      while ((await pushAttic(server, token, "main", path)).status === 503);
      if (round % 3 === 0) continue;
      await server.index.deletePath(view?.id ?? 0, path.storePathHash, 0);
      await sweep(
        { ...parts, now: Date.now, objectGraceMs: 300, upstreamPathMaxAgeMs: 1 },
        new AbortController().signal,
      );
    }
  };
  const scrubbing = async (): Promise<unknown[]> => {
    const found: unknown[] = [];
    while (!over.signal.aborted) {
      const run = await scrub(scene, "&bytesPerSecond=1000000000");
      expect(run).toMatchObject({ state: "done", unanswered: 0 });
      found.push(...(run["bad"] as unknown[]));
    }
    return found;
  };

  const scrubbed = scrubbing();
  await Promise.all([churn(1), churn(2)]);
  over.abort();

  expect(await scrubbed).toEqual([]);
  expect(await server.index.listQuarantined({ limit: 10 })).toEqual([]);
  expect(await server.index.checkConsistency()).toEqual([]);
  const { paths } = await server.index.viewStats(view?.id ?? 0);
  expect(paths).toBe(8);
  expect(await scrub(scene)).toMatchObject({ scanned: 8, badTotal: 0, orphans: { files: 0 } });
});
