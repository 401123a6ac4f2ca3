import type { ServerResponse } from "node:http";

import { parseNarInfo } from "@glorious/nix-store";
import { expect, test, vi } from "vitest";

import { SMALL_CONNECTIONS } from "../../src/upstream/upstream-http.ts";
import { createTestPath } from "../test-path.ts";
import { startTestServer, type TestServer } from "../test-server.ts";
import { attach, startReadThrough } from "./read-through.ts";

test("what anybody writes into the header of servers that ask each other reaches no upstream", async () => {
  await using world = await startReadThrough();
  const via = { "x-flywheel-via": "x".repeat(12_000) };
  for (let count = 0; count < 5; count += 1) {
    const { storePathHash } = await createTestPath(`nowhere-${count}`);
    await world.server.send("GET", `/main/${storePathHash}.narinfo`, { headers: via });
  }
  const path = await createTestPath("hello");
  await world.upstream.add(path);
  expect(await world.narInfo(path.storePathHash)).toContain(path.storePath);
  expect(world.reasons()).toEqual([]);
  for (const { headers } of world.upstream.requests) {
    expect(headers["x-flywheel-via"] ?? "").not.toContain("xxx");
  }
});

test("two servers that name each other and are asked for the same at the same time do not wait for each other", async () => {
  await using opened = new AsyncDisposableStack();
  const servers: TestServer[] = [];
  for (let count = 0; count < 2; count += 1) {
    servers.push(opened.use(await startTestServer({ upstreamDeadlineMs: "20s" })));
  }
  for (const server of servers) await server.createView("main", { isPublic: true });
  for (const [position, server] of servers.entries()) {
    const next = servers[1 - position] ?? server;
    const keys = await next.index.listSigningKeys((await next.index.findView("main"))?.id ?? 0);
    const publicKey = keys[0]?.publicKey ?? "";
    await attach(server, { url: `${next.url}/main/`, publicKey }, "main");
  }
  for (let round = 0; round < 10; round += 1) {
    const path = await createTestPath(`nowhere-${round}`);
    const name = `/main/${path.storePathHash}.narinfo`;
    const answers = await Promise.all(servers.map((server) => server.send("GET", name)));
    expect(answers.map(({ status }) => status)).toEqual([404, 404]);
  }
  for (const { logs } of servers) {
    expect(logs.filter(({ level }) => level === "warn" || level === "error")).toEqual([]);
  }
}, 60_000);

test("who goes away before its NAR has begun, which then fails, harms nobody", async () => {
  await using world = await startReadThrough();
  const path = await createTestPath("hello");
  const info = await world.upstream.add(path);
  const text = await world.narInfo(path.storePathHash);
  const unhandled: unknown[] = [];
  const note = (error: unknown): void => void unhandled.push(error);
  process.on("unhandledRejection", note);
  try {
    world.upstream.conduct(`/${info.url}`, (response) => {
      setTimeout(() => response.writeHead(404).end(), 100);
    });
    const url = `${world.server.url}/main/${parseNarInfo(text ?? "").url}`;
    for (let ms = 0; ms < 12; ms += 1) {
      await fetch(url, { signal: AbortSignal.timeout(ms) }).catch(() => {});
    }
    await vi.waitUntil(() => world.reasons().length > 0, { timeout: 20_000 });
  } finally {
    process.off("unhandledRejection", note);
  }
  expect(unhandled).toEqual([]);
});

test("a view signs what comes from its own upstreams, and not what comes from another view's", async () => {
  const viewPolicy = {
    version: 1,
    settingsOf: (name: string) => ({
      reads: name === "main" ? ["shared"] : [],
      overlays: { quotaBytes: undefined, retentionSeconds: undefined },
    }),
    quotasOf: () => [],
  };
  await using world = await startReadThrough({}, { viewPolicy });
  const { server } = world;
  await server.createView("shared", { isPublic: true });
  await server.index.updateView("shared", { signsUpstream: true });
  const path = await createTestPath("hello");
  const { signatures } = await world.upstream.add(path);
  const info = parseNarInfo((await world.narInfo(path.storePathHash)) ?? "");
  expect(info.signatures).toEqual(signatures);
  const config = (await server.send("GET", "/_api/v1/cache-config/main")).json();
  expect(JSON.stringify(config)).toContain(world.upstream.publicKey);
});

test("of a flood of questions none is sent that nobody waits for any more", async () => {
  await using world = await startReadThrough({ upstreamDeadlineMs: "300ms" });
  const { server, upstream } = world;
  await world.narInfo((await createTestPath("first")).storePathHash);
  const paths = await Promise.all(
    Array.from({ length: 120 }, (_, number) => createTestPath(`flood-${number}`)),
  );
  const held: ServerResponse[] = [];
  for (const { storePathHash } of paths) {
    upstream.conduct(`/${storePathHash}.narinfo`, (response) => void held.push(response));
  }
  const roots = paths.map(({ storePathHash }) => storePathHash);
  const answer = await server.send("POST", "/_flywheel/v1/views/main/closure", {
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ roots }),
  });
  expect(answer.json()).toMatchObject({ missing: roots });
  await expect.poll(() => held.every(({ destroyed }) => destroyed)).toBe(true);
  // The next one has to wait for the rest of the flood, had that been kept.
  const path = await createTestPath("hello");
  await upstream.add(path);
  await vi.waitUntil(async () => (await world.narInfo(path.storePathHash)) !== undefined, {
    timeout: 20_000,
    interval: 100,
  });
  expect(held.length).toBeLessThanOrEqual(SMALL_CONNECTIONS);
}, 30_000);
