import { expect, test } from "vitest";

import { createTestPath, type TestPath } from "../test-path.ts";
import { postJson } from "../uploads.ts";
import { type ReadThrough, startReadThrough } from "./read-through.ts";

interface World extends ReadThrough {
  /** Upstream has it, and nobody has asked for it yet. */
  readonly there: TestPath;
  /** Upstream has another NAR of it. */
  readonly other: TestPath;
  readonly fresh: TestPath;
}

async function openWorld(): Promise<World> {
  const world = await startReadThrough();
  const [there, theirs, fresh] = [
    await createTestPath("there"),
    await createTestPath("other", "what they built"),
    await createTestPath("fresh"),
  ];
  await world.upstream.add(there);
  await world.upstream.add(theirs);
  return { ...world, there, other: await createTestPath("other", "what we built"), fresh };
}

async function askMissing(
  { server, there, other, fresh }: World,
  token: string,
  skipUpstream = true,
): Promise<Record<string, unknown>> {
  const paths = [there, other, fresh].map(({ storePathHash, narHash }) => ({
    storePathHash,
    narHash,
  }));
  const body = { paths, skipUpstream };
  const answer = await postJson(server, token, "/_flywheel/v1/views/main/missing", body);
  expect(answer.status).toBe(200);
  return answer.json();
}

test("a push may leave out what an upstream has, if it is the same NAR", async () => {
  await using world = await openWorld();
  const token = await world.server.token({ main: ["pull", "push"] });
  const { there, other, fresh } = world;
  expect(await askMissing(world, token)).toEqual({
    missingPaths: [other.storePathHash, fresh.storePathHash],
    missingNars: [other.narHash, fresh.narHash],
    upstreamPaths: [{ storePathHash: there.storePathHash, upstream: "fake" }],
  });
  // Not so the clients that know nothing of upstreams: their commit would lack it.
  expect(await askMissing(world, token, false)).toMatchObject({
    missingPaths: [there, other, fresh].map(({ storePathHash }) => storePathHash),
    upstreamPaths: [],
  });
});

test("a view that keeps its own copies leaves nothing to its upstreams", async () => {
  await using world = await openWorld();
  const token = await world.server.token({ main: ["pull", "push"] });
  await world.server.index.updateView("main", { pushesUpstream: true });
  expect(await askMissing(world, token)).toMatchObject({ upstreamPaths: [] });
  expect(world.upstream.requests).toEqual([]);
});

test("who may push and not pull is told nothing of what a private view reads through", async () => {
  await using world = await openWorld();
  await world.server.index.updateView("main", { isPublic: false });
  const token = await world.server.token({ main: ["push"] });
  expect(await askMissing(world, token)).toMatchObject({ upstreamPaths: [] });
});

test("Attic's clients, which name no NARs, are told so by the path alone", async () => {
  await using world = await openWorld();
  const token = await world.server.token({ main: ["pull", "push"] });
  const { there, other, fresh } = world;
  const answer = await postJson(world.server, token, "/_api/v1/get-missing-paths", {
    cache: "main",
    store_path_hashes: [there, other, fresh].map(({ storePathHash }) => storePathHash),
  });
  expect(answer.json()).toEqual({
    missing_paths: [fresh.storePathHash],
    upstream_paths: [there.storePathHash, other.storePathHash],
  });
});
