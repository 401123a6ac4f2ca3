import { expect, test } from "vitest";

import { sampleObject, storePathHashOf } from "./index-samples.ts";
import { type OpenIndex, addView, NOW, push } from "./index-setup.ts";

export function describeRecords(open: OpenIndex): void {
  test("when a name was last seen only moves forward", async () => {
    await using index = await open();
    expect(await index.nameSeenAtMs("acme")).toBeUndefined();
    await index.noteName("acme", NOW + 5);
    await index.noteName("acme", NOW);
    await index.noteName("globex", NOW);
    expect(await index.nameSeenAtMs("acme")).toBe(NOW + 5);
    expect(await index.nameSeenAtMs("globex")).toBe(NOW);
  });

  test("the first document under a name stays, for each view, kind and name", async () => {
    await using index = await open();
    const view = await addView(index);
    const other = await addView(index, "other");
    const body = Buffer.from([0, 255, 10]);
    const document = { kind: "log", name: "x.drv", body, createdAtMs: NOW } as const;

    expect(await index.putDocument(view.id, document)).toBe(true);
    expect(await index.putDocument(view.id, { ...document, body: Buffer.of(1) })).toBe(false);
    expect(await index.putDocument(view.id, { ...document, kind: "debuginfo" })).toBe(true);
    expect(await index.putDocument(other.id, { ...document, body: Buffer.of(2) })).toBe(true);

    const found = await index.findDocument([view.id, other.id], "log", "x.drv");
    expect(Buffer.from(found ?? [])).toEqual(body);
    expect(await index.findDocument([other.id], "debuginfo", "x.drv")).toBeUndefined();
    expect(await index.findDocument([view.id], "log", "y.drv")).toBeUndefined();
  });

  test("a listing lives exactly as long as its view holds the NAR", async () => {
    await using index = await open();
    const view = await addView(index);
    const other = await addView(index, "other");
    await push(index, view.id, "a");
    const { narHash } = sampleObject("a");
    const listing = {
      kind: "listing",
      name: narHash,
      body: Buffer.of(1),
      createdAtMs: NOW,
    } as const;

    expect(await index.putDocument(other.id, listing)).toBe(false);
    expect(await index.putDocument(view.id, listing)).toBe(true);
    await index.putDocument(view.id, { ...listing, kind: "log" });
    await index.deletePath(view.id, storePathHashOf("a"), NOW);
    expect(await index.findDocument([view.id, other.id], "listing", narHash)).toBeDefined();
    await index.expire(NOW, 10);

    expect(await index.findDocument([view.id, other.id], "listing", narHash)).toBeUndefined();
    expect(await index.findDocument([view.id], "log", narHash)).toBeDefined();
    expect(await index.putDocument(view.id, listing)).toBe(false);
  });

  test("a revoked token stays revoked until the later of its entries may be forgotten", async () => {
    await using index = await open();
    await index.revokeToken("short", NOW + 1);
    await index.revokeToken("extended", NOW + 1);
    await index.revokeToken("extended", NOW + 9);
    await index.revokeToken("forever", NOW + 1);
    await index.revokeToken("forever", undefined);
    await index.revokeToken("forever", NOW + 1);

    expect(await index.isTokenRevoked("unknown")).toBe(false);
    expect(await index.isTokenRevoked("short")).toBe(true);
    expect(await index.expire(NOW + 1, 10)).toMatchObject({ revocations: 1 });
    expect(await index.isTokenRevoked("short")).toBe(false);
    expect(await index.isTokenRevoked("extended")).toBe(true);
    expect(await index.expire(NOW + 100, 10)).toMatchObject({ revocations: 1 });
    expect(await index.isTokenRevoked("forever")).toBe(true);
  });

  test("expiry forgets at most so many of each kind, the longest expired first", async () => {
    await using index = await open();
    const view = await addView(index);
    for (const [at, seed] of ["a", "b", "c"].entries()) {
      const { fileSize: _, ...facts } = sampleObject(seed);
      const expiresAtMs = NOW + at;
      await index.reserveObject(sampleObject(seed), NOW);
      await index.holdNar({ ...facts, viewId: view.id, expiresAtMs });
      await index.addUploadedFile({ ...facts, viewId: view.id, expiresAtMs });
      await index.revokeToken(seed, expiresAtMs);
    }

    const two = { holdings: 2, uploadedFiles: 2, revocations: 2 };
    expect(await index.expire(NOW + 2, 2)).toEqual(two);
    expect(await index.findHolding(view.id, sampleObject("c").narHash)).toBeDefined();
    expect(await index.findUploadedFile(view.id, sampleObject("c").fileHash, "zstd")).toBeDefined();
    expect(await index.expire(NOW + 1, 2)).toEqual({
      holdings: 0,
      uploadedFiles: 0,
      revocations: 0,
    });
    expect(await index.expire(NOW + 2, 2)).toEqual({
      holdings: 1,
      uploadedFiles: 1,
      revocations: 1,
    });
    expect(await index.viewStats(view.id)).toMatchObject({ nars: 0, narBytes: 0, fileBytes: 0 });
  });

  test("a ping succeeds while the index works, and a closed index says so", async () => {
    const index = await open();
    await index.ping();
    await index.ping();
    await index[Symbol.asyncDispose]();
    await index[Symbol.asyncDispose]();

    const gone = { code: "UNAVAILABLE" };
    await expect(index.ping()).rejects.toMatchObject(gone);
    await expect(index.findView("main")).rejects.toMatchObject(gone);
    await expect(index.revokeToken("x", undefined)).rejects.toMatchObject(gone);
  });

  test("what was asked for before closing is still done", async () => {
    const index = await open();
    const view = addView(index);
    await index[Symbol.asyncDispose]();
    expect(await view).toMatchObject({ name: "main" });
  });
}
