import { parseNarInfo } from "@glorious/nix-store";
import { expect, test } from "vitest";

import { createGraph, pushClosure } from "../closures.ts";
import { startReadThrough } from "./read-through.ts";

interface Answer {
  readonly narinfos: readonly { readonly storePathHash: string; readonly text: string }[];
  readonly missing: readonly string[];
  readonly rest: readonly string[];
}

async function askClosure(
  { server }: Awaited<ReturnType<typeof startReadThrough>>,
  roots: readonly string[],
): Promise<Answer> {
  const answer = await server.send("POST", "/_flywheel/v1/views/main/closure", {
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ roots }),
  });
  expect(answer.status).toBe(200);
  return JSON.parse(answer.text) as Answer;
}

test("a closure goes over from what was pushed to what is upstream, and on to its end", async () => {
  await using world = await startReadThrough();
  const { app, lib, libc, gone } = await createGraph({
    gone: [],
    libc: ["gone"],
    lib: ["libc"],
    app: ["lib", "libc"],
  });
  if (app === undefined || lib === undefined || libc === undefined || gone === undefined) {
    throw new Error("The graph is incomplete");
  }
  await world.upstream.add(lib);
  await world.upstream.add(libc, { compression: "gzip" });
  const token = await world.server.token({ main: ["pull", "push"] });
  await pushClosure(world.server, token, "main", [app], [lib.storePathHash, libc.storePathHash]);

  const { narinfos, missing, rest } = await askClosure(world, [app.storePathHash]);
  expect(narinfos.map(({ text }) => parseNarInfo(text).storePath).toSorted()).toEqual(
    [app, lib, libc].map(({ storePath }) => storePath).toSorted(),
  );
  expect({ missing, rest }).toEqual({ missing: [gone.storePathHash], rest: [] });
  for (const { storePathHash, text } of narinfos) {
    expect(await world.narInfo(storePathHash)).toBe(text);
  }
  // All of it is known now.
  const before = world.upstream.requests.length;
  expect(await askClosure(world, [app.storePathHash])).toMatchObject({ narinfos, missing });
  expect(world.upstream.requests).toHaveLength(before);
});

test("an upstream that hangs costs a closure its deadline and no more", async () => {
  await using world = await startReadThrough({ upstreamDeadlineMs: "300ms" });
  const { app, lib } = await createGraph({ lib: [], app: ["lib"] });
  if (app === undefined || lib === undefined) throw new Error("The graph is incomplete");
  await world.upstream.add(lib);
  world.upstream.conduct(`/${lib.storePathHash}.narinfo`, () => {});
  const token = await world.server.token({ main: ["pull", "push"] });
  await pushClosure(world.server, token, "main", [app], [lib.storePathHash]);
  const { narinfos, missing } = await askClosure(world, [app.storePathHash]);
  expect(narinfos).toHaveLength(1);
  expect(missing).toEqual([lib.storePathHash]);
  await expect.poll(() => world.reasons()).toEqual(["timeout"]);
});
