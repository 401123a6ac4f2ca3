import { expect, test } from "vitest";

import { sampleObject, samplePath, sha256Of, storePathHashOf } from "./index-samples.ts";
import { type OpenIndex, addView, hold, push, NOW } from "./index-setup.ts";

export function describeObjects(open: OpenIndex): void {
  test("a new holding expires, a committed one does not, and a deleted path's does again", async () => {
    await using index = await open();
    const view = await addView(index);
    await hold(index, view.id, "a");
    const { narHash, fileHash } = sampleObject("a");
    expect(await index.findHolding(view.id, narHash)).toEqual({
      ...sampleObject("a"),
      expiresAtMs: NOW + 1000,
    });

    await index.commitPaths(view.id, [samplePath("a"), samplePath("twin", { narHash, fileHash })]);
    expect(await index.findHolding(view.id, narHash)).toMatchObject({ expiresAtMs: undefined });
    expect(await index.expire(NOW + 10_000, 10)).toMatchObject({ holdings: 0 });

    expect(await index.deletePath(view.id, storePathHashOf("a"), NOW + 5)).toBe(true);
    expect(await index.findHolding(view.id, narHash)).toMatchObject({ expiresAtMs: undefined });
    expect(await index.deletePath(view.id, storePathHashOf("twin"), NOW + 5)).toBe(true);
    expect(await index.findHolding(view.id, narHash)).toMatchObject({ expiresAtMs: NOW + 5 });
    expect(await index.deletePath(view.id, storePathHashOf("twin"), NOW + 5)).toBe(false);
  });

  test("a repeated holding takes the later expiry and keeps its object unless told to replace it", async () => {
    await using index = await open();
    const view = await addView(index);
    await hold(index, view.id, "a");
    const theirs = sampleObject("a", "theirs");
    await index.reserveObject(theirs, NOW);
    const again = { viewId: view.id, narHash: theirs.narHash, fileHash: theirs.fileHash };

    expect(await index.holdNar({ ...again, expiresAtMs: NOW + 1 })).toEqual({
      ...sampleObject("a"),
      expiresAtMs: NOW + 1000,
    });
    expect(await index.holdNar({ ...again, expiresAtMs: NOW + 2000 })).toEqual({
      ...sampleObject("a"),
      expiresAtMs: NOW + 2000,
    });
    await index.commitPaths(view.id, [samplePath("a")]);
    const replaced = await index.holdNar({ ...again, expiresAtMs: NOW + 1, replaceObject: true });
    expect(replaced).toEqual({ ...theirs, expiresAtMs: undefined });
  });

  test("a path committed anew moves to the replaced object, and the lost one is swept", async () => {
    await using index = await open();
    const view = await addView(index);
    await push(index, view.id, "a");
    const [ours, theirs] = [sampleObject("a"), sampleObject("a", "theirs")];
    await index.reserveObject(theirs, NOW);
    const { narHash, fileHash } = theirs;
    const replacement = { viewId: view.id, narHash, fileHash, expiresAtMs: NOW };
    await index.holdNar({ ...replacement, replaceObject: true });

    // The narinfo still names the old object, so that is not swept yet.
    expect(await index.claimUnreferencedObjects(NOW + 1, 10)).toEqual([]);
    expect(await index.findObject([view.id], ours.fileHash)).toMatchObject(ours);
    await index.commitPaths(view.id, [samplePath("a", { fileHash })]);

    const path = await index.findPath([view.id], storePathHashOf("a"));
    expect(path).toMatchObject({ fileHash, fileSize: theirs.fileSize });
    expect(await index.claimUnreferencedObjects(NOW + 1, 10)).toEqual([ours.fileHash]);
  });

  test("an object that a holding gave up for another is swept", async () => {
    await using index = await open();
    const view = await addView(index);
    await hold(index, view.id, "a");
    const { narHash, fileHash } = sampleObject("a", "theirs");
    await index.reserveObject(sampleObject("a", "theirs"), NOW);
    const holding = { viewId: view.id, narHash, fileHash, expiresAtMs: NOW };
    await index.holdNar({ ...holding, replaceObject: true });

    expect(await index.claimUnreferencedObjects(NOW + 1, 10)).toEqual([sampleObject("a").fileHash]);
  });

  test("what was not reserved cannot be held or recorded, and other facts than reserved are a programming error", async () => {
    await using index = await open();
    const view = await addView(index);
    const { narHash, fileHash, compression, narSize } = sampleObject("a");
    const at = { viewId: view.id, narHash, fileHash, expiresAtMs: NOW };
    const plain = { name: "Error" };
    const gone = { code: "UNAVAILABLE" };

    await expect(index.holdNar(at)).rejects.toMatchObject(gone);
    await expect(index.addUploadedFile({ ...at, compression, narSize })).rejects.toMatchObject(
      gone,
    );

    const xz = { ...sampleObject("a"), compression: "xz" } as const;
    await index.reserveObject(xz, NOW);
    await expect(index.holdNar(at)).rejects.toMatchObject(plain);
    await expect(index.addUploadedFile({ ...at, compression, narSize })).rejects.toMatchObject(
      plain,
    );
    await expect(index.holdNar({ ...at, fileHash: "XYZ" })).rejects.toMatchObject(plain);
  });

  test("an object reserved with other facts is a CONFLICT", async () => {
    await using index = await open();
    await index.reserveObject(sampleObject("a"), NOW);
    const other = { ...sampleObject("a"), narHash: sha256Of("another NAR") };

    await expect(index.reserveObject(other, NOW)).rejects.toMatchObject({ code: "CONFLICT" });
  });

  test("an object is found through the views that know it, never through others", async () => {
    await using index = await open();
    const view = await addView(index);
    const other = await addView(index, "other");
    await hold(index, view.id, "held");
    const file = { ...sampleObject("file"), compression: "xz" } as const;
    await index.reserveObject(file, NOW);
    const { fileSize: _, ...facts } = file;
    const uploaded = { ...facts, viewId: view.id, expiresAtMs: NOW + 9 };
    await index.addUploadedFile(uploaded);
    await index.reserveObject(sampleObject("reserved"), NOW);

    for (const object of [sampleObject("held"), file]) {
      expect(await index.findObject([other.id, view.id], object.fileHash)).toEqual({
        ...object,
        viewId: view.id,
      });
      expect(await index.findObject([other.id], object.fileHash)).toBeUndefined();
    }
    expect(await index.findObject([view.id], sampleObject("reserved").fileHash)).toBeUndefined();
    expect(await index.findUploadedFile(view.id, file.fileHash, "xz")).toEqual(uploaded);
    expect(await index.findUploadedFile(view.id, file.fileHash, "zstd")).toBeUndefined();
    expect(await index.findUploadedFile(other.id, file.fileHash, "xz")).toBeUndefined();
  });

  test("an object stays as long as any view holds it, names it or has it as an upload", async () => {
    await using index = await open();
    const view = await addView(index);
    const other = await addView(index, "other");
    await push(index, view.id, "a");
    await hold(index, other.id, "a");
    const { fileSize: _, ...facts } = sampleObject("a");
    await index.addUploadedFile({ ...facts, viewId: view.id, expiresAtMs: NOW + 3000 });
    const sweep = (): Promise<string[]> => index.claimUnreferencedObjects(NOW + 1, 10);

    await index.deletePath(view.id, storePathHashOf("a"), NOW + 2000);
    expect(await sweep()).toEqual([]);
    expect(await index.expire(NOW + 1000, 10)).toMatchObject({ holdings: 1, uploadedFiles: 0 });
    expect(await sweep()).toEqual([]);
    expect(await index.expire(NOW + 2000, 10)).toMatchObject({ holdings: 1, uploadedFiles: 0 });
    expect(await sweep()).toEqual([]);
    expect(await index.expire(NOW + 3000, 10)).toMatchObject({ holdings: 0, uploadedFiles: 1 });
    expect(await sweep()).toEqual([facts.fileHash]);
  });

  test("a repeated upload extends the file's life and never shortens it", async () => {
    await using index = await open();
    const view = await addView(index);
    const { fileSize: _, ...facts } = sampleObject("file");
    await index.reserveObject(sampleObject("file"), NOW);

    for (const [givenMs, keptMs] of [
      [50, 50],
      [90, 90],
      [70, 90],
    ] as const) {
      await index.addUploadedFile({ ...facts, viewId: view.id, expiresAtMs: NOW + givenMs });
      const file = await index.findUploadedFile(view.id, facts.fileHash, "zstd");
      expect(file?.expiresAtMs).toBe(NOW + keptMs);
    }
  });

  test("the sweep takes unreferenced objects that nobody reserved lately, and each until it is gone", async () => {
    await using index = await open();
    const view = await addView(index);
    await push(index, view.id, "used");
    for (const [seed, ageMs] of [
      ["oldest", 300],
      ["old", 200],
      ["young", 0],
      ["renewed", 300],
    ] as const) {
      await index.reserveObject(sampleObject(seed), NOW - ageMs);
    }
    await index.reserveObject(sampleObject("renewed"), NOW);
    const [oldest, old] = ["oldest", "old"].map((seed) => sampleObject(seed).fileHash);

    expect(await index.claimUnreferencedObjects(NOW - 100, 1)).toEqual([oldest]);
    const claimed = await index.claimUnreferencedObjects(NOW - 100, 1);
    expect(new Set(claimed)).toEqual(new Set([oldest, old]));
    await index.removeClaimedObjects([oldest ?? ""]);
    expect(await index.claimUnreferencedObjects(NOW - 100, 1)).toEqual([old]);
  });

  test("an object being deleted can be neither reserved nor held until its bytes are gone", async () => {
    await using index = await open();
    const view = await addView(index);
    const object = sampleObject("a");
    const { narHash, fileHash, compression, narSize } = object;
    const at = { viewId: view.id, narHash, fileHash, expiresAtMs: NOW };
    await index.reserveObject(object, NOW);
    await index.claimUnreferencedObjects(NOW + 1, 10);

    expect(await index.reserveObject(object, NOW)).toBe("busy");
    await expect(index.holdNar(at)).rejects.toMatchObject({ code: "UNAVAILABLE" });
    await expect(index.addUploadedFile({ ...at, compression, narSize })).rejects.toMatchObject({
      code: "UNAVAILABLE",
    });
    await index.removeClaimedObjects([fileHash]);

    expect(await index.reserveObject(object, NOW)).toBe("reserved");
    expect(await index.holdNar(at)).toMatchObject({ fileHash });
  });

  test("an object that was not claimed is not removed", async () => {
    await using index = await open();
    const view = await addView(index);
    await hold(index, view.id, "a");
    await index.removeClaimedObjects([sampleObject("a").fileHash, sha256Of("unknown")]);
    expect(await index.findHolding(view.id, sampleObject("a").narHash)).toBeDefined();
  });
}
