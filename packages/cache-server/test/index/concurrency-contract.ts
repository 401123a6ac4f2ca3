import { expect, test } from "vitest";

import type { NewPath, ViewRecord } from "../../src/index/cache-index.ts";
import {
  sampleKey,
  sampleObject,
  samplePath,
  sampleView,
  sha256Of,
  storePathHashOf,
} from "./index-samples.ts";
import { type OpenIndex, addView, hold, NOW } from "./index-setup.ts";

export function describeConcurrency(open: OpenIndex): void {
  test("of many commits of one path one creates it, and none of their signatures is lost", async () => {
    await using index = await open();
    const view = await addView(index);
    await hold(index, view.id, "a");

    const results = await Promise.all(
      Array.from({ length: 12 }, (_, at) =>
        index.commitPaths(view.id, [samplePath("a", { signatures: [`k${at}:s`] })]),
      ),
    );

    const created = results.filter((result) => result.kind === "committed" && result.created[0]);
    expect(created).toHaveLength(1);
    const path = await index.findPath([view.id], storePathHashOf("a"));
    expect(path?.signatures).toHaveLength(12);
  });

  test("a failing write leaves those beside it alone", async () => {
    await using index = await open();
    const [first, second, unreserved, third, absent] = await Promise.allSettled([
      index.createView(sampleView("a"), sampleKey("a")),
      index.createView(sampleView("a"), sampleKey("a")),
      index.addUploadedFile({
        viewId: 1,
        fileHash: sha256Of("never reserved"),
        compression: "xz",
        narHash: sha256Of("nar"),
        narSize: 1,
        expiresAtMs: NOW,
      }),
      index.createView(sampleView("b"), sampleKey("b")),
      index.addCounts(1_000_000, { uploads: 1 }),
    ]);

    expect([first, second].map(({ status }) => status).sort()).toEqual(["fulfilled", "rejected"]);
    expect([unreserved.status, third.status, absent.status]).toEqual([
      "rejected",
      "fulfilled",
      "rejected",
    ]);
    expect((await index.listViews()).map(({ name }) => name)).toEqual(["a", "b"]);
  });

  test("a write that fails half-way leaves nothing, whatever is written beside it", async () => {
    await using index = await open();
    const view = await addView(index);
    await hold(index, view.id, "a", "b");
    const malformed = { ...samplePath("b"), storePathHash: "short" };

    const [broken, beside] = await Promise.allSettled([
      index.commitPaths(view.id, [samplePath("a"), malformed]),
      index.commitPaths(view.id, [samplePath("b")]),
    ]);

    expect([broken.status, beside.status]).toEqual(["rejected", "fulfilled"]);
    const asked = ["a", "b"].map(storePathHashOf);
    expect(await index.findMissingPaths(view.id, asked)).toEqual([storePathHashOf("a")]);
    expect(await index.viewStats(view.id)).toMatchObject({ paths: 1 });
  });

  test("many interleaved pushes into two views add up", { timeout: 120_000 }, async () => {
    await using index = await open();
    const views = [await addView(index, "one"), await addView(index, "two")];
    const seeds = Array.from({ length: 40 }, (_, at) => `p${at}`);
    const client = async (view: ViewRecord, start: number): Promise<void> => {
      for (const [at] of seeds.entries()) {
        const seed = seeds[(at * 7 + start * 3) % seeds.length] ?? "";
        const before = seeds[(at * 7 + start * 3 + 1) % seeds.length] ?? "";
        await hold(index, view.id, seed, before);
        const closure: NewPath[] = [
          samplePath(seed, { requiredReferences: [storePathHashOf(before)] }),
          samplePath(before),
        ];
        expect(await index.commitPaths(view.id, closure)).toMatchObject({
          kind: "committed",
          conflicts: [],
        });
        // What has been acknowledged can be read at once.
        expect(await index.findPath([view.id], storePathHashOf(seed))).toBeDefined();
        await index.addCounts(view.id, { uploads: 1 });
      }
    };
    const sweeper = async (): Promise<void> => {
      for (let round = 0; round < 20; round += 1) {
        await index.expire(NOW, 100);
        expect(await index.claimUnreferencedObjects(NOW, 100)).toEqual([]);
      }
    };

    await Promise.all([
      ...views.flatMap((view) => [0, 1, 2].map((start) => client(view, start))),
      sweeper(),
    ]);

    for (const view of views) {
      expect(await index.viewStats(view.id)).toMatchObject({
        paths: seeds.length,
        nars: seeds.length,
        uploads: 3 * seeds.length,
      });
      expect(await index.findMissingPaths(view.id, seeds.map(storePathHashOf))).toEqual([]);
    }
  });

  test("of a sweep and an upload of one object exactly one gets it", async () => {
    await using index = await open();
    const view = await addView(index);
    const outcomes = new Set<string>();
    for (let round = 0; round < 60; round += 1) {
      const object = sampleObject(`r${round}`);
      const { narHash, fileHash } = object;
      await index.reserveObject(object, NOW - 10);
      const upload = async (): Promise<string> => {
        if ((await index.reserveObject(object, NOW)) === "busy") return "swept";
        await index.holdNar({ viewId: view.id, narHash, fileHash, expiresAtMs: NOW + 10 });
        return "held";
      };
      const sweep = (): Promise<string[]> => index.claimUnreferencedObjects(NOW, 10);
      const [uploaded, claimed] =
        round % 2 === 0
          ? await Promise.all([upload(), sweep()])
          : (await Promise.all([sweep(), upload()])).toReversed();
      outcomes.add(String(uploaded));
      expect(claimed).toEqual(uploaded === "held" ? [] : [fileHash]);
      await index.removeClaimedObjects([fileHash]);
    }
    expect([...outcomes].every((outcome) => outcome === "held" || outcome === "swept")).toBe(true);
  });
}
