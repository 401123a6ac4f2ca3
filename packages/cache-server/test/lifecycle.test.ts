import { mkdtemp, readdir, rename, rm } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { expect, test, vi } from "vitest";

import { listStoreFiles } from "./nix-client.ts";
import { head, openRawClient } from "./raw-client.ts";
import { atticNarInfo, createTestPath } from "./test-path.ts";
import { startTestServer } from "./test-server.ts";

function isRefused(url: string): Promise<boolean> {
  const { hostname, port } = new URL(url);
  return new Promise((resolve) => {
    const socket = connect(Number(port), hostname, () => {
      socket.destroy();
      resolve(false);
    });
    socket.on("error", () => resolve(true));
  });
}

test("a server that stops finishes the upload that is running, and takes no new connection", async () => {
  await using server = await startTestServer();
  await server.createView("main");
  const token = await server.token({ main: ["push"] });
  const path = await createTestPath("running", "x".repeat(10_000));
  const go = Promise.withResolvers<void>();
  async function* slowly(): AsyncGenerator<Uint8Array> {
    yield path.nar.subarray(0, 5000);
    await go.promise;
    yield path.nar.subarray(5000);
  }
  const uploading = server.send("PUT", "/_api/v1/upload-path", {
    token,
    headers: { "x-attic-nar-info": atticNarInfo("main", path) },
    body: slowly(),
  });
  const unfinished = (): Promise<string[]> =>
    readdir(join(server.directory, "store", "tmp"), { recursive: true });
  await expect.poll(unfinished).toContainEqual(expect.stringMatching(/\/\d+$/));

  const closed = server.stop();
  await expect.poll(() => isRefused(server.url)).toBe(true);
  go.resolve();

  expect((await uploading).status).toBe(200);
  await closed;
});

test("an upload that does not end within the shutdown timeout is cut, and leaves nothing", async () => {
  await using server = await startTestServer({ shutdownTimeoutMs: "100ms" });
  await server.createView("main");
  const token = await server.token({ main: ["push"] });
  const path = await createTestPath("endless", "x".repeat(10_000));
  await using client = await openRawClient(server);
  await client.write(
    head(
      "PUT /_api/v1/upload-path HTTP/1.1",
      "host: localhost",
      `authorization: bearer ${token}`,
      `x-attic-nar-info: ${atticNarInfo("main", path)}`,
      `content-length: ${path.nar.length}`,
    ),
  );
  await client.write(path.nar.subarray(0, 5000));
  await expect.poll(() => listStoreFiles(server)).toHaveLength(1);

  await server.stop();

  expect(await client.closed()).toBe("");
  await expect.poll(() => listStoreFiles(server)).toEqual([]);
  expect(server.logs.filter((line) => line.level === "error")).toEqual([]);
});

test("a connection kept for a next request does not hold up a stop", async () => {
  await using server = await startTestServer();
  await using client = await openRawClient(server);
  await client.write(head("GET /healthz HTTP/1.1", "host: localhost"));
  await client.until('"alive"');
  await server.stop();
  expect(await client.closed()).toContain('"alive"');
});

test("readiness names the part that fails, and recovers", async () => {
  await using server = await startTestServer();
  expect((await server.send("GET", "/readyz")).json()).toEqual({
    status: "ready",
    store: "ok",
    index: "ok",
  });
  const store = join(server.directory, "store");
  await rename(store, `${store}.away`);
  server.advance(2000);
  const failed = await server.send("GET", "/readyz");
  expect(failed.status).toBe(503);
  expect(failed.json()).toMatchObject({ status: "not-ready", index: "ok" });
  await rename(`${store}.away`, store);
  server.advance(2000);
  expect((await server.send("GET", "/readyz")).status).toBe(200);
});

test("an address in use stops the start, with what to do", async () => {
  await using first = await startTestServer();
  await expect(startTestServer({ listen: new URL(first.url).host })).rejects.toMatchObject({
    code: "CONFIG",
    message: expect.stringMatching(/is in use$/),
    hint: expect.stringContaining("--listen"),
  });
});

test("a test's server that cannot start leaves nothing behind", async () => {
  await using running = await startTestServer();
  const directory = await mkdtemp(join(tmpdir(), "lifecycle-test-"));
  vi.stubEnv("TMPDIR", directory);
  try {
    const { host } = new URL(running.url);
    await expect(startTestServer({ listen: host })).rejects.toMatchObject({ code: "CONFIG" });
    expect(await readdir(directory)).toEqual([]);
  } finally {
    vi.unstubAllEnvs();
    await rm(directory, { recursive: true });
  }
});
