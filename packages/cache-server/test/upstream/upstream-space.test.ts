import { randomBytes } from "node:crypto";

import { parseNarInfo } from "@glorious/nix-store";
import { expect, test } from "vitest";

import { createTestPath, type TestPath } from "../test-path.ts";
import type { TestServer } from "../test-server.ts";
import { pushAttic } from "../uploads.ts";
import { type ReadThrough, startReadThrough } from "./read-through.ts";

const NAR_BYTES = 100_000;
const SOON = { trimDelayMs: 0, fetchedNarGraceMs: 0 };

/** NARs in the store. */
async function countNars({ store }: TestServer): Promise<number> {
  return (await Array.fromAsync(store.list("nar/"))).length;
}

async function fetchPath(world: ReadThrough, path: TestPath): Promise<void> {
  await world.upstream.add(path);
  const text = await world.narInfo(path.storePathHash);
  if (text === undefined) throw new Error(`There is no narinfo of ${path.storePath}`);
  await world.nar(text);
}

test("what is fetched beyond the limit gives the room of the longest unused back at once", async () => {
  await using world = await startReadThrough({ upstreamMaxSizeBytes: "350kB" }, { timings: SOON });
  const { server, record } = world;
  const pushed = await createTestPath("pushed", randomBytes(NAR_BYTES));
  const token = await server.token({ main: ["push"] });
  expect((await pushAttic(server, token, "main", pushed)).status).toBe(200);
  const paths: TestPath[] = [];
  for (let number = 0; number < 8; number += 1) {
    const path = await createTestPath(`path-${number}`, randomBytes(NAR_BYTES));
    paths.push(path);
    await fetchPath(world, path);
    server.advance(1000);
  }

  await expect.poll(() => server.index.viewBytes(record.viewId)).toBeLessThanOrEqual(350_000);
  // What was pushed is there beside what may be kept.
  await expect.poll(() => countNars(server)).toBeLessThanOrEqual(4);
  expect(
    await server.index.findPath([record.viewId], paths[0]?.storePathHash ?? ""),
  ).toBeUndefined();
  const last = await world.narInfo(paths.at(-1)?.storePathHash ?? "");
  expect(parseNarInfo(last ?? "").storePath).toBe(paths.at(-1)?.storePath);
  await world.upstream[Symbol.asyncDispose]();
  const own = await server.send("GET", `/main/${pushed.storePathHash}.narinfo`);
  const nar = await server.send("GET", `/main/${parseNarInfo(own.text).url}`);
  expect([own.status, nar.status]).toEqual([200, 200]);
});

test("a reader of what is removed meanwhile gets all of it", async () => {
  await using world = await startReadThrough({ upstreamMaxSizeBytes: "1kB" }, { timings: SOON });
  const path = await createTestPath("large", randomBytes(2_000_000));
  await world.upstream.add(path, { compression: "none" });
  const text = (await world.narInfo(path.storePathHash)) ?? "";
  const files = await Promise.all(Array.from({ length: 8 }, () => world.nar(text)));
  for (const file of files) expect(file.equals(path.nar)).toBe(true);
  await expect.poll(() => countNars(world.server)).toBe(0);
  // It is fetched again.
  expect((await world.nar(text)).equals(path.nar)).toBe(true);
});
