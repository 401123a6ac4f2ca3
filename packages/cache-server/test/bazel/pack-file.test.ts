import { mkdtemp, readdir, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import fc from "fast-check";
import { expect, test } from "vitest";

import { PackFile, PackWriter } from "../../src/bazel/store/pack-file.ts";

interface Folder extends AsyncDisposable {
  readonly path: string;
}

async function makeFolder(): Promise<Folder> {
  const path = await mkdtemp(join(tmpdir(), "pack-file-"));
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
}

async function writePack(
  folder: string,
  objects: readonly { readonly id: number; readonly data: Uint8Array }[],
): Promise<string> {
  await using writer = await PackWriter.create(join(folder, "new.tmp"));
  for (let at = 0; at < objects.length; at += 5) await writer.add(objects.slice(at, at + 5));
  const path = join(folder, "pack");
  await writer.finish(path, "full");
  return path;
}

const objectsOf = fc
  .uniqueArray(fc.record({ id: fc.integer({ min: 1, max: 2 ** 32 - 1 }), data: fc.uint8Array() }), {
    selector: ({ id }) => id,
    maxLength: 60,
  })
  .map((objects) => objects.toSorted((one, other) => one.id - other.id));

test("a pack gives of every id what was put there, with its table in memory or without", async () => {
  await using folder = await makeFolder();
  await fc.assert(
    fc.asyncProperty(objectsOf, fc.array(fc.nat(2 ** 32 - 1)), async (objects, others) => {
      using pack = PackFile.open(await writePack(folder.path, objects));
      const byId = new Map(objects.map(({ id, data }) => [id, data]));
      expect(pack.count).toBe(objects.length);
      for (const isForgotten of [false, true]) {
        if (isForgotten) pack.forgetTable();
        for (const id of [0, ...byId.keys(), ...others]) {
          const place = pack.find(id);
          const data = byId.get(id);
          expect(place === undefined).toBe(data === undefined);
          if (place === undefined || data === undefined) continue;
          const bytes = Buffer.alloc(place.end - place.start);
          expect(pack.readInto(bytes, place)).toBe(true);
          expect(Buffer.compare(bytes, data)).toBe(0);
        }
      }
    }),
    { numRuns: 60 },
  );
});

test("a pack that was cut or changed where its table is, is none", async () => {
  await using folder = await makeFolder();
  const objects = Array.from({ length: 9 }, (_, at) => ({
    id: at + 1,
    data: Buffer.alloc(at, at),
  }));
  const path = await writePack(folder.path, objects);
  const whole = await readFile(path);
  const dataBytes = 36;
  for (let length = 0; length < whole.length; length += 7) {
    await writeFile(path, whole);
    await truncate(path, length);
    expect(() => PackFile.open(path)).toThrow(expect.objectContaining({ code: "CORRUPT" }));
  }
  for (let at = dataBytes; at < whole.length; at += 1) {
    const changed = Buffer.from(whole);
    changed[at] = (changed[at] ?? 0) ^ 4;
    await writeFile(path, changed);
    expect(() => PackFile.open(path)).toThrow(expect.objectContaining({ code: "CORRUPT" }));
  }
});

test("a pack that is not finished leaves nothing", async () => {
  await using folder = await makeFolder();
  {
    await using writer = await PackWriter.create(join(folder.path, "new.tmp"));
    await writer.add([{ id: 1, data: Buffer.from("bytes") }]);
  }
  expect(await readdir(folder.path)).toEqual([]);
});
