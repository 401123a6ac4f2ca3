import { expect, test } from "vitest";

import { createGraph, pushClosure } from "../closures.ts";
import { postJson } from "../uploads.ts";
import { type ReadThrough, startReadThrough } from "./read-through.ts";

const GRAPH = { libc: [], lib: ["libc"], tool: ["libc"], app: ["lib"] };

async function openWorld(): Promise<{
  world: ReadThrough;
  paths: Awaited<ReturnType<typeof createGraph>>;
  token: string;
  warm: (body: object) => Promise<Record<string, unknown>>;
}> {
  const world = await startReadThrough();
  const token = await world.server.token({ main: ["pull", "push"] });
  const warm = async (body: object): Promise<Record<string, unknown>> => {
    const answer = await postJson(world.server, token, "/_flywheel/v1/views/main/warm", body);
    expect(answer.status).toBe(200);
    return answer.json();
  };
  return { world, paths: await createGraph(GRAPH), token, warm };
}

test("a closure is fetched with what it refers to, and tells what that cost", async () => {
  const { world, paths, warm } = await openWorld();
  await using _ = world;
  const { libc, lib } = paths;
  if (libc === undefined || lib === undefined) throw new Error("The graph is incomplete");
  for (const path of [libc, lib]) await world.upstream.add(path, { compression: "none" });
  const bytes = libc.nar.length + lib.nar.length;
  expect(await warm({ roots: [lib.storePathHash] })).toMatchObject({
    fetched: 2,
    already: 0,
    missing: [],
    failed: [],
    bytes,
    upstreamBytes: bytes,
    rest: [],
  });
  await world.upstream[Symbol.asyncDispose]();
  expect(await warm({ roots: [lib.storePathHash] })).toMatchObject({ fetched: 0, already: 2 });
  expect(await world.narInfo(libc.storePathHash)).toContain(libc.storePath);
});

test("one path alone, one that is nowhere, and one whose NAR is wrong", async () => {
  const { world, paths, warm } = await openWorld();
  await using _ = world;
  const { libc, lib, app, tool } = paths;
  if (!libc || !lib || !app || !tool) throw new Error("The graph is incomplete");
  await world.upstream.add(lib);
  const { url } = await world.upstream.add(tool);
  world.upstream.files.set(`/${url}`, Buffer.from("nonsense"));
  const roots = [lib, app, tool].map(({ storePathHash }) => storePathHash);
  expect(await warm({ roots, closure: false })).toMatchObject({
    fetched: 1,
    missing: [app.storePathHash],
    failed: [{ storePathHash: tool.storePathHash, reason: "length" }],
  });
});

test("what was pushed is completed by what it refers to", async () => {
  const { world, paths, token, warm } = await openWorld();
  await using _ = world;
  const { libc, lib, app, tool } = paths;
  if (!libc || !lib || !app || !tool) throw new Error("The graph is incomplete");
  for (const path of [libc, lib, tool]) await world.upstream.add(path);
  await pushClosure(world.server, token, "main", [app], [lib.storePathHash]);
  expect(await warm({ fromPush: true })).toMatchObject({ fetched: 2, missing: [] });
});

test("nobody without a token makes the server fetch anything", async () => {
  const { world } = await openWorld();
  await using _ = world;
  const answer = await world.server.send("POST", "/_flywheel/v1/views/main/warm", {
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ roots: [] }),
  });
  expect(answer.status).toBe(401);
});
