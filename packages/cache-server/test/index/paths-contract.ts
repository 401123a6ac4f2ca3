import { expect, test } from "vitest";

import type { NarInfoChange } from "../../src/index/cache-index.ts";
import { sampleObject, samplePath, storePathHashOf } from "./index-samples.ts";
import { type OpenIndex, addView, hold, push, NOW } from "./index-setup.ts";

export function describePaths(open: OpenIndex): void {
  test("a committed path is found with all that it was committed with", async () => {
    await using index = await open();
    const view = await addView(index);
    await hold(index, view.id, "full", "bare");
    const full = samplePath("full", { ca: "text:sha256:x", signatures: ["b:2", "a:1"] });
    const bare = samplePath("bare", {
      references: [],
      deriver: undefined,
      system: undefined,
      createdBy: undefined,
    });

    expect(await index.commitPaths(view.id, [full, bare])).toEqual({
      kind: "committed",
      created: [full.storePathHash, bare.storePathHash],
      unchanged: [],
      conflicts: [],
    });

    const { requiredReferences: _, ...fullFacts } = full;
    expect(await index.findPath([view.id], full.storePathHash)).toEqual({
      ...fullFacts,
      viewId: view.id,
      signatures: ["a:1", "b:2"],
      narSize: sampleObject("full").narSize,
      fileSize: sampleObject("full").fileSize,
      accessedAtMs: full.createdAtMs,
    });
    expect(await index.findPath([view.id], bare.storePathHash)).toMatchObject({
      references: [],
      deriver: undefined,
      ca: undefined,
      system: undefined,
      createdBy: undefined,
    });
  });

  test("the first view of a chain that has a path answers", async () => {
    await using index = await open();
    const base = await addView(index, "base");
    const overlay = await addView(index, "overlay");
    await push(index, base.id, "both", "below");
    await hold(index, overlay.id, "both");
    const above = samplePath("both", { narInfo: "overlay's text" });
    await index.commitPaths(overlay.id, [above]);
    const chain = [overlay.id, base.id];

    const both = storePathHashOf("both");
    expect(await index.findPath(chain, both)).toMatchObject({ viewId: overlay.id });
    const asked = ["both", "absent", "below", "both"].map(storePathHashOf);
    const found = await index.findNarInfos(chain, asked);
    expect(new Map(found.map((path) => [path.storePathHash, path.viewId]))).toEqual(
      new Map([
        [both, overlay.id],
        [storePathHashOf("below"), base.id],
      ]),
    );
    expect(found).toHaveLength(2);
    expect(await index.findPath(chain.toReversed(), both)).toMatchObject({ viewId: base.id });
    expect(await index.findPath(chain, storePathHashOf("below"))).toMatchObject({
      viewId: base.id,
    });
    expect(await index.findPath([overlay.id], storePathHashOf("below"))).toBeUndefined();
    expect(await index.findPath([], both)).toBeUndefined();
  });

  test("a reference may be in a view behind, and is used there", async () => {
    await using index = await open();
    const base = await addView(index, "base");
    const overlay = await addView(index, "overlay");
    await push(index, base.id, "needed");
    await hold(index, overlay.id, "app");
    const needed = storePathHashOf("needed");
    const app = samplePath("app", { requiredReferences: [needed], createdAtMs: NOW + 9 });

    expect(await index.commitPaths(overlay.id, [app])).toMatchObject({ kind: "incomplete" });
    const behind = [overlay.id, base.id];
    expect(await index.commitPaths(overlay.id, [app], { behind })).toMatchObject({
      created: [app.storePathHash],
    });
    expect(await index.findPath([base.id], needed)).toMatchObject({ accessedAtMs: NOW + 9 });
    expect(await index.findPath([overlay.id], needed)).toBeUndefined();
  });

  test("an update replaces what is served, merges signatures and keeps the path's beginning", async () => {
    await using index = await open();
    const view = await addView(index);
    await hold(index, view.id, "a");
    await index.commitPaths(view.id, [
      samplePath("a", { signatures: ["m:1"], createdBy: "first" }),
    ]);

    const again = samplePath("a", {
      signatures: ["z:1", "a:1", "m:1"],
      narInfo: "second",
      deriver: undefined,
      createdBy: "second",
      createdAtMs: NOW + 9,
    });
    expect(await index.commitPaths(view.id, [again])).toMatchObject({
      created: [],
      unchanged: [again.storePathHash],
    });

    expect(await index.findPath([view.id], again.storePathHash)).toMatchObject({
      signatures: ["a:1", "m:1", "z:1"],
      narInfo: "second",
      deriver: undefined,
      createdBy: "first",
      createdAtMs: NOW,
    });
  });

  test("a path keeps 16 client signatures, and new ones push none out", async () => {
    await using index = await open();
    const view = await addView(index);
    await hold(index, view.id, "a");
    const first = Array.from({ length: 10 }, (_, at) => `n${at}:x`);
    await index.commitPaths(view.id, [samplePath("a", { signatures: first })]);
    const more = Array.from({ length: 10 }, (_, at) => `a${at}:x`);
    await index.commitPaths(view.id, [samplePath("a", { signatures: more })]);

    const path = await index.findPath([view.id], storePathHashOf("a"));
    expect(path?.signatures).toEqual([...more.slice(0, 6), ...first]);
  });

  test("another NAR under a known path is a conflict that hinders nothing else", async () => {
    await using index = await open();
    const view = await addView(index);
    await push(index, view.id, "a");
    await hold(index, view.id, "b");
    const { narHash, fileHash } = sampleObject("other");
    // Neither its NAR nor its reference is there; a refused path needs none of them.
    const rewrite = samplePath("a", {
      narHash,
      fileHash,
      requiredReferences: [storePathHashOf("?")],
    });
    const b = samplePath("b", { requiredReferences: [rewrite.storePathHash] });

    expect(await index.commitPaths(view.id, [rewrite, b])).toEqual({
      kind: "committed",
      created: [b.storePathHash],
      unchanged: [],
      conflicts: [{ storePathHash: rewrite.storePathHash, narHash: sampleObject("a").narHash }],
    });
    expect(await index.findPath([view.id], rewrite.storePathHash)).toMatchObject({
      narHash: sampleObject("a").narHash,
    });
  });

  test("of two NARs for one path in one commit, the first is created and the second refused", async () => {
    await using index = await open();
    const view = await addView(index);
    await hold(index, view.id, "a", "b");
    const { narHash, fileHash } = sampleObject("b");
    const [first, second] = [samplePath("a"), samplePath("a", { narHash, fileHash })];

    expect(await index.commitPaths(view.id, [first, second])).toMatchObject({
      created: [first.storePathHash],
      conflicts: [{ storePathHash: first.storePathHash, narHash: first.narHash }],
    });
  });

  test("a path given twice in one commit is one path, with both signatures and the last text", async () => {
    await using index = await open();
    const view = await addView(index);
    await hold(index, view.id, "a");
    const first = samplePath("a", { signatures: ["b:1"], createdBy: "first" });
    const second = samplePath("a", { signatures: ["a:1"], narInfo: "last", createdBy: "second" });

    expect(await index.commitPaths(view.id, [first, second])).toEqual({
      kind: "committed",
      created: [first.storePathHash],
      unchanged: [],
      conflicts: [],
    });
    expect(await index.findPath([view.id], first.storePathHash)).toMatchObject({
      signatures: ["a:1", "b:1"],
      narInfo: "last",
      createdBy: "first",
    });
  });

  test("nothing is written when a NAR is absent, is another object, or a reference is absent", async () => {
    await using index = await open();
    const view = await addView(index);
    const other = await addView(index, "other");
    await push(index, other.id, "unheld", "elsewhere");
    await hold(index, view.id, "good", "dangling", "encoded");
    const good = samplePath("good");
    const unheld = samplePath("unheld");
    const encoded = samplePath("encoded", { fileHash: sampleObject("encoded", "theirs").fileHash });
    const elsewhere = storePathHashOf("elsewhere");
    const dangling = samplePath("dangling", {
      requiredReferences: [good.storePathHash, elsewhere, storePathHashOf("dangling")],
    });

    const result = await index.commitPaths(view.id, [good, unheld, encoded, dangling]);

    expect(result).toEqual({
      kind: "incomplete",
      missingNars: [unheld.narHash, encoded.narHash],
      missingReferences: [{ storePathHash: dangling.storePathHash, reference: elsewhere }],
    });
    expect(await index.findPath([view.id], good.storePathHash)).toBeUndefined();
    expect(await index.findHolding(view.id, good.narHash)).toMatchObject({
      expiresAtMs: NOW + 1000,
    });
  });

  test("a required reference is satisfied by the view or by the same commit, in any order", async () => {
    await using index = await open();
    const view = await addView(index);
    await push(index, view.id, "old");
    await hold(index, view.id, "x", "y");
    const old = storePathHashOf("old");
    const x = storePathHashOf("x");
    const y = storePathHashOf("y");

    expect(
      await index.commitPaths(view.id, [
        samplePath("x", { requiredReferences: [y, old, x] }),
        samplePath("y", { requiredReferences: [x] }),
      ]),
    ).toMatchObject({ kind: "committed", created: [x, y] });
  });

  test("a commit of nothing is a commit", async () => {
    await using index = await open();
    const view = await addView(index);
    expect(await index.commitPaths(view.id, [])).toMatchObject({ kind: "committed", created: [] });
  });

  test("missing paths and NARs come each once, in the order asked, of this view only", async () => {
    await using index = await open();
    const view = await addView(index);
    const other = await addView(index, "other");
    await push(index, view.id, "a");
    await hold(index, view.id, "pending");
    await push(index, other.id, "b");

    const asked = ["z", "a", "b", "z", "y"];
    expect(await index.findMissingPaths(view.id, asked.map(storePathHashOf))).toEqual(
      ["z", "b", "y"].map(storePathHashOf),
    );
    const nars = ["z", "a", "pending", "b", "z"].map((seed) => sampleObject(seed).narHash);
    expect(await index.findMissingNars(view.id, nars)).toEqual(
      ["z", "b"].map((seed) => sampleObject(seed).narHash),
    );
    expect(await index.findMissingPaths(view.id, [])).toEqual([]);
    expect(await index.findMissingNars(1_000_000, nars.slice(0, 1))).toEqual(nars.slice(0, 1));
  });

  test("20 000 paths are committed together and asked for together", async () => {
    await using index = await open();
    const view = await addView(index);
    await hold(index, view.id, "nar");
    const { narHash, fileHash } = sampleObject("nar");
    const paths = Array.from({ length: 20_000 }, (_, at) =>
      samplePath(`p${at}`, { narHash, fileHash }),
    );
    const half = paths.slice(0, 10_000);

    expect(await index.commitPaths(view.id, half)).toMatchObject({ kind: "committed" });

    const hashes = paths.map((path) => path.storePathHash);
    expect(await index.findMissingPaths(view.id, hashes)).toEqual(hashes.slice(10_000));
  });

  test("paths are walked in pages, in order of their hashes", async () => {
    await using index = await open();
    const view = await addView(index);
    const seeds = Array.from({ length: 7 }, (_, at) => `p${at}`);
    await push(index, view.id, ...seeds);
    await push(index, (await addView(index, "other")).id, "elsewhere");

    const walked: string[] = [];
    for (let after: string | undefined; ; after = walked.at(-1)) {
      const page = await index.listPaths(view.id, {
        limit: 3,
        ...(after === undefined ? {} : { after }),
      });
      if (page.length === 0) break;
      walked.push(...page.map((path) => path.storePathHash));
    }
    expect(walked).toEqual(seeds.map(storePathHashOf).sort());
  });

  test("a replaced narinfo is served, unless its path is absent or has another text by now", async () => {
    await using index = await open();
    const view = await addView(index);
    await push(index, view.id, "a", "b");

    const change = (seed: string, replaces: string): NarInfoChange => ({
      storePathHash: storePathHashOf(seed),
      replaces,
      narInfo: "new",
      keyGeneration: 0,
    });
    await index.replaceNarInfos(view.id, [
      change("a", samplePath("a").narInfo),
      change("b", "another text"),
      change("absent", "new"),
    ]);

    const paths = await index.listPaths(view.id, { limit: 10 });
    expect(paths.map((path) => path.narInfo).sort()).toEqual(
      [samplePath("b").narInfo, "new"].sort(),
    );
  });
}
