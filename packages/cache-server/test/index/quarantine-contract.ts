import { expect, test } from "vitest";

import type { CacheIndex } from "../../src/index/cache-index.ts";
import { sampleKey, sampleObject, samplePath, sha256Of, storePathHashOf } from "./index-samples.ts";
import { type OpenIndex, addView, hold, NOW, push } from "./index-setup.ts";

const FINDING = { atMs: NOW + 7, reason: "its bytes hash to something else" };

/** Reserves another encoding of a sample NAR and lets the view hold it. */
async function holdTheirs(
  index: CacheIndex,
  viewId: number,
  seed: string,
  replaceObject = false,
): Promise<string> {
  const object = sampleObject(seed, "theirs");
  await index.reserveObject(object, NOW);
  const { narHash, fileHash } = object;
  await index.holdNar({ viewId, narHash, fileHash, expiresAtMs: NOW + 1000, replaceObject });
  return fileHash;
}

export function describeQuarantine(open: OpenIndex): void {
  test("objects that a view refers to are walked in pages, with when they were verified", async () => {
    await using index = await open();
    const view = await addView(index);
    await push(index, view.id, "a", "b", "c");
    await index.reserveObject(sampleObject("unreferenced"), NOW);
    const hashes = ["a", "b", "c"].map((seed) => sampleObject(seed).fileHash).sort();
    const [first = "", second = "", third = ""] = hashes;

    await index.markVerified([first, sha256Of("unknown")], NOW + 1);
    await index.quarantineObject(third, FINDING);

    const all = await index.listObjects({ limit: 10 });
    expect(all.map(({ fileHash }) => fileHash)).toEqual(hashes);
    expect(all).toMatchObject([
      { verifiedAtMs: NOW + 1, quarantinedAtMs: undefined },
      { verifiedAtMs: undefined, quarantinedAtMs: undefined },
      { verifiedAtMs: undefined, quarantinedAtMs: FINDING.atMs },
    ]);
    const page = await index.listObjects({ after: first, limit: 1 });
    expect(page.map(({ fileHash }) => fileHash)).toEqual([second]);
    expect(await index.listObjects({ after: third, limit: 1 })).toEqual([]);
  });

  test("what needs an object in quarantine counts as absent, in every view, and only that", async () => {
    await using index = await open();
    const view = await addView(index);
    const other = await addView(index, "other");
    await push(index, view.id, "bad", "good");
    await push(index, other.id, "bad");
    const { fileHash, narHash, compression, narSize } = sampleObject("bad");
    const expiresAtMs = NOW + 10_000;
    const facts = { viewId: view.id, fileHash, compression, narHash, narSize, expiresAtMs };
    await index.addUploadedFile(facts);

    const affected = await index.quarantineObject(fileHash, FINDING);

    const bad = storePathHashOf("bad");
    const { storePath } = samplePath("bad");
    expect(affected).toEqual([
      { viewId: view.id, view: "main", storePathHash: bad, storePath },
      { viewId: other.id, view: "other", storePathHash: bad, storePath },
    ]);
    expect(await index.listPathsOfObject(fileHash, 10)).toEqual(affected);
    expect(await index.listPathsOfObject(fileHash, 1)).toEqual(affected.slice(0, 1));
    expect(await index.listPathsOfObject(sha256Of("unknown"), 10)).toEqual([]);
    for (const { id } of [view, other]) {
      expect(await index.findPath([id], bad)).toBeUndefined();
      expect(await index.findHolding(id, narHash)).toBeUndefined();
      expect(await index.findObject([id], fileHash)).toBeUndefined();
      expect(await index.findMissingPaths(id, [bad])).toEqual([bad]);
      expect(await index.findMissingNars(id, [narHash])).toEqual([narHash]);
    }
    expect(await index.findUploadedFile(view.id, fileHash, compression)).toBeUndefined();
    expect(await index.viewStats(view.id)).toMatchObject({
      paths: 1,
      nars: 1,
      narBytes: sampleObject("good").narSize,
      fileBytes: sampleObject("good").fileSize,
    });
    expect(await index.viewStats(other.id)).toMatchObject({ paths: 0, nars: 0, fileBytes: 0 });
    expect(await index.findPath([view.id], storePathHashOf("good"))).toBeDefined();
    expect(await index.listGraph(view.id, { limit: 10 })).toHaveLength(2);
    expect(await index.listPaths(view.id, { limit: 10 })).toHaveLength(2);
  });

  test("a lost path is read through to the next view of the chain", async () => {
    await using index = await open();
    const base = await addView(index, "base");
    const overlay = await addView(index, "overlay");
    await push(index, base.id, "a");
    const theirs = await holdTheirs(index, overlay.id, "a");
    await index.commitPaths(overlay.id, [samplePath("a", { fileHash: theirs })]);
    const chain = [overlay.id, base.id];
    const asked = storePathHashOf("a");
    expect(await index.findPath(chain, asked)).toMatchObject({ viewId: overlay.id });

    await index.quarantineObject(theirs, FINDING);

    expect(await index.findPath(chain, asked)).toMatchObject({ viewId: base.id });
  });

  test("new bytes of the same object bring back all that was lost, not verified yet", async () => {
    await using index = await open();
    const view = await addView(index);
    const other = await addView(index, "other");
    await push(index, view.id, "a");
    await push(index, other.id, "a");
    const object = sampleObject("a");
    await index.markVerified([object.fileHash], NOW);
    const stats = await index.viewStats(view.id);
    await index.quarantineObject(object.fileHash, FINDING);

    expect(await index.reserveObject(object, NOW)).toBe("reserved");
    await index.restoreObject(object.fileHash);

    expect(await index.listQuarantined({ limit: 10 })).toEqual([]);
    expect(await index.listObjects({ limit: 10 })).toEqual([
      { ...object, verifiedAtMs: undefined, quarantinedAtMs: undefined },
    ]);
    expect(await index.viewStats(view.id)).toEqual(stats);
    for (const { id } of [view, other]) {
      expect(await index.findPath([id], storePathHashOf("a"))).toBeDefined();
      expect(await index.findHolding(id, object.narHash)).toBeDefined();
    }
  });

  test("another NAR heals a lost path: it is created anew, and the bad NAR goes", async () => {
    await using index = await open();
    const view = await addView(index);
    await hold(index, view.id, "a", "b");
    const before = { signatures: ["old:1"], createdBy: "first", createdAtMs: NOW - 5 };
    await index.commitPaths(view.id, [samplePath("a", before)]);
    const bad = sampleObject("a");
    await index.quarantineObject(bad.fileHash, FINDING);
    const { narHash, fileHash } = sampleObject("b");
    const rebuilt = samplePath("a", {
      narHash,
      fileHash,
      signatures: ["new:1"],
      createdBy: "second",
      createdAtMs: NOW + 3,
    });

    expect(await index.commitPaths(view.id, [rebuilt])).toEqual({
      kind: "committed",
      created: [rebuilt.storePathHash],
      unchanged: [],
      conflicts: [],
    });

    expect(await index.findPath([view.id], rebuilt.storePathHash)).toMatchObject({
      narHash,
      signatures: ["new:1"],
      createdBy: "second",
      createdAtMs: NOW + 3,
      accessedAtMs: NOW + 3,
    });
    expect(await index.expire(NOW + 3, 10)).toMatchObject({ holdings: 1 });
    expect(await index.claimUnreferencedObjects(NOW + 1, 10)).toEqual([bad.fileHash]);
    await index.removeClaimedObjects([bad.fileHash]);
    expect(await index.listQuarantined({ limit: 10 })).toEqual([]);
    expect(await index.checkConsistency()).toEqual([]);
  });

  test("another encoding takes a bad object's place without being told to", async () => {
    await using index = await open();
    const view = await addView(index);
    await push(index, view.id, "a", "kept");
    await index.quarantineObject(sampleObject("a").fileHash, FINDING);

    const theirs = await holdTheirs(index, view.id, "a");
    await holdTheirs(index, view.id, "kept");

    expect(await index.findHolding(view.id, sampleObject("a").narHash)).toMatchObject({
      fileHash: theirs,
      expiresAtMs: undefined,
    });
    expect(await index.findHolding(view.id, sampleObject("kept").narHash)).toMatchObject({
      fileHash: sampleObject("kept").fileHash,
    });
    // The narinfo still names the bad one.
    expect(await index.findPath([view.id], storePathHashOf("a"))).toBeUndefined();
    const healed = await index.commitPaths(view.id, [samplePath("a", { fileHash: theirs })]);
    expect(healed).toMatchObject({ created: [storePathHashOf("a")] });
    expect(await index.viewStats(view.id)).toMatchObject({ paths: 2, nars: 2 });
  });

  test("a path is not served while its view holds its NAR as another object than its narinfo names", async () => {
    await using index = await open();
    const view = await addView(index);
    const other = await addView(index, "other");
    await push(index, view.id, "a");
    await push(index, other.id, "a");
    const asked = storePathHashOf("a");

    const theirs = await holdTheirs(index, view.id, "a", true);
    expect(await index.findPath([view.id], asked)).toBeUndefined();
    expect(await index.findMissingPaths(view.id, [asked])).toEqual([asked]);
    expect(await index.findMissingNars(view.id, [sampleObject("a").narHash])).toEqual([]);
    expect(await index.viewStats(view.id)).toMatchObject({ paths: 0, nars: 1 });
    expect(await index.findPath([other.id], asked)).toBeDefined();

    // Bad or good, the old object is not what the view has.
    await index.quarantineObject(sampleObject("a").fileHash, FINDING);
    await index.restoreObject(sampleObject("a").fileHash);
    expect(await index.findPath([view.id], asked)).toBeUndefined();

    const again = samplePath("a", { fileHash: theirs, narInfo: "names theirs" });
    await index.commitPaths(view.id, [again]);
    expect(await index.findPath([view.id], asked)).toMatchObject({
      fileHash: theirs,
      narInfo: "names theirs",
    });
  });

  test("a lost path satisfies no required reference, unless the same push heals it", async () => {
    await using index = await open();
    const view = await addView(index);
    await push(index, view.id, "lost");
    await hold(index, view.id, "app");
    await index.quarantineObject(sampleObject("lost").fileHash, FINDING);
    const reference = storePathHashOf("lost");
    const app = samplePath("app", { requiredReferences: [reference] });

    expect(await index.commitPaths(view.id, [app])).toMatchObject({
      missingReferences: [{ storePathHash: app.storePathHash, reference }],
    });
    const theirs = await holdTheirs(index, view.id, "lost");
    expect(
      await index.commitPaths(view.id, [app, samplePath("lost", { fileHash: theirs })]),
    ).toMatchObject({ created: [app.storePathHash, reference] });
  });

  test("a lost path is still deleted, collected and signed anew", async () => {
    await using index = await open();
    const view = await addView(index);
    await push(index, view.id, "a", "b");
    for (const seed of ["a", "b"]) {
      await index.quarantineObject(sampleObject(seed).fileHash, FINDING);
    }
    await index.addSigningKey(view.id, sampleKey("main-2"));

    expect(await index.countOutdatedPaths(view.id)).toBe(2);
    expect(await index.listOutdatedPaths(view.id, 10)).toHaveLength(2);
    expect(await index.deletePath(view.id, storePathHashOf("a"), NOW)).toBe(true);
    const candidate = { storePathHash: storePathHashOf("b"), accessedAtMs: NOW };
    expect(await index.collectPaths(view.id, [candidate], NOW)).toMatchObject({
      deleted: [candidate.storePathHash],
    });
    expect(await index.viewStats(view.id)).toMatchObject({ paths: 0, nars: 0 });
    await index.expire(NOW, 10);
    expect(await index.viewStats(view.id)).toMatchObject({ paths: 0, nars: 0, narBytes: 0 });
    expect(await index.checkConsistency()).toEqual([]);
  });

  test("a NAR held as an object that is in quarantine already is lost until that is restored", async () => {
    await using index = await open();
    const view = await addView(index);
    const other = await addView(index, "other");
    await push(index, other.id, "a");
    const { fileHash, narHash } = sampleObject("a");
    await index.quarantineObject(fileHash, FINDING);

    await hold(index, view.id, "a");

    expect(await index.findHolding(view.id, narHash)).toBeUndefined();
    expect(await index.viewStats(view.id)).toMatchObject({ nars: 0, narBytes: 0 });
    await index.restoreObject(fileHash);
    expect(await index.findHolding(view.id, narHash)).toBeDefined();
    expect(await index.viewStats(view.id)).toMatchObject({ nars: 1 });
  });

  test("quarantine lists what it holds, the first finding and how many paths it costs", async () => {
    await using index = await open();
    const view = await addView(index);
    const other = await addView(index, "other");
    await push(index, view.id, "a", "b");
    await push(index, other.id, "a");
    const [a, b] = [sampleObject("a"), sampleObject("b")];

    await index.quarantineObject(a.fileHash, FINDING);
    await index.quarantineObject(b.fileHash, { atMs: NOW, reason: "gone" });
    const again = await index.quarantineObject(a.fileHash, { atMs: NOW - 9, reason: "another" });

    expect(again).toHaveLength(2);
    expect(await index.quarantineObject(sha256Of("unknown"), FINDING)).toEqual([]);
    expect(await index.listQuarantined({ limit: 10 })).toEqual([
      { object: b, reason: "gone", atMs: NOW, paths: 1 },
      { object: a, ...FINDING, paths: 2 },
    ]);
    expect(await index.listQuarantined({ limit: 1 })).toMatchObject([{ object: b }]);

    await index.restoreObject(a.fileHash);
    await index.quarantineObject(a.fileHash, { atMs: NOW + 8, reason: "bad again" });
    expect(await index.listQuarantined({ limit: 10 })).toMatchObject([
      { object: b },
      { object: a, reason: "bad again", atMs: NOW + 8 },
    ]);
  });

  test("of the paths that an object costs at most 1000 are named", async () => {
    await using index = await open();
    const view = await addView(index);
    await hold(index, view.id, "nar");
    const { narHash, fileHash } = sampleObject("nar");
    const paths = Array.from({ length: 1001 }, (_, at) =>
      samplePath(`p${at}`, { narHash, fileHash }),
    );
    await index.commitPaths(view.id, paths);

    expect(await index.quarantineObject(fileHash, FINDING)).toHaveLength(1000);
    expect(await index.viewStats(view.id)).toMatchObject({ paths: 0 });
  });
}
