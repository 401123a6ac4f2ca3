import { expect, test } from "vitest";

import {
  sampleKey,
  sampleObject,
  samplePath,
  sampleView,
  storePathHashOf,
} from "./index-samples.ts";
import { type OpenIndex, addView, hold, push, NOW } from "./index-setup.ts";

export function describeViews(open: OpenIndex): void {
  test("a view is found by its name with all that it was made with", async () => {
    await using index = await open();
    const view = sampleView("acme+main", {
      isPublic: true,
      retentionSeconds: 0,
      upstreamCacheKeyNames: [],
      maxSizeBytes: 10,
      compressionLevel: 19,
      priority: -3,
    });

    const created = await index.createView(view, sampleKey("acme-1"));

    expect(created).toEqual({ ...view, id: created.id });
    expect(await index.findView("acme+main")).toEqual(created);
    expect(await index.listSigningKeys(created.id)).toEqual([sampleKey("acme-1")]);
    expect(await index.findView("acme")).toBeUndefined();
  });

  test("views are listed in order of their names", async () => {
    await using index = await open();
    for (const name of ["b", "acme+b", "a"]) await addView(index, name);

    expect((await index.listViews()).map(({ name }) => name)).toEqual(["a", "acme+b", "b"]);
  });

  test("a taken name is refused and leaves the view that has it as it was", async () => {
    await using index = await open();
    const view = await addView(index);

    const again = index.createView(sampleView("main", { priority: 7 }), sampleKey("other"));

    await expect(again).rejects.toMatchObject({ code: "CONFLICT", message: /main/ });
    expect(await index.findView("main")).toEqual(view);
    expect(await index.listSigningKeys(view.id)).toEqual([sampleKey("main-1")]);
  });

  test("an update changes what is given and keeps the rest", async () => {
    await using index = await open();
    const view = await addView(index);

    const changes = { isPublic: true, retentionSeconds: 60, upstreamCacheKeyNames: ["x", "y"] };
    expect(await index.updateView("main", changes)).toEqual({ ...view, ...changes });
    expect(await index.updateView("main", {})).toEqual({ ...view, ...changes });
    expect(await index.updateView("main", { retentionSeconds: 0 })).toMatchObject({
      retentionSeconds: 0,
    });
    expect(await index.updateView("main", { retentionSeconds: "default" })).toMatchObject({
      isPublic: true,
      retentionSeconds: undefined,
    });
    const limits = { maxSizeBytes: 5_000_000_000_000, compressionLevel: 9 };
    expect(await index.updateView("main", limits)).toMatchObject({
      isPublic: true,
      ...limits,
    });
    expect(await index.updateView("main", { maxSizeBytes: "default" })).toMatchObject({
      maxSizeBytes: undefined,
      compressionLevel: 9,
    });
    expect(await index.updateView("main", { compressionLevel: "default" })).toMatchObject({
      compressionLevel: undefined,
    });
    const last = await index.updateView("main", { storeDir: "/opt/store", priority: 1 });
    expect(await index.findView("main")).toEqual(last);
    expect(await index.updateView("absent", { priority: 1 })).toBeUndefined();
  });

  test("a deleted view takes all it knew along, and its name comes back empty", async () => {
    await using index = await open();
    const other = await addView(index, "other");
    const view = await addView(index);
    await push(index, view.id, "a", "shared");
    await push(index, other.id, "shared");
    const document = {
      kind: "log",
      name: "x",
      body: Buffer.from("log"),
      createdAtMs: NOW,
    } as const;
    await index.putDocument(view.id, document);

    expect(await index.deleteView("main")).toBe(true);
    expect(await index.deleteView("main")).toBe(false);
    const successor = await addView(index);

    expect(successor.id).not.toBe(view.id);
    for (const id of [view.id, successor.id]) {
      expect(await index.findPath([id], storePathHashOf("a"))).toBeUndefined();
      expect(await index.findObject([id], sampleObject("a").fileHash)).toBeUndefined();
      expect(await index.findDocument([id], "log", "x")).toBeUndefined();
    }
    expect(await index.findPath([other.id], storePathHashOf("shared"))).toBeDefined();
    expect((await index.listViews()).map(({ id }) => id)).toEqual([successor.id, other.id]);
  });

  test("the rows of a deleted view go in slices, and its objects with them", async () => {
    await using index = await open();
    const other = await addView(index, "other");
    const view = await addView(index);
    await push(index, view.id, "a", "b", "shared");
    await push(index, other.id, "shared");
    await index.deleteView("main");
    expect(await index.claimUnreferencedObjects(NOW + 1, 10)).toEqual([]);

    const slices: number[] = [];
    do slices.push(await index.purgeDeletedViews(2));
    while (slices.at(-1) !== 0);

    // Three paths, three NARs held, and the view.
    expect(slices).toEqual([2, 2, 2, 1, 0]);
    const claimed = await index.claimUnreferencedObjects(NOW + 1, 10);
    expect(new Set(claimed)).toEqual(
      new Set(["a", "b"].map((seed) => sampleObject(seed).fileHash)),
    );
    expect(await index.findPath([other.id], storePathHashOf("shared"))).toBeDefined();
    expect(await index.checkConsistency()).toEqual([]);
  });

  test("a write into a view that is gone is NOT_FOUND and writes nothing", async () => {
    await using index = await open();
    const view = await addView(index);
    await index.reserveObject(sampleObject("a"), NOW);
    await index.deleteView("main");
    const { narHash, fileHash, compression, narSize } = sampleObject("a");
    const at = { viewId: view.id, narHash, fileHash, expiresAtMs: NOW };

    const outcomes = await Promise.allSettled([
      index.addCounts(view.id, { uploads: 1 }),
      index.replaceSigningKeys(view.id, sampleKey("k")),
      index.addSigningKey(view.id, sampleKey("k")),
      index.removeSigningKey(view.id, "k"),
      index.holdNar(at),
      index.addUploadedFile({ ...at, compression, narSize }),
      index.commitPaths(view.id, [samplePath("a")]),
      index.putDocument(view.id, { kind: "log", name: "n", body: Buffer.of(1), createdAtMs: NOW }),
      index.viewStats(view.id),
    ]);
    for (const outcome of outcomes) {
      expect(outcome).toMatchObject({ status: "rejected", reason: { code: "NOT_FOUND" } });
    }
    expect(await index.deletePath(view.id, storePathHashOf("a"), NOW)).toBe(false);
    while ((await index.purgeDeletedViews(10)) > 0);
    expect(await index.claimUnreferencedObjects(NOW + 1, 10)).toEqual([fileHash]);
  });

  test("a replaced signing key is the only one", async () => {
    await using index = await open();
    const view = await addView(index);
    const other = await addView(index, "other");

    await index.replaceSigningKeys(view.id, sampleKey("main-2", NOW + 5));

    expect(await index.listSigningKeys(view.id)).toEqual([sampleKey("main-2", NOW + 5)]);
    expect(await index.listSigningKeys(other.id)).toEqual([sampleKey("other-1")]);
  });

  test("an added key signs beside the others, and a removed one no longer", async () => {
    await using index = await open();
    const view = await addView(index);
    const other = await addView(index, "other");

    await index.addSigningKey(view.id, sampleKey("main-2", NOW + 5));
    const names = async (): Promise<string[]> =>
      (await index.listSigningKeys(view.id)).map(({ name }) => name);
    expect(await names()).toEqual(["main-1", "main-2"]);
    const taken = index.addSigningKey(view.id, sampleKey("main-1", NOW + 9));
    await expect(taken).rejects.toMatchObject({ code: "CONFLICT", message: /main-1/ });

    expect(await index.removeSigningKey(view.id, "main-1")).toBe(true);
    expect(await index.removeSigningKey(view.id, "main-1")).toBe(false);
    expect(await names()).toEqual(["main-2"]);
    expect(await index.listSigningKeys(other.id)).toEqual([sampleKey("other-1")]);
  });

  test("the last key stays, whatever is tried", async () => {
    await using index = await open();
    const view = await addView(index);
    const removed = index.removeSigningKey(view.id, "main-1");
    await expect(removed).rejects.toMatchObject({ code: "CONFLICT", message: /main-1/ });
    expect(await index.listSigningKeys(view.id)).toEqual([sampleKey("main-1")]);
    expect(await index.signingKeyGeneration(view.id)).toBe(0);
  });

  test("every change of the keys, and nothing else, makes what was signed before outdated", async () => {
    await using index = await open();
    const view = await addView(index);
    const other = await addView(index, "other");
    await push(index, view.id, "a", "b", "c");
    await push(index, other.id, "a");
    expect(await index.countOutdatedPaths(view.id)).toBe(0);

    const changes = [
      () => index.addSigningKey(view.id, sampleKey("main-2")),
      () => index.removeSigningKey(view.id, "main-1"),
      () => index.replaceSigningKeys(view.id, sampleKey("main-3")),
    ];
    for (const change of changes) {
      const before = await index.signingKeyGeneration(view.id);
      await change();
      const keyGeneration = await index.signingKeyGeneration(view.id);
      expect(keyGeneration).toBeGreaterThan(before);
      expect(await index.countOutdatedPaths(view.id)).toBe(3);
      const some = await index.listOutdatedPaths(view.id, 2);
      expect(some).toHaveLength(2);
      await index.replaceNarInfos(
        view.id,
        some.map(({ storePathHash, narInfo }) => ({
          storePathHash,
          replaces: narInfo,
          narInfo: `signed ${keyGeneration}`,
          keyGeneration,
        })),
      );
      const [last] = await index.listOutdatedPaths(view.id, 10);
      expect(some.map((path) => path.storePathHash)).not.toContain(last?.storePathHash);
      expect(await index.countOutdatedPaths(view.id)).toBe(1);
      await hold(index, view.id, "a", "b", "c");
      await index.commitPaths(
        view.id,
        ["a", "b", "c"].map((seed) => samplePath(seed, { keyGeneration })),
      );
      expect(await index.listOutdatedPaths(view.id, 10)).toEqual([]);
    }

    await index.updateView("main", { priority: 1 });
    await index.removeSigningKey(view.id, "absent");
    expect(await index.countOutdatedPaths(view.id)).toBe(0);
    expect(await index.countOutdatedPaths(other.id)).toBe(0);
  });

  test("statistics count what a view sent and what it holds, whoever shares it", async () => {
    await using index = await open();
    const view = await addView(index);
    const other = await addView(index, "other");
    await push(index, view.id, "a", "bb");
    await push(index, other.id, "a");
    await hold(index, view.id, "pending");
    await index.addCounts(view.id, { uploads: 2, uploadedNarBytes: 500 });
    await index.addCounts(view.id, { uploads: 1, conflicts: 1 });

    const [a, bb, pending] = ["a", "bb", "pending"].map((seed) => sampleObject(seed));
    expect(await index.viewStats(view.id)).toEqual({
      paths: 2,
      nars: 3,
      narBytes: (a?.narSize ?? 0) + (bb?.narSize ?? 0) + (pending?.narSize ?? 0),
      fileBytes: (a?.fileSize ?? 0) + (bb?.fileSize ?? 0) + (pending?.fileSize ?? 0),
      uploads: 3,
      uploadedNarBytes: 500,
      conflicts: 1,
    });
    expect(await index.viewStats(other.id)).toMatchObject({ paths: 1, nars: 1, uploads: 0 });
  });

  test("an overlay says what it lies over, whose it is and when it was last written to", async () => {
    await using index = await open();
    const base = await addView(index);
    const overlay = await index.createView(
      sampleView("main_pr-1", { overlayOf: base.id, overlayKey: "theirs", createdAtMs: NOW }),
      sampleKey("main_pr-1-1"),
    );
    const found = { overlayOf: base.id, overlayKey: "theirs", writtenAtMs: NOW };
    expect(overlay).toMatchObject(found);
    expect(await index.findView("main")).not.toHaveProperty("overlayOf");

    await index.touchOverlay(overlay.id, NOW + 9);
    await index.touchOverlay(overlay.id, NOW + 5);
    await index.touchOverlay(base.id, NOW + 9);
    expect(await index.findView("main_pr-1")).toMatchObject({ ...found, writtenAtMs: NOW + 9 });
    expect(await index.findView("main")).toEqual(base);
    await expect(
      index.createView(sampleView("gone_pr-1", { overlayOf: 4711 }), sampleKey("gone-1")),
    ).rejects.toMatchObject({ code: "NOT_FOUND" });
  });

  test("what a tenant's overlays hold is counted apart from what its views hold", async () => {
    await using index = await open();
    const none = { views: 0, holders: 0, bytes: 0 };
    for (const [baseName, seeds] of [
      ["main", ["a", "b"]],
      ["acme+main", ["a"]],
      ["acme+ci", ["b"]],
    ] as const) {
      const base = await addView(index, baseName);
      await push(index, base.id, "base");
      const name = `${baseName}_pr-1`;
      const overlay = await index.createView(
        sampleView(name, { overlayOf: base.id }),
        sampleKey(`${name}-1`),
      );
      await push(index, overlay.id, ...seeds);
    }
    const [a, b, base] = ["a", "b", "base"].map((seed) => sampleObject(seed).fileSize);
    const both = { views: 1, holders: 1, bytes: (a ?? 0) + (b ?? 0) };
    const own = { views: 1, holders: 1, bytes: base ?? 0 };

    expect(await index.tenantUsage(undefined)).toEqual({ own, overlays: both });
    expect(await index.tenantUsage("acme")).toEqual({
      own: { views: 2, holders: 2, bytes: 2 * own.bytes },
      overlays: { ...both, views: 2, holders: 2 },
    });
    expect(await index.tenantUsage("globex")).toEqual({ own: none, overlays: none });
    await addView(index, "empty");
    await index.deleteView("main_pr-1");
    expect(await index.tenantUsage(undefined)).toEqual({
      own: { ...own, views: 2 },
      overlays: none,
    });
  });

  test("documents and files as they were uploaded count among a view's bytes, for as long as they are there", async () => {
    await using index = await open();
    const view = await addView(index);
    await push(index, view.id, "a");
    const narBytes = sampleObject("a").fileSize;
    expect(await index.viewBytes(view.id)).toBe(narBytes);
    const document = {
      kind: "log",
      name: "x.drv",
      body: Buffer.alloc(500),
      createdAtMs: NOW,
    } as const;
    await index.putDocument(view.id, document);
    await index.putDocument(view.id, { ...document, body: Buffer.alloc(900) });
    expect(await index.viewBytes(view.id)).toBe(narBytes + 500);
    const asItCame = { ...sampleObject("a", "as it came"), compression: "xz" } as const;
    await index.reserveObject(asItCame, NOW);
    const file = { viewId: view.id, ...asItCame, expiresAtMs: NOW + 10 };
    await index.addUploadedFile(file);
    await index.addUploadedFile({ ...file, expiresAtMs: NOW + 20 });
    // The very object that the view serves takes no more room.
    await index.addUploadedFile({ ...file, ...sampleObject("a"), expiresAtMs: NOW + 20 });
    expect(await index.viewBytes(view.id)).toBe(narBytes + 500 + asItCame.fileSize);
    expect((await index.tenantUsage(undefined)).own.bytes).toBe(await index.viewBytes(view.id));
    await index.expire(NOW + 20, 10);
    expect(await index.viewBytes(view.id)).toBe(narBytes + 500);
    expect(await index.checkConsistency()).toEqual([]);
  });

  test("a view takes its overlays with it", async () => {
    await using index = await open();
    const base = await addView(index);
    const other = await addView(index, "other");
    for (const [name, overlayOf] of [
      ["main_pr-1", base.id],
      ["main_pr-2", base.id],
      ["other_pr-1", other.id],
    ] as const) {
      await index.createView(sampleView(name, { overlayOf }), sampleKey(`${name}-1`));
    }

    expect(await index.deleteView("main_pr-2")).toBe(true);
    expect(await index.findView("main")).toBeDefined();
    expect(await index.deleteView("main")).toBe(true);
    expect((await index.listViews()).map(({ name }) => name)).toEqual(["other", "other_pr-1"]);
    while ((await index.purgeDeletedViews(10)) > 0);
    expect(await index.checkConsistency()).toEqual([]);
  });
}
