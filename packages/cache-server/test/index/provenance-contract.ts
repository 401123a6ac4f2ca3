import { expect, test } from "vitest";

import type { CacheIndex } from "../../src/index/cache-index.ts";
import type { PrincipalFacts } from "../../src/index/provenance-index.ts";
import { sampleObject, samplePath, storePathHashOf } from "./index-samples.ts";
import { addView, hold, NOW, type OpenIndex } from "./index-setup.ts";

const BAD: PrincipalFacts = { principal: "forge:repo/1", trust: "trusted", run: "7", jti: "bad" };
const GOOD: PrincipalFacts = { principal: "forge:repo/1", trust: "trusted", run: "8", jti: "good" };
const BY = { atMs: NOW + 500, createdBy: "operator" };

async function pushAs(
  index: CacheIndex,
  viewId: number,
  writer: PrincipalFacts,
  seeds: readonly string[],
  createdAtMs = NOW,
): Promise<void> {
  await hold(index, viewId, ...seeds);
  const paths = seeds.map((seed) => samplePath(seed, { createdAtMs }));
  expect(await index.commitPaths(viewId, paths, { writer })).toMatchObject({ kind: "committed" });
}

export function describeProvenance(open: OpenIndex): void {
  test("who wrote and who read a path is known, in every view, and after it is gone", async () => {
    await using index = await open();
    const view = await addView(index);
    const other = await addView(index, "other");
    const name = storePathHashOf("a");
    await pushAs(index, view.id, BAD, ["a"]);
    await pushAs(index, other.id, GOOD, ["a"]);
    const use = { viewId: view.id, kind: "path", name } as const;
    await index.recordReads(GOOD, [{ ...use, atMs: NOW + 5 }]);
    await index.recordReads(GOOD, [{ ...use, atMs: NOW + 9 }]);

    expect(await index.findProvenance("path", name, 10)).toEqual([
      {
        view: "main",
        state: "present",
        writers: [{ ...BAD, atMs: NOW }],
        readers: [{ ...GOOD, firstAtMs: NOW + 5, lastAtMs: NOW + 9 }],
      },
      { view: "other", state: "present", writers: [{ ...GOOD, atMs: NOW }], readers: [] },
    ]);
    await index.deletePath(view.id, name, NOW);
    expect((await index.findProvenance("path", name, 10))[0]).toMatchObject({ state: "gone" });
    expect(await index.findProvenance("path", storePathHashOf("b"), 10)).toEqual([]);
  });

  test("a path that is pushed again just as it is stays its first writer's", async () => {
    await using index = await open();
    const view = await addView(index);
    await pushAs(index, view.id, GOOD, ["a"]);
    await pushAs(index, view.id, BAD, ["a"], NOW + 1);
    const name = storePathHashOf("a");
    const [first] = await index.findProvenance("path", name, 10);
    expect(first?.writers).toEqual([{ ...GOOD, atMs: NOW }]);

    const rewritten = samplePath("a", { references: [], createdAtMs: NOW + 2 });
    await index.commitPaths(view.id, [rewritten], { writer: BAD });
    const [second] = await index.findProvenance("path", name, 10);
    expect(second?.writers).toEqual([
      { ...BAD, atMs: NOW + 2 },
      { ...GOOD, atMs: NOW },
    ]);
  });

  test("a revocation hides what a run wrote at once, names who read it, and refuses the run", async () => {
    await using index = await open();
    const view = await addView(index);
    await pushAs(index, view.id, BAD, ["a", "b"]);
    await pushAs(index, view.id, GOOD, ["c"]);
    const document = { kind: "realisation", name: "sha256:x!out", createdAtMs: NOW } as const;
    await index.putDocument(view.id, { ...document, body: Buffer.from("bad") }, BAD);
    for (const seed of ["a", "c"]) {
      const use = { viewId: view.id, kind: "path", name: storePathHashOf(seed) } as const;
      await index.recordReads(GOOD, [{ ...use, atMs: NOW + 9 }]);
      await index.recordReads(BAD, [{ ...use, atMs: NOW + 9 }]);
    }
    const effect = {
      entries: 3,
      samples: [
        { view: "main", kind: "path", name: storePathHashOf("a") },
        { view: "main", kind: "path", name: storePathHashOf("b") },
        { view: "main", kind: "realisation", name: "sha256:x!out" },
      ].toSorted((a, b) => (`${a.kind} ${a.name}` < `${b.kind} ${b.name}` ? -1 : 1)),
      writers: [BAD],
      consumers: [{ ...GOOD, entries: 1, lastAtMs: NOW + 9 }],
    };
    expect(await index.previewRevocation({ run: "7" }, 10)).toEqual(effect);
    expect(await index.isRevoked({ principal: "p", run: "7", jti: undefined })).toBe(false);

    const { id, ...done } = await index.revoke({ run: "7" }, BY, 10);
    expect(done).toEqual(effect);
    const object = sampleObject("a");
    expect(await index.findPath([view.id], storePathHashOf("a"))).toBeUndefined();
    expect(await index.findObject([view.id], object.fileHash)).toBeUndefined();
    expect(await index.findHolding(view.id, object.narHash)).toBeUndefined();
    expect(await index.findDocument([view.id], "realisation", document.name)).toBeUndefined();
    expect(await index.findPath([view.id], storePathHashOf("c"))).toBeDefined();
    expect(await index.viewStats(view.id)).toMatchObject({ paths: 1, nars: 1 });
    expect(await index.isRevoked({ principal: "p", run: "7", jti: undefined })).toBe(true);
    expect(await index.isRevoked({ principal: "p", run: "8", jti: undefined })).toBe(false);
    await hold(index, view.id, "late");
    await expect(
      index.commitPaths(view.id, [samplePath("late")], { writer: BAD }),
    ).rejects.toMatchObject({ code: "FORBIDDEN" });
    const listed = { id, run: "7", createdBy: "operator", liftedAtMs: undefined };
    expect(await index.listRevocations(10)).toMatchObject([{ ...listed, finishedAtMs: undefined }]);
    await index.finishRevocation(id, { atMs: NOW + 600, entries: 4 });
    expect(await index.listRevocations(10)).toMatchObject([
      { ...listed, entries: 4, finishedAtMs: NOW + 600 },
    ]);
    expect(await index.hideRevoked(id)).toBe(3);
    expect(await index.checkConsistency()).toEqual([]);
  });

  test("what was revoked is made anew by whoever pushes it anew, and a second revocation spares that", async () => {
    await using index = await open();
    const view = await addView(index);
    const name = storePathHashOf("a");
    const document = { kind: "build-trace", name: "x", createdAtMs: NOW } as const;
    await pushAs(index, view.id, BAD, ["a"]);
    await index.putDocument(view.id, { ...document, body: Buffer.from("bad") }, BAD);
    const { id } = await index.revoke({ run: "7" }, BY, 10);

    expect(await index.findMissingPaths(view.id, [name])).toEqual([name]);
    const { narHash } = sampleObject("a");
    expect(await index.findMissingNars(view.id, [narHash])).toEqual([narHash]);
    await pushAs(index, view.id, GOOD, ["a"], NOW + 900);
    const good = { ...document, body: Buffer.from("good"), createdAtMs: NOW + 900 };
    expect(await index.putDocument(view.id, good, GOOD)).toBe(true);

    expect(await index.findPath([view.id], name)).toBeDefined();
    expect(await index.liftRevocation(id, { atMs: NOW, keepsHidden: false })).toEqual({
      restored: 0,
    });
    expect(await index.revoke({ run: "7" }, BY, 10)).toMatchObject({ entries: 0 });
    expect(await index.findPath([view.id], name)).toBeDefined();
    const body = await index.findDocument([view.id], "build-trace", "x");
    expect(Buffer.from(body ?? []).toString()).toBe("good");
    expect(await index.checkConsistency()).toEqual([]);
  });

  test("what many tokens wrote is hidden to the last entry, each counted once, and nothing of anybody else's", async () => {
    await using index = await open();
    const view = await addView(index);
    const seeds = Array.from({ length: 2500 }, (_, number) => `of ${number}`);
    await pushAs(index, view.id, BAD, seeds.slice(0, 1700));
    await pushAs(index, view.id, { ...BAD, jti: "worse" }, seeds.slice(1700), NOW + 1);
    await pushAs(index, view.id, GOOD, ["fine"]);
    const trace = { kind: "build-trace", body: Buffer.from("x"), createdAtMs: NOW } as const;
    await index.putDocument(view.id, { ...trace, name: "one" }, BAD);

    const { id, entries } = await index.revoke({ run: "7" }, BY, 10);
    expect(entries).toBe(2501);
    expect(await index.hideRevoked(id)).toBe(2501);
    const hashes = seeds.map(storePathHashOf);
    expect((await index.findMissingPaths(view.id, hashes)).length).toBe(2500);
    expect(await index.findPath([view.id], storePathHashOf("fine"))).toBeDefined();
    expect(await index.viewStats(view.id)).toMatchObject({ paths: 1, nars: 1 });
    expect(await index.checkConsistency()).toEqual([]);
  });

  test("a revocation that was taken back hides nothing more", async () => {
    await using index = await open();
    const view = await addView(index);
    const { id } = await index.revoke({ run: "7" }, BY, 10);
    await index.liftRevocation(id, { atMs: NOW, keepsHidden: false });
    await pushAs(index, view.id, BAD, ["a"]);
    expect(await index.hideRevoked(id)).toBe(0);
    expect(await index.findPath([view.id], storePathHashOf("a"))).toBeDefined();
  });

  test("a revocation that is taken back gives everything back, or only the right to go on", async () => {
    await using index = await open();
    const view = await addView(index);
    const name = storePathHashOf("a");
    await pushAs(index, view.id, BAD, ["a", "b"]);
    const first = await index.revoke({ principal: BAD.principal, sinceMs: NOW }, BY, 10);
    expect(await index.liftRevocation(first.id, { atMs: NOW, keepsHidden: false })).toEqual({
      restored: 2,
    });
    expect(await index.liftRevocation(first.id, { atMs: NOW, keepsHidden: false })).toBeUndefined();
    expect(await index.findPath([view.id], name)).toMatchObject({ storePathHash: name });
    expect(await index.findObject([view.id], sampleObject("a").fileHash)).toBeDefined();
    expect(await index.viewStats(view.id)).toMatchObject({ paths: 2, nars: 2 });

    const second = await index.revoke({ jti: "bad" }, BY, 10);
    await index.liftRevocation(second.id, { atMs: NOW, keepsHidden: true });
    expect(await index.findPath([view.id], name)).toBeUndefined();
    expect(await index.isRevoked({ ...BAD, run: undefined, jti: "bad" })).toBe(false);
    expect(await index.checkConsistency()).toEqual([]);
  });

  test("a revocation by time alone hides and refuses nobody", async () => {
    await using index = await open();
    const view = await addView(index);
    await pushAs(index, view.id, BAD, ["a"]);
    await pushAs(index, view.id, GOOD, ["b"], NOW + 10);

    expect(await index.revoke({ sinceMs: NOW + 1 }, BY, 10)).toMatchObject({ entries: 1 });
    expect(await index.findPath([view.id], storePathHashOf("a"))).toBeDefined();
    expect(await index.findPath([view.id], storePathHashOf("b"))).toBeUndefined();
    expect(await index.isRevoked({ ...GOOD, run: "8", jti: "good" })).toBe(false);
  });

  test("a NAR that somebody else's path has as well stays readable", async () => {
    await using index = await open();
    const view = await addView(index);
    await pushAs(index, view.id, GOOD, ["a"]);
    const { narHash, fileHash } = sampleObject("a");
    await index.commitPaths(view.id, [samplePath("twin", { narHash, fileHash })], { writer: BAD });

    expect(await index.revoke({ run: "7" }, BY, 10)).toMatchObject({ entries: 1 });
    expect(await index.findPath([view.id], storePathHashOf("twin"))).toBeUndefined();
    expect(await index.findObject([view.id], fileHash)).toMatchObject({ narHash });
    expect(await index.checkConsistency()).toEqual([]);
  });

  test("what is hidden stays hidden when its object goes into quarantine and comes out of it", async () => {
    await using index = await open();
    const view = await addView(index);
    await pushAs(index, view.id, BAD, ["a"]);
    await index.revoke({ run: "7" }, BY, 10);
    const { fileHash } = sampleObject("a");
    await index.quarantineObject(fileHash, { atMs: NOW, reason: "damaged" });
    await index.restoreObject(fileHash);

    expect(await index.findPath([view.id], storePathHashOf("a"))).toBeUndefined();
    expect(await index.findObject([view.id], fileHash)).toBeUndefined();
    expect(await index.checkConsistency()).toEqual([]);
  });

  test("old reads are forgotten, and the writes of what is gone, and no others", async () => {
    await using index = await open();
    const view = await addView(index);
    await pushAs(index, view.id, BAD, ["here", "gone"]);
    const name = storePathHashOf("here");
    await index.recordReads(GOOD, [{ viewId: view.id, kind: "path", name, atMs: NOW }]);
    await index.deletePath(view.id, storePathHashOf("gone"), NOW);

    expect(await index.forgetProvenance(NOW, 10)).toBe(0);
    expect(await index.forgetProvenance(NOW + 1, 10)).toBe(2);
    expect(await index.findProvenance("path", storePathHashOf("gone"), 10)).toEqual([]);
    expect(await index.findProvenance("path", name, 10)).toMatchObject([
      { writers: [BAD], readers: [] },
    ]);
  });
}
