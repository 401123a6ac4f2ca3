import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";

import { silentLogger } from "@glorious/core";
import { expect, test } from "vitest";

import { migrate } from "../../src/index/migrations.ts";
import { createBatchRunner, type WriteOperation } from "../../src/index/sqlite-batch.ts";
import { openConnection } from "../../src/index/sqlite-connection.ts";
import {
  SqliteHousekeepingReads,
  SqliteHousekeepingWrites,
} from "../../src/index/sqlite-housekeeping.ts";
import { createWriters, INDEX_WRITERS } from "../../src/index/sqlite-index-writers.ts";
import { openSqliteIndex } from "../../src/index/sqlite-index.ts";
import {
  SqlitePartUploadReads,
  SqlitePartUploadWrites,
} from "../../src/index/sqlite-part-uploads.ts";
import { SqliteReads } from "../../src/index/sqlite-reads.ts";
import { SqliteUpstreamReads, SqliteUpstreamWrites } from "../../src/index/sqlite-upstreams.ts";
import { startThreadWriter } from "../../src/index/sqlite-writer.ts";
import { SqliteWrites } from "../../src/index/sqlite-writes.ts";
import { sampleKey, sampleView } from "./index-samples.ts";
import { makeDirectory } from "./temporary-directory.ts";

const createView = (name: string): WriteOperation => ({
  method: "createView",
  parameters: [sampleView(name), sampleKey(name)],
});
const ping: WriteOperation = { method: "ping", parameters: [] };

function openMemory(): DatabaseSync {
  const database = openConnection(":memory:", "off");
  migrate(database, ":memory:");
  return database;
}

test("a full disk is STORAGE_FULL for the whole batch, and space again lets it through", () => {
  const database = openMemory();
  const runBatch = createBatchRunner(database, "index", createWriters);
  const size = Number(database.prepare("PRAGMA page_count").get()?.["page_count"]);
  database.exec(`PRAGMA max_page_count = ${size}`);
  const big = { method: "revokeToken", parameters: ["x".repeat(100_000)] };
  const batch = [createView("main"), big] as const;

  const failure = { code: "STORAGE_FULL", hint: expect.stringContaining("space") };
  expect(runBatch(batch)).toMatchObject([
    { kind: "failed", failure },
    { kind: "failed", failure },
  ]);
  expect(new SqliteReads(database).listViews()).toEqual([]);

  database.exec("PRAGMA max_page_count = 1000000");
  expect(runBatch(batch)).toMatchObject([{ kind: "done" }, { kind: "done" }]);
});

test("a write that has no room on the disk and takes itself back leaves its neighbours alone", () => {
  const database = openMemory();
  const runBatch = createBatchRunner(database, "index", createWriters);
  const size = Number(database.prepare("PRAGMA page_count").get()?.["page_count"]);
  database.exec(`PRAGMA max_page_count = ${size}`);
  const log = { kind: "log", name: "big", body: Buffer.alloc(100_000), createdAtMs: 1 };

  // It has triggers, so SQLite can undo it without the transaction.
  expect(
    runBatch([createView("main"), { method: "putDocument", parameters: [1, log] }]),
  ).toMatchObject([{ kind: "done" }, { kind: "failed", failure: { code: "STORAGE_FULL" } }]);
  expect(new SqliteReads(database).listViews()).toMatchObject([{ name: "main" }]);
});

test("a failed commit fails every write of its batch and leaves nothing", () => {
  const database = openMemory();
  // A constraint that SQLite looks at only when the transaction ends.
  database.exec(`
    CREATE TABLE broken (id INTEGER REFERENCES views (id) DEFERRABLE INITIALLY DEFERRED);
    CREATE TRIGGER break AFTER UPDATE ON pings BEGIN INSERT INTO broken (id) VALUES (999); END;`);
  const runBatch = createBatchRunner(database, "index", createWriters);

  expect(runBatch([createView("main"), ping])).toMatchObject([
    { kind: "failed", failure: { message: expect.stringContaining("FOREIGN KEY") } },
    { kind: "failed" },
  ]);
  expect(new SqliteReads(database).listViews()).toEqual([]);
  expect(runBatch([createView("main")])).toMatchObject([{ kind: "done" }]);
});

test("a database that another process does not let go is UNAVAILABLE, and works again after that", async () => {
  await using directory = await makeDirectory();
  const file = join(directory.path, "index.sqlite");
  const database = openConnection(file, "off");
  migrate(database, file);
  database.exec("PRAGMA busy_timeout = 20");
  const runBatch = createBatchRunner(database, file, createWriters);
  const other = new DatabaseSync(file);
  other.exec("BEGIN IMMEDIATE");

  expect(runBatch([ping])).toMatchObject([
    { kind: "failed", failure: { code: "UNAVAILABLE", message: expect.stringContaining(file) } },
  ]);
  other.exec("COMMIT");
  other.close();
  expect(runBatch([ping])).toMatchObject([{ kind: "done" }]);
  database.close();
});

test("when the writer's thread ends, the writes that wait and all later ones are UNAVAILABLE", async () => {
  await using directory = await makeDirectory();
  const file = join(directory.path, "index.sqlite");
  migrate(openConnection(file, "off"), file);
  await using writer = await startThreadWriter(
    { file, synchronous: "off", writers: INDEX_WRITERS },
    silentLogger,
  );
  expect(await writer.runBatch([ping])).toMatchObject([{ kind: "done" }]);

  // No batch any more once it has crossed, without its prototype: the thread does not survive it.
  const nonsense: [] = Object.create({ flatMap: () => [] });
  const ended = { code: "UNAVAILABLE", message: expect.stringContaining(file) };
  await expect(writer.runBatch(nonsense)).rejects.toMatchObject(ended);
  await expect(writer.runBatch([ping])).rejects.toMatchObject(ended);
});

test("a file that is no database is CORRUPT, and a missing directory UNAVAILABLE", async () => {
  await using directory = await makeDirectory();
  const noise = join(directory.path, "noise");
  await writeFile(noise, "x".repeat(8192));

  await expect(openSqliteIndex({ file: noise })).rejects.toMatchObject({
    code: "CORRUPT",
    message: expect.stringContaining(noise),
  });
  const absent = join(directory.path, "absent", "index.sqlite");
  await expect(openSqliteIndex({ file: absent })).rejects.toMatchObject({
    code: "UNAVAILABLE",
    hint: expect.stringContaining("directory"),
  });
});

test("every connection has the settings that durability and speed rest on", async () => {
  await using directory = await makeDirectory();
  const database = openConnection(join(directory.path, "index.sqlite"), "full");
  const setting = (name: string): unknown =>
    Object.values(database.prepare(`PRAGMA ${name}`).get() ?? {})[0];

  expect(setting("synchronous")).toBe(2);
  expect(setting("journal_mode")).toBe("wal");
  expect(setting("foreign_keys")).toBe(1);
  expect(setting("busy_timeout")).toBeGreaterThanOrEqual(5000);
  expect(setting("mmap_size")).toBe(0);
  database.close();
});

test("no statement, trigger or cascade of the index reads a whole table", () => {
  const database = openMemory();
  const statements = recordStatements(database, () => {
    void new SqliteReads(database);
    void new SqliteWrites(database);
    void new SqliteHousekeepingReads(database);
    void new SqliteHousekeepingWrites(database);
    void new SqlitePartUploadReads(database);
    void new SqlitePartUploadWrites(database);
    void new SqliteUpstreamReads(database);
    void new SqliteUpstreamWrites(database);
  });
  expect(statements.length).toBeGreaterThan(80);

  const scans = [...statements, ...triggerStatements(database)].flatMap((sql) =>
    explain(database, sql)
      .filter((detail) => detail.startsWith("SCAN") && !isBoundedScan(detail))
      .map((detail) => `${detail} in ${sql}`),
  );

  // The list of all views is all of them, already in order; that of the few upstreams as well.
  expect(scans).toEqual([
    expect.stringMatching(
      /^SCAN views USING INDEX .* FROM views WHERE is_deleted = 0 AND is_hidden = 0 ORDER BY name/,
    ),
    expect.stringMatching(/^SCAN u USING INDEX .* FROM upstreams AS u .* ORDER BY u.name/),
  ]);
  const sorts = statements.flatMap((sql) =>
    explain(database, sql).filter((detail) => detail.includes("TEMP B-TREE")),
  );
  // A view has few keys.
  expect(sorts).toEqual(["USE TEMP B-TREE FOR ORDER BY"]);
});

test("every foreign key has an index, so that removing what it names is cheap", () => {
  const database = openMemory();
  const unindexed = database
    .prepare(
      `SELECT t.name || '.' || k."from" AS name
      FROM sqlite_schema AS t, pragma_foreign_key_list(t.name) AS k
      WHERE t.type = 'table'
        AND NOT EXISTS (
          SELECT 1 FROM pragma_index_list(t.name) AS i, pragma_index_info(i.name) AS c
          WHERE c.seqno = 0 AND c.name = k."from")
        AND NOT EXISTS (
          SELECT 1 FROM pragma_table_info(t.name) AS c WHERE c.pk = 1 AND c.name = k."from")`,
    )
    .all();
  expect(unindexed).toEqual([]);
});

function recordStatements(database: DatabaseSync, prepareAll: () => void): string[] {
  const statements: string[] = [];
  const prepare = database.prepare.bind(database);
  database.prepare = (sql, options) => {
    statements.push(sql.replaceAll(/\s+/g, " ").trim());
    return prepare(sql, options);
  };
  prepareAll();
  database.prepare = prepare;
  return statements;
}

/** What triggers run, with parameters for the row that fired them. */
function triggerStatements(database: DatabaseSync): string[] {
  return database
    .prepare("SELECT sql FROM sqlite_schema WHERE type = 'trigger'")
    .all()
    .flatMap(({ sql }) => /\bBEGIN\b(.*)\bEND$/s.exec(String(sql))?.[1]?.split(";") ?? [])
    .map((sql) =>
      sql
        .replaceAll(/\s+/g, " ")
        .replaceAll(/\b(OLD|NEW)\.\w+/g, "?")
        .trim(),
    )
    .filter((sql) => sql !== "");
}

function explain(database: DatabaseSync, sql: string): string[] {
  return database
    .prepare(`EXPLAIN QUERY PLAN ${sql}`)
    .all()
    .map(({ detail }) => String(detail));
}

/** Over what was asked, or over an index that holds nothing but the rows that are wanted. */
function isBoundedScan(detail: string): boolean {
  return /VIRTUAL TABLE|CONSTANT ROW|objects_(deleting|quarantined)/.test(detail);
}
