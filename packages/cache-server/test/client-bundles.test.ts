import { createHash } from "node:crypto";
import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { silentLogger } from "@glorious/core";
import { afterEach, beforeEach, expect, test } from "vitest";

import { type EmbeddedPlane, startEmbedded } from "../src/embedded.ts";

let folder = "";

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "client-bundles-"));
});

afterEach(async () => {
  await rm(folder, { recursive: true });
});

const hashOf = (text: string): string => createHash("sha256").update(text).digest("hex");

async function start(bundle: string | undefined): Promise<EmbeddedPlane> {
  const clientBundle = bundle === undefined ? undefined : join(folder, "flywheel.mjs");
  if (clientBundle !== undefined) await writeFile(clientBundle, bundle ?? "");
  return startEmbedded({
    environment: { FLYWHEEL_LISTEN: "127.0.0.1:0", FLYWHEEL_STORE_FSYNC: "none" },
    flags: { dataDirectory: { flag: "--data", value: join(folder, "data") } },
    logger: silentLogger,
    clientBundle,
  });
}

const fetchClient = (plane: EmbeddedPlane, hash: string, init: RequestInit = {}) =>
  fetch(`${plane.url}/_flywheel/v1/client/${hash}/flywheel.mjs`, init);

test("the client is served by its hash, to be kept for ever, without a token", async () => {
  await using plane = await start("one");

  const answer = await fetchClient(plane, hashOf("one"));

  expect(answer.status).toBe(200);
  expect(await answer.text()).toBe("one");
  expect(answer.headers.get("cache-control")).toMatch(/immutable/);
  expect(answer.headers.get("content-type")).toMatch(/^text\/javascript/);
  const head = await fetchClient(plane, hashOf("one"), { method: "HEAD" });
  expect([head.status, head.headers.get("content-length")]).toEqual([200, "3"]);
});

test("a job that pins the client of an older server gets it from the newer one", async () => {
  await (await start("one")).close();
  await using plane = await start("two");

  expect(await (await fetchClient(plane, hashOf("one"))).text()).toBe("one");
  expect(await (await fetchClient(plane, hashOf("two"))).text()).toBe("two");
});

test("a hash that the server does not have is a 404 that says what to do", async () => {
  await using plane = await start("one");

  const answer = await fetchClient(plane, hashOf("another"));

  expect(answer.status).toBe(404);
  expect(await answer.json()).toMatchObject({ error: "NOT_FOUND", hint: expect.any(String) });
  expect((await fetchClient(plane, "..%2F..%2Ftoken.key")).status).toBe(404);
});

test("a damaged file is not served", async () => {
  await using plane = await start("one");
  await writeFile(join(folder, "data", "clients", `${hashOf("one")}.mjs`), "evil");

  expect((await fetchClient(plane, hashOf("one"))).status).toBe(404);
});

test("sixteen clients are kept, the newest", async () => {
  for (let version = 0; version < 18; version += 1) await (await start(`v${version}`)).close();

  const names = await readdir(join(folder, "data", "clients"));

  expect(names).toHaveLength(16);
  expect(names).toContain(`${hashOf("v17")}.mjs`);
  expect(names).not.toContain(`${hashOf("v0")}.mjs`);
});

test("a server without a client starts, and has none", async () => {
  await using plane = await start(undefined);

  expect((await fetchClient(plane, hashOf("one"))).status).toBe(404);
});
