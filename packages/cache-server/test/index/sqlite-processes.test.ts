import { type ChildProcessByStdio, spawn } from "node:child_process";
import { once } from "node:events";
import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { DatabaseSync } from "node:sqlite";
import type { Readable } from "node:stream";
import { fileURLToPath } from "node:url";

import { expect, test } from "vitest";

import { openSqliteIndex } from "../../src/index/sqlite-index.ts";
import { storePathHashOf } from "./index-samples.ts";
import { addView, push } from "./index-setup.ts";
import { makeDirectory } from "./temporary-directory.ts";

const WRITER = fileURLToPath(new URL("./writer-process.ts", import.meta.url));

interface Writer {
  readonly process: ChildProcessByStdio<null, Readable, null>;
  /** Seeds that it said were written. */
  readonly acknowledged: string[];
  readonly ended: Promise<unknown>;
}

function startWriter(file: string, prefix: string, count: number): Writer {
  const child = spawn(
    process.execPath,
    ["--conditions=source", WRITER, file, prefix, String(count)],
    { stdio: ["ignore", "pipe", "inherit"] },
  );
  const acknowledged: string[] = [];
  const lines = createInterface({ input: child.stdout });
  lines.on("line", (line) => acknowledged.push(line));
  const ended = Promise.all([once(child, "exit"), once(lines, "close")]);
  return { process: child, acknowledged, ended };
}

async function findLost(file: string, seeds: readonly string[]): Promise<string[]> {
  await using index = await openSqliteIndex({ file });
  const view = await index.findView("main");
  return index.findMissingPaths(view?.id ?? 0, seeds.map(storePathHashOf));
}

test("every write acknowledged before a kill -9 is there afterwards, and the database is sound", async () => {
  await using directory = await makeDirectory();
  const file = join(directory.path, "index.sqlite");
  const acknowledged: string[] = [];
  for (const round of [1, 2, 3]) {
    const writer = startWriter(file, `round${round}-`, 1_000_000);
    while (writer.acknowledged.length < 100 * round) await once(writer.process.stdout, "data");
    writer.process.kill("SIGKILL");
    await writer.ended;
    acknowledged.push(...writer.acknowledged);

    expect(await findLost(file, acknowledged)).toEqual([]);
  }

  const database = new DatabaseSync(file);
  expect(database.prepare("PRAGMA integrity_check").get()).toEqual({ integrity_check: "ok" });
  expect(database.prepare("PRAGMA foreign_key_check").all()).toEqual([]);
  const counted = database
    .prepare("SELECT paths, nars, (SELECT count(*) FROM paths) AS realPaths FROM view_totals")
    .get();
  expect(counted?.["paths"]).toBe(counted?.["realPaths"]);
  database.close();
});

test("several processes open and write one new file at the same time", async () => {
  await using directory = await makeDirectory();
  const file = join(directory.path, "index.sqlite");
  const writers = ["a", "b", "c"].map((prefix) => startWriter(file, prefix, 150));
  await using index = await openSqliteIndex({ file });
  const view = (await index.findView("main")) ?? (await addView(index).catch(() => undefined));
  const viewId = view?.id ?? (await index.findView("main"))?.id ?? 0;
  for (let at = 0; at < 50; at += 1) await push(index, viewId, `own${at}`);
  await Promise.all(writers.map(({ ended }) => ended));

  const seeds = writers.flatMap((writer) => writer.acknowledged);
  expect(seeds).toHaveLength(450);
  expect(await index.findMissingPaths(viewId, seeds.map(storePathHashOf))).toEqual([]);
  expect(await index.viewStats(viewId)).toMatchObject({ paths: 500, nars: 500 });
});

test("the database is its owner's alone, and closing leaves one file", async () => {
  await using directory = await makeDirectory();
  const file = join(directory.path, "index.sqlite");
  const index = await openSqliteIndex({ file });
  await push(index, (await addView(index)).id, "a");
  for (const name of await readdir(directory.path)) {
    expect((await stat(join(directory.path, name))).mode & 0o077, name).toBe(0);
  }
  await index[Symbol.asyncDispose]();

  expect(await readdir(directory.path)).toEqual(["index.sqlite"]);
});
