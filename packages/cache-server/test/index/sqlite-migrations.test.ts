import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { gunzipSync } from "node:zlib";

import { silentLogger } from "@glorious/core";
import { expect, test } from "vitest";

import type { CollectResult } from "../../src/index/housekeeping-index.ts";
import { migrate } from "../../src/index/migrations.ts";
import { openSqliteIndex } from "../../src/index/sqlite-index.ts";
import { sampleKey, samplePath, sampleView, storePathHashOf } from "./index-samples.ts";
import { addView, NOW, push } from "./index-setup.ts";
import { makeDirectory } from "./temporary-directory.ts";

const FIRST = "CREATE TABLE a (x INTEGER); INSERT INTO a VALUES (1)";
const SECOND = "CREATE TABLE b (x INTEGER); INSERT INTO b SELECT x + 1 FROM a";

function versionOf(database: DatabaseSync): unknown {
  return database.prepare("PRAGMA user_version").get()?.["user_version"];
}

test("steps are taken in order, each once, whatever the version to begin with", () => {
  const database = new DatabaseSync(":memory:");
  expect(migrate(database, "f", { migrations: [FIRST] })).toBe(1);
  expect(migrate(database, "f", { migrations: [FIRST, SECOND] })).toBe(2);
  expect(migrate(database, "f", { migrations: [FIRST, SECOND] })).toBe(2);
  expect(database.prepare("SELECT a.x AS a, b.x AS b FROM a, b").all()).toEqual([{ a: 1, b: 2 }]);
});

test("an index that is new is not worth a line, and an older one is worth one", () => {
  const lines: unknown[] = [];
  const logger = { ...silentLogger, info: (...line: unknown[]) => void lines.push(line) };
  const database = new DatabaseSync(":memory:");
  migrate(database, "f", { migrations: [FIRST], logger });
  migrate(database, "f", { migrations: [FIRST], logger });
  expect(lines).toEqual([]);
  const third = "CREATE TABLE c (x INTEGER)";
  migrate(database, "f", { migrations: [FIRST, SECOND, third], logger });
  expect(lines).toEqual([["The index has a new schema", { file: "f", from: 1, to: 3 }]]);
});

test("a failing step leaves the schema at the last good one", () => {
  const database = new DatabaseSync(":memory:");
  const bad = "CREATE TABLE b (x INTEGER); INSERT INTO absent VALUES (1)";
  expect(() => migrate(database, "f", { migrations: [FIRST, bad] })).toThrow(/absent/);
  expect(versionOf(database)).toBe(1);
  expect(migrate(database, "f", { migrations: [FIRST, SECOND] })).toBe(2);
});

test("an index with a newer schema is refused, naming both versions, and left as it is", async () => {
  await using directory = await makeDirectory();
  const file = join(directory.path, "index.sqlite");
  await (await openSqliteIndex({ file }))[Symbol.asyncDispose]();
  const database = new DatabaseSync(file);
  const current = Number(versionOf(database));
  database.exec("PRAGMA user_version = 4711");

  await expect(openSqliteIndex({ file })).rejects.toMatchObject({
    code: "CONFIG",
    message: expect.stringMatching(new RegExp(`${file}.*\\b4711\\b.*\\b${current}\\b`)),
  });
  expect(versionOf(database)).toBe(4711);
  database.close();
});

test("another program's database is refused and not written to", async () => {
  await using directory = await makeDirectory();
  const file = join(directory.path, "theirs.sqlite");
  const database = new DatabaseSync(file);
  database.exec("CREATE TABLE theirs (x INTEGER)");

  await expect(openSqliteIndex({ file })).rejects.toMatchObject({
    code: "CONFIG",
    message: expect.stringContaining(file),
  });
  expect(database.prepare("SELECT name FROM sqlite_schema").all()).toEqual([{ name: "theirs" }]);
  database.close();
});

test("a reopened index knows what it knew", async () => {
  await using directory = await makeDirectory();
  const file = join(directory.path, "index.sqlite");
  const first = await openSqliteIndex({ file });
  const view = await addView(first);
  await push(first, view.id, "a", "b");
  const paths = await first.listPaths(view.id, { limit: 10 });
  await first[Symbol.asyncDispose]();

  await using second = await openSqliteIndex({ file });
  expect(await second.findView("main")).toEqual(view);
  expect(await second.listPaths(view.id, { limit: 10 })).toEqual(paths);
});

test("a version 1 index keeps what it knew, and signs anew where a key had been replaced", async () => {
  await using directory = await makeDirectory();
  const file = join(directory.path, "index.sqlite");
  const packed = await readFile(new URL("../fixtures/rotated-v1.sqlite.gz", import.meta.url));
  await writeFile(file, gunzipSync(packed));

  await using index = await openSqliteIndex({ file });
  const plain = await index.findView("plain");
  const rotated = await index.findView("rotated");
  if (plain === undefined || rotated === undefined) throw new Error("The fixture has other views");
  const pathsOf = async (viewId: number): Promise<unknown> =>
    new Set(
      (await index.listPaths(viewId, { limit: 10 })).map(({ storePath, narInfo }) => ({
        storePath,
        narInfo,
      })),
    );
  const factsOf = (...seeds: string[]): unknown =>
    new Set(
      seeds
        .map((seed) => samplePath(seed))
        .map(({ storePath, narInfo }) => ({ storePath, narInfo })),
    );
  expect(await pathsOf(plain.id)).toEqual(factsOf("a", "b"));
  expect(await pathsOf(rotated.id)).toEqual(factsOf("a", "c"));
  expect(await index.listSigningKeys(plain.id)).toEqual([sampleKey("plain-1")]);
  expect(await index.countOutdatedPaths(plain.id)).toBe(0);
  expect(await index.countOutdatedPaths(rotated.id)).toBe(2);
  await index.addSigningKey(plain.id, sampleKey("plain-2"));
  expect(await index.countOutdatedPaths(plain.id)).toBe(2);
});

test("a version 1 index gets access times, references and what is lost from what it knew", async () => {
  await using directory = await makeDirectory();
  const file = join(directory.path, "index.sqlite");
  const packed = await readFile(new URL("../fixtures/housekept-v1.sqlite.gz", import.meta.url));
  await writeFile(file, gunzipSync(packed));

  await using index = await openSqliteIndex({ file });
  expect(await index.checkConsistency()).toEqual([]);
  const main = await index.findView("main");
  const other = await index.findView("other");
  if (main === undefined || other === undefined) throw new Error("The fixture has other views");
  expect(other).toEqual({ ...sampleView("other"), isPublic: true, retentionSeconds: 60, id: 2 });

  const seeds = ["glibc", "hello", "plain", "moved"];
  const graph = await index.listGraph(main.id, { limit: 10 });
  const times = new Map(graph.map((node) => [node.storePathHash, node.accessedAtMs]));
  expect(seeds.map((seed) => times.get(storePathHashOf(seed)))).toEqual(
    [1, 2, 3, 4].map((ms) => NOW + ms),
  );
  // Its narinfo names an object that the view had replaced.
  expect(await index.findPath([main.id], storePathHashOf("moved"))).toBeUndefined();
  expect(await index.findPath([main.id], storePathHashOf("glibc"))).toMatchObject({
    narInfo: "glibc's text",
    accessedAtMs: NOW + 1,
  });
  expect(await index.viewStats(main.id)).toMatchObject({ paths: 3, nars: 5, uploads: 5 });
  expect(await index.findDocument([main.id], "log", "hello.drv")).toBeDefined();
  expect(await index.findDocument([main.id], "listing", storePathHashOf("hello"))).toBeUndefined();
  expect(await index.isTokenRevoked("revoked")).toBe(true);

  const collect = (...wanted: string[]): Promise<CollectResult> =>
    index.collectPaths(
      main.id,
      wanted.map((seed) => {
        const storePathHash = storePathHashOf(seed);
        return { storePathHash, accessedAtMs: times.get(storePathHash) ?? 0 };
      }),
      NOW,
    );
  expect(await collect("glibc", "hello", "plain")).toEqual({
    deleted: [storePathHashOf("plain")],
    kept: [storePathHashOf("glibc"), storePathHashOf("hello")],
  });
  expect(await collect("moved", "hello", "glibc")).toMatchObject({ kept: [] });
  expect(await index.checkConsistency()).toEqual([]);
});
