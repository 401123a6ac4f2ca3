import { expect, test } from "vitest";

import type { Offer } from "../../src/index/adoption-index.ts";
import type { CacheIndex, ViewRecord } from "../../src/index/cache-index.ts";
import type { PrincipalFacts } from "../../src/index/provenance-index.ts";
import { sampleKey, samplePath, sampleView, storePathHashOf } from "./index-samples.ts";
import { addView, hold, NOW, type OpenIndex } from "./index-setup.ts";

const KEY = "commit and workflow";
const QUEUE: PrincipalFacts = { principal: "forge:repo/1", trust: "overlay", run: "7", jti: "q" };
const LANDING: PrincipalFacts = { principal: "forge:repo/1", trust: "trusted", run: "8", jti: "l" };
const OTHER: PrincipalFacts = { principal: "forge:repo/1", trust: "overlay", run: "9", jti: "o" };
const LATER = NOW + 100;

interface World {
  readonly main: ViewRecord;
  readonly overlay: ViewRecord;
  readonly offer: Offer;
}

async function addOverlay(index: CacheIndex): Promise<World> {
  const main = await addView(index);
  const overlay = await index.createView(
    sampleView("main_pr-1", { overlayOf: main.id, overlayKey: "x" }),
    sampleKey("main_pr-1"),
  );
  return { main, overlay, offer: { viewId: overlay.id, viewName: overlay.name, key: KEY } };
}

async function write(
  index: CacheIndex,
  { overlay }: World,
  writer: PrincipalFacts,
  ...seeds: readonly string[]
): Promise<void> {
  await hold(index, overlay.id, ...seeds);
  const paths = seeds.map((seed) => samplePath(seed));
  expect(await index.commitPaths(overlay.id, paths, { writer })).toMatchObject({
    kind: "committed",
  });
}

export function describeAdoption(open: OpenIndex): void {
  const offered = { ...QUEUE, offers: KEY };
  const listed = (index: CacheIndex, { offer }: World): Promise<string[]> =>
    index.listOfferedPaths(offer, { limit: 10 });
  const adopt = (index: CacheIndex, { main, offer }: World, ...seeds: string[]) =>
    index.commitPaths(
      main.id,
      seeds.map((seed) => samplePath(seed, { createdAtMs: LATER })),
      { writer: LANDING, adopts: offer },
    );

  test("an overlay is offered to the push with its writer's key, of its own base alone", async () => {
    await using index = await open();
    const world = await addOverlay(index);
    const other = await addView(index, "other");
    await write(index, world, offered, "a", "b");
    await write(index, world, { ...OTHER, offers: "another" }, "c");

    expect(await index.findOffers(KEY, world.main.id)).toEqual([world.offer]);
    expect(await index.findOffers("a key of nobody", world.main.id)).toEqual([]);
    expect(await index.findOffers(KEY, other.id)).toEqual([]);
    const hashes = ["a", "b"].map(storePathHashOf).toSorted();
    expect(await listed(index, world)).toEqual(hashes);
    const [first = "", second] = hashes;
    expect(await index.listOfferedPaths(world.offer, { after: first, limit: 10 })).toEqual([
      second,
    ]);
    expect(await index.listOfferedPaths(world.offer, { limit: 1 })).toEqual([first]);
    await index.deleteView("main_pr-1");
    expect(await index.findOffers(KEY, world.main.id)).toEqual([]);
  });

  test("a path that is taken over brings its NAR and its writer, and stays when the overlay goes", async () => {
    await using index = await open();
    const world = await addOverlay(index);
    await write(index, world, offered, "a");
    const hash = storePathHashOf("a");

    expect(await adopt(index, world, "a")).toMatchObject({ kind: "committed", created: [hash] });
    expect(await adopt(index, world, "a")).toMatchObject({ created: [], unchanged: [hash] });

    await index.deleteView("main_pr-1");
    while ((await index.purgeDeletedViews(100)) > 0);
    await index.expire(NOW + 1_000_000, 100);
    const { main } = world;
    const { narHash, fileHash } = samplePath("a");
    expect(await index.findPath([main.id], hash)).toMatchObject({ narHash, fileHash });
    expect(await index.findHolding(main.id, narHash)).toMatchObject({ expiresAtMs: undefined });
    const [provenance] = await index.findProvenance("path", hash, 10);
    expect(provenance?.writers).toHaveLength(2);
    expect(provenance?.writers).toEqual(
      expect.arrayContaining([
        { ...QUEUE, atMs: LATER, adoptedFrom: "main_pr-1" },
        { ...LANDING, atMs: LATER },
      ]),
    );
    expect(await index.checkConsistency()).toEqual([]);
    for (const run of ["7", "8"]) {
      expect(await index.previewRevocation({ run }, 10)).toMatchObject({ entries: 1 });
    }
  });

  test("what was revoked, changed by others or is gone is offered no more, not even to who saw it before", async () => {
    await using index = await open();
    const world = await addOverlay(index);
    await write(index, world, offered, "a", "c", "d");
    await write(index, world, { ...OTHER, offers: KEY }, "b");
    await index.revoke({ run: "9" }, { atMs: NOW + 1, createdBy: undefined }, 10);
    const changed = samplePath("c", { references: [], createdAtMs: NOW + 2 });
    await index.commitPaths(world.overlay.id, [changed], { writer: { ...OTHER, run: "10" } });
    await index.deletePath(world.overlay.id, storePathHashOf("d"), NOW);

    expect(await listed(index, world)).toEqual([storePathHashOf("a")]);
    expect(await adopt(index, world, "a", "b", "c", "d")).toMatchObject({
      created: [storePathHashOf("a")],
    });
    expect(await index.findPath([world.main.id], storePathHashOf("b"))).toBeUndefined();
  });

  test("nothing is taken over for who was revoked, nor without its references, nor over other bytes", async () => {
    await using index = await open();
    const world = await addOverlay(index);
    const { main, offer } = world;
    await write(index, world, offered, "a");
    const needy = samplePath("a", { requiredReferences: [storePathHashOf("lib")] });
    expect(await index.commitPaths(main.id, [needy], { adopts: offer })).toMatchObject({
      kind: "incomplete",
    });
    const { narHash, fileHash } = samplePath("other");
    await hold(index, main.id, "other");
    await index.commitPaths(main.id, [samplePath("a", { narHash, fileHash })]);
    expect(await adopt(index, world, "a")).toMatchObject({
      created: [],
      conflicts: [{ storePathHash: storePathHashOf("a"), narHash }],
    });
    await index.revoke({ run: "8" }, { atMs: NOW, createdBy: undefined }, 10);
    await expect(adopt(index, world, "a")).rejects.toMatchObject({ code: "FORBIDDEN" });
    await expect(
      index.adoptDocuments(main.id, offer, { writer: LANDING, atMs: LATER, limit: 10 }),
    ).rejects.toMatchObject({ code: "FORBIDDEN" });
  });

  test("documents are taken over some at a time; those that are there stay", async () => {
    await using index = await open();
    const world = await addOverlay(index);
    const { main, overlay, offer } = world;
    const put = (viewId: number, name: string, body: string, writer: PrincipalFacts) =>
      index.putDocument(
        viewId,
        { kind: "realisation", name, body: Buffer.from(body), createdAtMs: NOW },
        writer,
      );
    for (const name of ["one", "two", "three"]) await put(overlay.id, name, "queue", offered);
    await put(overlay.id, "four", "other", OTHER);
    await put(main.id, "one", "main", LANDING);
    const options = { writer: LANDING, atMs: LATER, limit: 1 };

    expect(await index.adoptDocuments(main.id, offer, options)).toBe(1);
    expect(await index.adoptDocuments(main.id, offer, options)).toBe(1);
    expect(await index.adoptDocuments(main.id, offer, options)).toBe(0);

    const read = async (name: string): Promise<string | undefined> => {
      const body = await index.findDocument([main.id], "realisation", name);
      return body && Buffer.from(body).toString();
    };
    expect(await Promise.all(["one", "two", "three", "four"].map(read))).toEqual([
      "main",
      "queue",
      "queue",
      undefined,
    ]);
    await index.revoke({ run: "7" }, { atMs: LATER, createdBy: undefined }, 10);
    expect(await read("two")).toBeUndefined();
  });
}
