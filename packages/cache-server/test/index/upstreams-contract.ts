import { expect, test } from "vitest";

import type { CacheIndex } from "../../src/index/cache-index.ts";
import type { NewUpstream, UpstreamPath, UpstreamRecord } from "../../src/index/upstream-index.ts";
import {
  sampleKey,
  sampleObject,
  samplePath,
  sampleView,
  sha256Of,
  storePathHashOf,
} from "./index-samples.ts";
import { addView, hold, NOW, type OpenIndex, push } from "./index-setup.ts";

function sampleUpstream(name: string, changes: Partial<NewUpstream> = {}): NewUpstream {
  return {
    name,
    url: `https://${name}.example/`,
    publicKeys: [`${name}-1:AAAA`],
    authorization: undefined,
    onlyViewId: undefined,
    storeDir: "/nix/store",
    priority: 40,
    maxSizeBytes: undefined,
    createdAtMs: NOW,
    ...changes,
  };
}

function samplePathOf(
  { viewId }: UpstreamRecord,
  seed: string,
  changes: Partial<UpstreamPath> = {},
): UpstreamPath {
  return {
    hiddenViewId: viewId,
    storePathHash: storePathHashOf(seed),
    narInfo: `StorePath: /nix/store/${storePathHashOf(seed)}-${seed}\n`,
    fileHash: sha256Of(`upstream file ${seed}`),
    narHash: sha256Of(`nar ${seed}`),
    references: [`${storePathHashOf("glibc")}-glibc`],
    checkedAtMs: NOW,
    ...changes,
  };
}

/** What is kept of these paths, by the names they were made with. */
async function known(
  index: CacheIndex,
  upstream: UpstreamRecord,
  ...seeds: readonly string[]
): Promise<string[]> {
  const hashes = seeds.map((seed) => storePathHashOf(seed));
  const found = await index.findUpstreamPaths([upstream.viewId], hashes);
  const there = new Set(found.map(({ storePathHash }) => storePathHash));
  return seeds.filter((seed) => there.has(storePathHashOf(seed)));
}

export function describeUpstreams(open: OpenIndex): void {
  test("an upstream is found by its name with all that it was made with", async () => {
    await using index = await open();
    const view = await addView(index);
    const plain = await index.createUpstream(sampleUpstream("plain"));
    const wanted = sampleUpstream("full", {
      publicKeys: ["a:AAAA", "b:BBBB"],
      authorization: "Bearer x",
      onlyViewId: view.id,
      storeDir: "/opt/store",
      priority: -1,
      maxSizeBytes: 5_000_000_000_000,
    });
    const full = await index.createUpstream(wanted);

    expect(full).toEqual({ ...wanted, id: full.id, viewId: full.viewId });
    expect(await index.findUpstream("full")).toEqual(full);
    expect(await index.listUpstreams()).toEqual([full, plain]);
    expect(await index.findUpstream("absent")).toBeUndefined();
    await expect(
      index.createUpstream(sampleUpstream("full", { url: "http://other/" })),
    ).rejects.toMatchObject({ code: "CONFLICT" });
    expect(await index.findUpstream("full")).toEqual(full);
  });

  test("no name finds the view of an upstream, and no list and no quota knows of it", async () => {
    await using index = await open();
    const before = await index.tenantUsage(undefined);
    const upstream = await index.createUpstream(sampleUpstream("up"));
    await push(index, upstream.viewId, "a");

    expect(await index.listViews()).toEqual([]);
    expect(await index.tenantUsage(undefined)).toEqual(before);
    for (const name of ["up", "upstream", "upstream/up", `/${upstream.viewId}`]) {
      expect(await index.findView(name)).toBeUndefined();
      expect(await index.updateView(name, { isPublic: true })).toBeUndefined();
      expect(await index.deleteView(name)).toBe(false);
    }
    const view = await addView(index, "up");
    expect(view.id).not.toBe(upstream.viewId);
    expect(await index.findPath([view.id], storePathHashOf("a"))).toBeUndefined();
    expect(await index.findPath([upstream.viewId], storePathHashOf("a"))).toBeDefined();
    expect(await index.viewStats(upstream.viewId)).toMatchObject({ paths: 1 });
    expect(await index.listSigningKeys(upstream.viewId)).toEqual([]);
    expect(await index.countOutdatedPaths(upstream.viewId)).toBe(0);
    expect(await index.checkConsistency()).toEqual([]);
  });

  test("a view has its upstreams in the order asked, those of lower priority first", async () => {
    await using index = await open();
    const [main, other] = [await addView(index), await addView(index, "other")];
    const [a, b, c] = [
      await index.createUpstream(sampleUpstream("a")),
      await index.createUpstream(sampleUpstream("b")),
      await index.createUpstream(sampleUpstream("c", { priority: 10 })),
    ];

    await index.setViewUpstreams(main.id, [b.id, a.id, b.id]);
    await index.setViewUpstreams(other.id, [a.id, c.id]);

    expect(await index.upstreamsOfViews([main.id])).toEqual([b, a]);
    expect(await index.upstreamsOfViews([main.id, other.id])).toEqual([c, b, a]);
    expect(await index.viewsOfUpstream(a.id)).toEqual(["main", "other"]);
    await index.setViewUpstreams(main.id, []);
    expect(await index.upstreamsOfViews([main.id])).toEqual([]);
    expect(await index.viewsOfUpstream(b.id)).toEqual([]);
    expect(await index.upstreamsOfViews([other.id])).toEqual([c, a]);
  });

  test("a private upstream is had by its view alone, and goes with it", async () => {
    await using index = await open();
    const [main, other] = [await addView(index), await addView(index, "other")];
    const shared = await index.createUpstream(sampleUpstream("shared"));
    const mine = await index.createUpstream(sampleUpstream("mine", { onlyViewId: main.id }));
    await index.setViewUpstreams(main.id, [mine.id, shared.id]);
    await index.setViewUpstreams(other.id, [shared.id]);
    await push(index, mine.viewId, "a");

    await expect(index.setViewUpstreams(other.id, [shared.id, mine.id])).rejects.toMatchObject({
      code: "NOT_FOUND",
    });
    expect(await index.upstreamsOfViews([other.id])).toEqual([shared]);

    expect(await index.deleteView("main")).toBe(true);
    expect(await index.listUpstreams()).toEqual([shared]);
    expect(await index.findPath([mine.viewId], storePathHashOf("a"))).toBeUndefined();
    expect(await index.viewsOfUpstream(shared.id)).toEqual(["other"]);
    await expect(
      index.createUpstream(sampleUpstream("late", { onlyViewId: main.id })),
    ).rejects.toMatchObject({ code: "NOT_FOUND" });
    while ((await index.purgeDeletedViews(100)) > 0);
    expect(await index.checkConsistency()).toEqual([]);
  });

  test("a removed upstream leaves all views, and what it held is purged", async () => {
    await using index = await open();
    const main = await addView(index);
    const upstream = await index.createUpstream(sampleUpstream("up"));
    const other = await index.createUpstream(sampleUpstream("other"));
    await index.setViewUpstreams(main.id, [upstream.id, other.id]);
    await push(index, upstream.viewId, "a");
    await index.putUpstreamPaths([samplePathOf(upstream, "b")]);

    expect(await index.deleteUpstream("up")).toBe(true);
    expect(await index.deleteUpstream("up")).toBe(false);

    expect(await index.upstreamsOfViews([main.id])).toEqual([other]);
    expect(await known(index, upstream, "b")).toEqual([]);
    await index.putUpstreamPaths([samplePathOf(upstream, "c")]);
    await expect(hold(index, upstream.viewId, "late")).rejects.toMatchObject({
      code: "NOT_FOUND",
    });
    // A path, its NAR, an answer, the view.
    expect(await index.purgeDeletedViews(100)).toBe(4);
    expect(await index.purgeDeletedViews(100)).toBe(0);
    expect(await index.claimUnreferencedObjects(NOW + 1, 10)).toContain(sampleObject("a").fileHash);
    const again = await index.createUpstream(sampleUpstream("up"));
    expect(again.viewId).not.toBe(upstream.viewId);
    expect(await index.checkConsistency()).toEqual([]);
  });

  test("what is held as it came is listed, and moves with its paths to another object at once", async () => {
    await using index = await open();
    const { viewId } = await index.createUpstream(sampleUpstream("up"));
    const encoded = sampleObject("a");
    const came = {
      ...encoded,
      fileHash: sha256Of("a in xz"),
      fileSize: 7,
      compression: "xz",
    } as const;
    const { narHash } = came;
    await index.reserveObject(came, NOW);
    const holding = { viewId, narHash, fileHash: came.fileHash, expiresAtMs: NOW + 1000 };
    await expect(index.holdNar(holding)).rejects.toThrow("zstd");
    await index.holdNar({ ...holding, isAsItCame: true });
    const all = { after: 0, limit: 10 };
    expect(await index.listHeldAsTheyCame(all)).toEqual([]);
    const path = { ...samplePath("a"), fileHash: came.fileHash };
    expect(await index.commitPaths(viewId, [path])).toMatchObject({ kind: "committed" });
    const [held] = await index.listHeldAsTheyCame(all);
    expect(held).toMatchObject({ viewId, object: came });
    expect(await index.listHeldAsTheyCame({ after: held?.id ?? 0, limit: 10 })).toEqual([]);

    const { storePathHash, narInfo: replaces } = path;
    const move = {
      viewId,
      narHash,
      from: came.fileHash,
      to: encoded.fileHash,
      narInfos: [{ storePathHash, replaces, narInfo: "in zstd" }],
      fileExpiresAtMs: NOW + 5,
    };
    expect(await index.moveHolding(move)).toBe(false);
    await index.reserveObject(encoded, NOW);
    const [change] = move.narInfos;
    expect(await index.moveHolding({ ...move, narInfos: [] })).toBe(false);
    const other = { storePathHash, narInfo: change?.narInfo ?? "", replaces: "another" };
    expect(await index.moveHolding({ ...move, narInfos: [other] })).toBe(false);
    expect(await index.findPath([viewId], storePathHash)).toMatchObject({ narInfo: replaces });
    expect(await index.moveHolding(move)).toBe(true);
    expect(await index.moveHolding(move)).toBe(false);

    expect(await index.findPath([viewId], storePathHash)).toMatchObject({
      narInfo: "in zstd",
      fileHash: encoded.fileHash,
      createdAtMs: path.createdAtMs,
    });
    expect(await index.listHeldAsTheyCame(all)).toEqual([]);
    expect(await index.findObject([viewId], came.fileHash)).toMatchObject(came);
    expect(await index.viewStats(viewId)).toMatchObject({
      paths: 1,
      nars: 1,
      fileBytes: encoded.fileSize,
    });
    await index.expire(NOW + 6, 10);
    expect(await index.findObject([viewId], came.fileHash)).toBeUndefined();
    // What can be fetched again waits for no grace.
    expect(await index.claimUnreferencedObjects(NOW - 1, 10)).toEqual([came.fileHash]);
    expect(await index.checkConsistency()).toEqual([]);
  });

  test("an update changes what is given; a key that goes takes along what it vouched for", async () => {
    await using index = await open();
    const main = await addView(index);
    const made = await index.createUpstream(
      sampleUpstream("up", { publicKeys: ["a:AAAA"], onlyViewId: main.id, authorization: "x" }),
    );
    await index.setViewUpstreams(main.id, [made.id]);
    await push(index, made.viewId, "a");
    await index.putUpstreamPaths([samplePathOf(made, "b")]);

    const changes = { priority: 7, maxSizeBytes: 9, authorization: "y" };
    expect(await index.updateUpstream("up", changes)).toEqual({ ...made, ...changes });
    const added = await index.updateUpstream("up", { publicKeys: ["b:BBBB", "a:AAAA"] });
    expect(added).toEqual({ ...made, ...changes, publicKeys: ["b:BBBB", "a:AAAA"] });
    expect(await index.updateUpstream("up", { maxSizeBytes: "default" })).toMatchObject({
      maxSizeBytes: undefined,
      priority: 7,
    });
    expect(await known(index, made, "b")).toEqual(["b"]);

    const changed = await index.updateUpstream("up", { publicKeys: ["b:BBBB"], maxSizeBytes: 3 });
    if (changed === undefined) throw new Error("The upstream is gone");
    expect(changed).toEqual({
      ...made,
      ...changes,
      publicKeys: ["b:BBBB"],
      maxSizeBytes: 3,
      viewId: changed.viewId,
    });
    expect(changed.viewId).not.toBe(made.viewId);
    expect(await index.upstreamsOfViews([main.id])).toEqual([changed]);
    for (const record of [made, changed]) {
      expect(await known(index, record, "b")).toEqual([]);
      expect(await index.findPath([record.viewId], storePathHashOf("a"))).toBeUndefined();
    }
    // What was under way is dropped with the keys it was verified by.
    await index.putUpstreamPaths([samplePathOf(made, "late"), samplePathOf(changed, "new")]);
    expect(await known(index, made, "late")).toEqual([]);
    expect(await known(index, changed, "late", "new")).toEqual(["new"]);
    expect(await index.updateUpstream("absent", { priority: 1 })).toBeUndefined();
    expect(await index.checkConsistency()).toEqual([]);
  });

  test("answers are found by path and by file, and the last one counts", async () => {
    await using index = await open();
    const up = await index.createUpstream(sampleUpstream("up"));
    const other = await index.createUpstream(sampleUpstream("other"));
    const [a, bare] = [samplePathOf(up, "a"), samplePathOf(up, "bare", { fileHash: undefined })];
    const theirs = samplePathOf(other, "a", { narInfo: "theirs" });
    await index.putUpstreamPaths([samplePathOf(up, "a", { narInfo: "old" }), bare, theirs]);
    await index.putUpstreamPaths([a]);

    const ids = [other.viewId, up.viewId];
    const hashes = ["a", "bare", "absent", "a"].map((seed) => storePathHashOf(seed));
    expect(await index.findUpstreamPaths(ids, hashes)).toEqual([theirs, a, bare]);
    expect(await index.findUpstreamPaths([], hashes)).toEqual([]);
    expect(await index.findUpstreamFile(ids, sha256Of("upstream file a"))).toEqual(theirs);
    expect(await index.findUpstreamFile([up.viewId], sha256Of("upstream file a"))).toEqual(a);
    expect(await index.findUpstreamFile(ids, sha256Of("upstream file bare"))).toBeUndefined();

    await index.removeUpstreamPath(up.viewId, storePathHashOf("a"));
    expect(await known(index, up, "a", "bare")).toEqual(["bare"]);
    expect(await known(index, other, "a")).toEqual(["a"]);
  });

  test("old answers are trimmed, and the oldest when there are too many", async () => {
    await using index = await open();
    const up = await index.createUpstream(sampleUpstream("up"));
    const seeds = ["a", "b", "c", "d", "e", "f"];
    for (const [age, seed] of seeds.entries()) {
      await index.putUpstreamPaths([samplePathOf(up, seed, { checkedAtMs: NOW + age })]);
    }
    // Asked again, so that it is the youngest.
    await index.putUpstreamPaths([samplePathOf(up, "a", { checkedAtMs: NOW + 6 })]);

    expect(await index.trimUpstreamPaths(NOW + 2, 10, 100)).toBe(1);
    expect(await known(index, up, ...seeds)).toEqual(["a", "c", "d", "e", "f"]);
    const trimmed: number[] = [];
    do trimmed.push(await index.trimUpstreamPaths(NOW, 2, 2));
    while (trimmed.at(-1) !== 0);
    expect(trimmed).toEqual([2, 1, 0]);
    expect(await known(index, up, ...seeds)).toEqual(["a", "f"]);
    expect(await index.trimUpstreamPaths(NOW + 100, 10, 100)).toBe(2);
    expect(await index.trimUpstreamPaths(NOW + 100, 10, 100)).toBe(0);
  });

  test("whether a view signs and pushes what upstreams have is kept", async () => {
    await using index = await open();
    const made = await index.createView(
      sampleView("main", { signsUpstream: true, pushesUpstream: true }),
      sampleKey("main-1"),
    );
    expect(made).toMatchObject({ signsUpstream: true, pushesUpstream: true });
    const changed = await index.updateView("main", { signsUpstream: false });
    expect(changed).toEqual({ ...made, signsUpstream: false });
    expect(await index.updateView("main", { pushesUpstream: false })).toEqual({
      ...made,
      signsUpstream: false,
      pushesUpstream: false,
    });
  });
}
