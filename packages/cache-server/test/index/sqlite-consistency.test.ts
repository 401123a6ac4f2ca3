import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";

import { expect, test } from "vitest";

import { openSqliteIndex } from "../../src/index/sqlite-index.ts";
import { sampleObject, samplePath, storePathHashOf } from "./index-samples.ts";
import { addView, hold, NOW, push } from "./index-setup.ts";
import { makeDirectory } from "./temporary-directory.ts";

/** What somebody might do to the database behind the index's back, and what is said of it then. */
const DAMAGE: [sql: string, ...problems: RegExp[]][] = [
  ["UPDATE view_totals SET paths = 7", /total paths of view 1 is 7 instead of 2/],
  ["UPDATE view_totals SET nars = 0", /total nars of view 1 is 0 instead of 3/],
  ["UPDATE view_totals SET nar_bytes = 1", /total nar_bytes of view 1 is 1 instead of \d{4}/],
  ["UPDATE view_totals SET file_bytes = 1", /total file_bytes of view 1 is 1 instead of \d{3}/],
  ["DELETE FROM view_totals", /view 1 has no totals/],
  ["UPDATE objects SET is_referenced = 0 WHERE id = 1", /object [0-9a-f]{64} .*unreferenced/],
  ["UPDATE objects SET is_referenced = 1", /object [0-9a-f]{64} counts as referenced/],
  ["UPDATE holdings SET is_lost = 1 WHERE id = 1", /holding 1 counts as lost/],
  ["UPDATE paths SET is_lost = 1 WHERE id = 1", /path \w{32} of view 1 counts as lost/],
  ["UPDATE paths SET view_id = 2", /is tied to a NAR of view 1/, /total paths of view 1/],
  ["UPDATE holdings SET expires_at_ms = 5 WHERE id = 1", /holding 1 expires under its path/],
  ["UPDATE holdings SET expires_at_ms = NULL", /holding 3 never expires without a path/],
  ["DELETE FROM path_accesses WHERE path_id = 1", /path \w{32} of view 1 has no access time/],
  ["DELETE FROM path_references", /reference of path 1 to \w{32} is in the text only/],
  [
    "INSERT INTO path_references VALUES (1, 'nothing', 2)",
    /reference of path 2 to nothing is in the table only/,
  ],
  [
    "INSERT INTO documents VALUES (NULL, 1, 'listing', printf('%064d', 0), x'', 0, NULL)",
    /listing 0{64} of view 1 is of no NAR/,
  ],
  ["DELETE FROM objects WHERE id = 1", /row 1 of holdings names a missing row of objects/],
  [
    "PRAGMA ignore_check_constraints = ON; UPDATE objects SET file_size = -1 WHERE id = 1",
    /CHECK constraint failed in objects/,
  ],
];

test.for(DAMAGE)("a look at everything finds what `%s` did", async ([sql, ...problems]) => {
  await using directory = await makeDirectory();
  const file = join(directory.path, "index.sqlite");
  {
    await using index = await openSqliteIndex({ file, synchronous: "off" });
    const view = await addView(index);
    await addView(index, "other");
    await push(index, view.id, "a", "b");
    await hold(index, view.id, "pending");
    await index.reserveObject(sampleObject("reserved"), NOW);
    expect(await index.checkConsistency()).toEqual([]);
  }
  const database = new DatabaseSync(file, { enableForeignKeyConstraints: false });
  // A wrong totals row or flag is what a missing trigger would leave behind.
  for (const { name } of database
    .prepare("SELECT name FROM sqlite_schema WHERE type = 'trigger'")
    .all()) {
    database.exec(`DROP TRIGGER ${String(name)}`);
  }
  database.exec(sql);
  database.close();

  await using index = await openSqliteIndex({ file, synchronous: "off" });
  const found = await index.checkConsistency();
  for (const problem of problems) expect(found).toContainEqual(expect.stringMatching(problem));
});

test("a path of an object that is no longer its view's must count as lost", async () => {
  await using directory = await makeDirectory();
  const file = join(directory.path, "index.sqlite");
  {
    await using index = await openSqliteIndex({ file, synchronous: "off" });
    const view = await addView(index);
    await push(index, view.id, "a");
    const { narHash, fileHash } = sampleObject("a", "theirs");
    await index.reserveObject(sampleObject("a", "theirs"), NOW);
    const at = { viewId: view.id, narHash, fileHash, expiresAtMs: NOW };
    await index.holdNar({ ...at, replaceObject: true });
    await index.commitPaths(view.id, [samplePath("b", { narHash, fileHash })]);
    expect(await index.checkConsistency()).toEqual([]);
  }
  const database = new DatabaseSync(file);
  database.exec("DROP TRIGGER path_lost; UPDATE paths SET is_lost = 0");
  database.close();

  await using index = await openSqliteIndex({ file, synchronous: "off" });
  expect(await index.checkConsistency()).toContainEqual(
    `path ${storePathHashOf("a")} of view 1 counts as sound`,
  );
});
