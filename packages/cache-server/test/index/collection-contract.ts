import { expect, test } from "vitest";

import type { CacheIndex } from "../../src/index/cache-index.ts";
import type { CollectResult } from "../../src/index/housekeeping-index.ts";
import { sampleObject, samplePath, storePathHashOf } from "./index-samples.ts";
import { type OpenIndex, addView, hold, NOW, push } from "./index-setup.ts";

/** Commits sample paths, each with the seeds it refers to. */
async function pushGraph(
  index: CacheIndex,
  viewId: number,
  graph: Readonly<Record<string, readonly string[]>>,
): Promise<void> {
  await hold(index, viewId, ...Object.keys(graph));
  const paths = Object.entries(graph).map(([seed, refersTo]) =>
    samplePath(seed, { references: refersTo.map((other) => `${storePathHashOf(other)}-${other}`) }),
  );
  expect(await index.commitPaths(viewId, paths)).toMatchObject({ kind: "committed" });
}

/** Collects seeds as they were pushed, and answers with the seeds deleted and kept. */
async function collect(
  index: CacheIndex,
  viewId: number,
  seeds: readonly string[],
): Promise<CollectResult> {
  const candidates = seeds.map((seed) => ({
    storePathHash: storePathHashOf(seed),
    accessedAtMs: NOW,
  }));
  const { deleted, kept } = await index.collectPaths(viewId, candidates, NOW + 5);
  const seedOf = (hash: string): string =>
    seeds.find((seed) => storePathHashOf(seed) === hash) ?? hash;
  return { deleted: deleted.map(seedOf), kept: kept.map(seedOf) };
}

function pinOf(name: string, seed: string) {
  const storePathHash = storePathHashOf(seed);
  const storePath = `/nix/store/${storePathHash}-${seed}`;
  return { name, storePathHash, storePath, createdAtMs: NOW, createdBy: undefined };
}

async function accessOf(index: CacheIndex, viewId: number, seed: string): Promise<unknown> {
  return (await index.findPath([viewId], storePathHashOf(seed)))?.accessedAtMs;
}

export function describeCollection(open: OpenIndex): void {
  test("access times begin with the push and move forward only", async () => {
    await using index = await open();
    const view = await addView(index);
    const other = await addView(index, "other");
    await push(index, view.id, "a", "b");
    await push(index, other.id, "a");
    const touch = (seed: string, atMs: number) => {
      return { viewId: view.id, storePathHash: storePathHashOf(seed), atMs };
    };
    expect(await accessOf(index, view.id, "a")).toBe(NOW);

    await index.touchPaths([touch("a", NOW + 9), touch("a", NOW + 5), touch("absent", NOW + 9)]);
    await index.touchPaths([touch("a", NOW + 7), touch("b", NOW - 7)]);

    expect(await accessOf(index, view.id, "a")).toBe(NOW + 9);
    expect(await accessOf(index, view.id, "b")).toBe(NOW);
    expect(await accessOf(index, other.id, "a")).toBe(NOW);
  });

  test("reading an object uses every path of the view that has its NAR, and none elsewhere", async () => {
    await using index = await open();
    const view = await addView(index);
    const other = await addView(index, "other");
    await push(index, view.id, "a", "b");
    await push(index, other.id, "a");
    const { narHash, fileHash } = sampleObject("a");
    await index.commitPaths(view.id, [samplePath("twin", { narHash, fileHash })]);
    const xz = { ...sampleObject("a"), fileHash: "f".repeat(64), compression: "xz" as const };
    await index.reserveObject(xz, NOW);

    await index.touchNars([
      { viewId: view.id, fileHash, atMs: NOW + 9 },
      { viewId: view.id, fileHash, atMs: NOW + 5 },
      { viewId: view.id, fileHash: sampleObject("absent").fileHash, atMs: NOW + 9 },
    ]);
    const seeds = ["a", "twin", "b"];
    expect(await Promise.all(seeds.map((seed) => accessOf(index, view.id, seed)))).toEqual([
      NOW + 9,
      NOW + 9,
      NOW,
    ]);
    expect(await accessOf(index, other.id, "a")).toBe(NOW);

    // As it came, in another compression than the one that the narinfo names.
    await index.touchNars([{ viewId: other.id, fileHash: xz.fileHash, atMs: NOW + 7 }]);
    expect(await accessOf(index, other.id, "a")).toBe(NOW + 7);
  });

  test("a push uses the paths it brings and those it needs, and no others", async () => {
    await using index = await open();
    const view = await addView(index);
    await push(index, view.id, "needed", "again", "named", "refused");
    await hold(index, view.id, "new");
    const at = { createdAtMs: NOW + 50 };
    const { narHash, fileHash } = sampleObject("elsewhere");

    await index.commitPaths(view.id, [
      samplePath("new", {
        ...at,
        references: [`${storePathHashOf("named")}-named`],
        requiredReferences: [storePathHashOf("needed")],
      }),
      samplePath("again", at),
      samplePath("refused", { ...at, narHash, fileHash }),
    ]);

    const seeds = ["new", "needed", "again", "named", "refused"];
    const times = await Promise.all(seeds.map((seed) => accessOf(index, view.id, seed)));
    expect(times).toEqual([NOW + 50, NOW + 50, NOW + 50, NOW, NOW]);
  });

  test("pins are listed by name, move, and end", async () => {
    await using index = await open();
    const view = await addView(index);
    await push(index, view.id, "a", "b");
    const stable = { ...pinOf("stable", "a"), createdBy: "ci" };

    expect(await index.putPin(view.id, stable)).toBe("created");
    expect(await index.putPin(view.id, pinOf("nightly", "a"))).toBe("created");
    expect(await index.listPins(view.id)).toEqual([pinOf("nightly", "a"), stable]);
    expect(await index.putPin(view.id, pinOf("nightly", "b"))).toBe("replaced");
    expect(await index.deletePin(view.id, "stable")).toBe(true);
    expect(await index.deletePin(view.id, "stable")).toBe(false);
    expect(await index.listPins(view.id)).toEqual([pinOf("nightly", "b")]);
  });

  test("what a view does not have cannot be pinned there", async () => {
    await using index = await open();
    const view = await addView(index);
    const other = await addView(index, "other");
    await push(index, other.id, "a");
    await push(index, view.id, "lost");
    const finding = { atMs: NOW, reason: "test" };
    await index.quarantineObject(sampleObject("lost").fileHash, finding);

    const absent = { code: "NOT_FOUND", message: expect.stringContaining("a") };
    await expect(index.putPin(view.id, pinOf("x", "a"))).rejects.toMatchObject(absent);
    await expect(index.putPin(view.id, pinOf("x", "lost"))).rejects.toMatchObject(absent);
    await expect(index.putPin(1_000_000, pinOf("x", "a"))).rejects.toMatchObject(absent);
    expect(await index.listPins(view.id)).toEqual([]);
  });

  test("a pin outlives its path and protects it again", async () => {
    await using index = await open();
    const view = await addView(index);
    await push(index, view.id, "a");
    await index.putPin(view.id, pinOf("x", "a"));

    expect(await index.deletePath(view.id, storePathHashOf("a"), NOW)).toBe(true);
    expect(await index.listPins(view.id)).toEqual([pinOf("x", "a")]);
    await push(index, view.id, "a");
    expect(await collect(index, view.id, ["a"])).toEqual({ deleted: [], kept: ["a"] });
  });

  test("the graph has every path with what it refers to, in pages", async () => {
    await using index = await open();
    const view = await addView(index);
    await pushGraph(index, view.id, { a: ["a", "b", "elsewhere"], b: [], c: ["a"] });
    await push(index, (await addView(index, "other")).id, "d");
    const { fileSize, narHash } = sampleObject("a");

    const all = await index.listGraph(view.id, { limit: 10 });
    expect(all.map((node) => node.storePathHash)).toEqual(
      ["a", "b", "c"].map(storePathHashOf).sort(),
    );
    expect(all).toContainEqual({
      storePathHash: storePathHashOf("a"),
      accessedAtMs: NOW,
      fileSize,
      narHash,
      references: ["a", "b", "elsewhere"].map(storePathHashOf),
    });
    const [first, second, third] = all;
    const after = first?.storePathHash ?? "";
    expect(await index.listGraph(view.id, { limit: 1 })).toEqual([first]);
    expect(await index.listGraph(view.id, { after, limit: 5 })).toEqual([second, third]);
  });

  test("a path that something else refers to stays, and what it refers to stays with it", async () => {
    await using index = await open();
    const view = await addView(index);
    await pushGraph(index, view.id, {
      root: ["app"],
      app: ["lib"],
      lib: ["libc"],
      libc: [],
      leaf: ["libc"],
    });

    expect(await collect(index, view.id, ["libc", "lib", "app", "leaf"])).toEqual({
      deleted: ["leaf"],
      kept: ["libc", "lib", "app"],
    });
    expect(await collect(index, view.id, ["libc", "root", "lib", "app"])).toEqual({
      deleted: ["libc", "root", "lib", "app"],
      kept: [],
    });
  });

  test("cycles and references to itself go together, whatever the order", async () => {
    await using index = await open();
    const view = await addView(index);
    await pushGraph(index, view.id, {
      a: ["b", "a"],
      b: ["c"],
      c: ["a", "d"],
      d: ["d"],
      e: ["f"],
      f: ["e"],
      holder: ["f"],
    });

    expect(await collect(index, view.id, ["e", "d", "c", "b", "a", "f"])).toEqual({
      deleted: ["d", "c", "b", "a"],
      kept: ["e", "f"],
    });
  });

  test("what was used or pinned meanwhile stays, with all it refers to", async () => {
    await using index = await open();
    const view = await addView(index);
    await pushGraph(index, view.id, {
      used: ["a"],
      a: [],
      pinned: ["b"],
      b: [],
      free: ["c"],
      c: [],
    });
    await index.touchPaths([
      { viewId: view.id, storePathHash: storePathHashOf("used"), atMs: NOW + 1 },
    ]);
    await index.putPin(view.id, pinOf("x", "pinned"));

    const seeds = ["used", "a", "pinned", "b", "free", "c", "absent", "c"];
    expect(await collect(index, view.id, seeds)).toEqual({
      deleted: ["free", "c"],
      kept: ["used", "a", "pinned", "b"],
    });
  });

  test("a reference that a path no longer has holds nothing, one that came back does", async () => {
    await using index = await open();
    const view = await addView(index);
    await pushGraph(index, view.id, { a: ["b", "c"], b: [], c: [] });
    await index.commitPaths(view.id, [
      samplePath("a", { references: [`${storePathHashOf("c")}-c`] }),
    ]);

    expect(await collect(index, view.id, ["b", "c"])).toEqual({ deleted: ["b"], kept: ["c"] });
    await pushGraph(index, view.id, { b: [], a: ["b"] });
    expect(await collect(index, view.id, ["b", "c"])).toEqual({ deleted: ["c"], kept: ["b"] });
  });

  test("a path that came after its referrer is held by it", async () => {
    await using index = await open();
    const view = await addView(index);
    await pushGraph(index, view.id, { early: ["late"] });
    await pushGraph(index, view.id, { late: [] });

    expect(await collect(index, view.id, ["late"])).toEqual({ deleted: [], kept: ["late"] });
  });

  test("other views hold nothing here, and nothing of theirs is deleted", async () => {
    await using index = await open();
    const view = await addView(index);
    const other = await addView(index, "other");
    await pushGraph(index, view.id, { a: [] });
    await pushGraph(index, other.id, { a: [], b: ["a"] });
    await index.putPin(other.id, pinOf("x", "a"));

    expect(await collect(index, view.id, ["a", "b"])).toEqual({ deleted: ["a"], kept: [] });
    expect(await index.viewStats(other.id)).toMatchObject({ paths: 2 });
  });

  test("a collected path's NAR expires, unless another path has it", async () => {
    await using index = await open();
    const view = await addView(index);
    await hold(index, view.id, "a", "b");
    const { narHash, fileHash } = sampleObject("b");
    await index.commitPaths(view.id, [
      samplePath("a"),
      samplePath("b"),
      samplePath("twin", { narHash, fileHash }),
    ]);

    await collect(index, view.id, ["a", "b"]);

    const held = await index.findHolding(view.id, sampleObject("a").narHash);
    expect(held).toMatchObject({ expiresAtMs: NOW + 5 });
    expect(await index.findHolding(view.id, narHash)).toMatchObject({ expiresAtMs: undefined });
    expect(await index.checkConsistency()).toEqual([]);
  });

  test("a path pushed while it is collected is either kept or there again, with what it needs", async () => {
    await using index = await open();
    const view = await addView(index);
    await hold(index, view.id, "dependency");
    for (let round = 0; round < 30; round += 1) {
      const created = NOW + round;
      await hold(index, view.id, "dependency", "app");
      await index.commitPaths(view.id, [samplePath("dependency", { createdAtMs: created })]);
      const candidates = [{ storePathHash: storePathHashOf("dependency"), accessedAtMs: created }];
      const app = samplePath("app", {
        createdAtMs: created + 1,
        references: [`${storePathHashOf("dependency")}-dependency`],
        requiredReferences: [storePathHashOf("dependency")],
      });
      const collecting = (): Promise<unknown> =>
        index.collectPaths(view.id, candidates, NOW + 1_000_000);
      const pushing = (): Promise<unknown> => index.commitPaths(view.id, [app]);
      await Promise.all(round % 2 === 0 ? [collecting(), pushing()] : [pushing(), collecting()]);

      const missing = await index.findMissingPaths(view.id, [
        storePathHashOf("app"),
        storePathHashOf("dependency"),
      ]);
      expect(missing).not.toEqual([storePathHashOf("dependency")]);
      await index.deletePath(view.id, storePathHashOf("app"), NOW + 1_000_000);
    }
  });
}
