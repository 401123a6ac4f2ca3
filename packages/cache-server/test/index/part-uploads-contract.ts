import { expect, test } from "vitest";

import type { PartUploadRecord } from "../../src/index/part-upload-index.ts";
import { sampleObject, sha256Of } from "./index-samples.ts";
import { type OpenIndex, addView, NOW } from "./index-setup.ts";

function uploadOf(
  viewId: number,
  id: string,
  changes: Partial<PartUploadRecord> = {},
): PartUploadRecord {
  const { narHash, narSize } = sampleObject("large");
  const times = { createdAtMs: NOW, expiresAtMs: NOW + 100 };
  return { id, viewId, narHash, narSize, partBytes: 64 * 2 ** 20, ...times, ...changes };
}

const part = (number: number, seed = "bytes") => {
  return { number, sizeBytes: 5, sha256: sha256Of(seed) };
};

export function describePartUploads(open: OpenIndex): void {
  test("an upload is found in its view, by its id and by its NAR", async () => {
    await using index = await open();
    const view = await addView(index);
    const other = await addView(index, "other");
    const upload = uploadOf(view.id, "u");
    await index.createUpload(upload);
    const { narHash, partBytes } = upload;
    const wanted = { narHash, partBytes, nowMs: NOW };

    expect(await index.findUpload(view.id, "u")).toEqual(upload);
    expect(await index.findUploadOfNar(view.id, wanted)).toEqual(upload);
    expect(await index.findUpload(other.id, "u")).toBeUndefined();
    expect(await index.findUploadOfNar(other.id, wanted)).toBeUndefined();
    expect(await index.findUploadOfNar(view.id, { ...wanted, partBytes: 1 })).toBeUndefined();
    const { narHash: another } = sampleObject("another");
    expect(await index.findUploadOfNar(view.id, { ...wanted, narHash: another })).toBeUndefined();
    await expect(index.createUpload(upload)).rejects.toMatchObject({ code: "CONFLICT" });
  });

  test("a view has no more uploads, and of no more bytes, than its limits allow", async () => {
    await using index = await open();
    const view = await addView(index);
    const other = await addView(index, "other");
    const limits = { maxUploads: 2, maxNarBytes: 100 };
    const create = (id: string, narSize: number, viewId = view.id): Promise<void> =>
      index.createUpload(uploadOf(viewId, id, { narSize }), limits);
    await create("a", 60);

    await expect(create("b", 41)).rejects.toMatchObject({ code: "CONFLICT" });
    await create("b", 40);
    await expect(create("c", 0)).rejects.toMatchObject({ code: "CONFLICT" });
    await create("of another view", 100, other.id);
    await index.deleteUpload("a");
    await create("c", 60);
  });

  test("of several uploads of a NAR the newest that lives is found", async () => {
    await using index = await open();
    const view = await addView(index);
    const { narHash, partBytes } = uploadOf(view.id, "");
    await index.createUpload(uploadOf(view.id, "second", { createdAtMs: NOW + 2 }));
    await index.createUpload(uploadOf(view.id, "first", { createdAtMs: NOW + 1 }));
    await index.createUpload(
      uploadOf(view.id, "third", { createdAtMs: NOW + 3, expiresAtMs: NOW + 10 }),
    );
    const find = async (nowMs: number): Promise<string | undefined> =>
      (await index.findUploadOfNar(view.id, { narHash, partBytes, nowMs }))?.id;

    expect(await find(NOW + 9)).toBe("third");
    expect(await find(NOW + 10)).toBe("second");
    expect(await find(NOW + 100)).toBeUndefined();
  });

  test("parts come in any order, twice when they are the same, and never as others", async () => {
    await using index = await open();
    const view = await addView(index);
    await index.createUpload(uploadOf(view.id, "u"));

    for (const number of [2, 0, 2, 1]) await index.addUploadPart("u", part(number));

    const conflict = { code: "CONFLICT", message: expect.stringContaining("2") };
    await expect(index.addUploadPart("u", part(2, "others"))).rejects.toMatchObject(conflict);
    await expect(index.addUploadPart("u", { ...part(2), sizeBytes: 6 })).rejects.toMatchObject(
      conflict,
    );
    expect(await index.listUploadParts("u")).toEqual([part(0), part(1), part(2)]);
    await expect(index.addUploadPart("absent", part(0))).rejects.toMatchObject({
      code: "NOT_FOUND",
    });
    expect(await index.listUploadParts("absent")).toEqual([]);
  });

  test("an upload's life is extended, never shortened, and ends when it is deleted", async () => {
    await using index = await open();
    const view = await addView(index);
    await index.createUpload(uploadOf(view.id, "late", { expiresAtMs: NOW + 9 }));
    await index.createUpload(uploadOf(view.id, "early", { expiresAtMs: NOW + 5 }));
    await index.addUploadPart("late", part(0));
    const expired = async (nowMs: number, limit = 10): Promise<string[]> =>
      (await index.listExpiredUploads(nowMs, limit)).map(({ id }) => id);

    expect(await expired(NOW + 4)).toEqual([]);
    expect(await expired(NOW + 9)).toEqual(["early", "late"]);
    expect(await expired(NOW + 9, 1)).toEqual(["early"]);
    expect(await index.extendUpload("late", NOW + 20)).toBe(true);
    expect(await index.extendUpload("late", NOW + 1)).toBe(true);
    expect(await index.extendUpload("absent", NOW + 1)).toBe(false);
    expect(await expired(NOW + 19)).toEqual(["early"]);

    expect(await index.deleteUpload("late")).toBe(true);
    expect(await index.deleteUpload("late")).toBe(false);
    expect(await index.findUpload(view.id, "late")).toBeUndefined();
    expect(await index.listUploadParts("late")).toEqual([]);
  });

  test("an upload into a deleted view is there only to be cleaned up, and first of all", async () => {
    await using index = await open();
    const view = await addView(index);
    const other = await addView(index, "other");
    const upload = uploadOf(view.id, "u", { expiresAtMs: NOW + 1_000_000 });
    await index.createUpload(upload);
    await index.createUpload(uploadOf(other.id, "v", { expiresAtMs: NOW }));
    await index.addUploadPart("u", part(0));
    await index.deleteView("main");
    const { narHash, partBytes } = upload;

    expect(await index.findUpload(view.id, "u")).toBeUndefined();
    const wanted = { narHash, partBytes, nowMs: -1 };
    expect(await index.findUploadOfNar(view.id, wanted)).toBeUndefined();
    expect(await index.extendUpload("u", NOW + 9)).toBe(false);
    const gone = { code: "NOT_FOUND" };
    await expect(index.addUploadPart("u", part(1))).rejects.toMatchObject(gone);
    await expect(index.createUpload(uploadOf(view.id, "w"))).rejects.toMatchObject(gone);
    const expired = await index.listExpiredUploads(NOW, 10);
    expect(expired.map(({ id }) => id)).toEqual(["u", "v"]);
    expect(await index.listUploadParts("u")).toEqual([part(0)]);
    expect(await index.deleteUpload("u")).toBe(true);
    expect(await index.listUploadParts("u")).toEqual([]);
  });
}
