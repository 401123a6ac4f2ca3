import type { DatabaseSync } from "node:sqlite";

import { CacheError, type Logger, silentLogger } from "@glorious/core";

import { SCHEMA_STEPS } from "./schema.ts";

/** Marks a SQLite file as ours in its header: "FLYW". */
const APPLICATION_ID = 0x46_4c_59_57;

/** What {@link migrate} may be given. */
export interface MigrateOptions {
  /** The steps to take. Default: those of this version. */
  readonly migrations?: readonly string[];
  readonly logger?: Logger;
}

/**
 * Brings the database to the newest schema, one transaction per step, and never back.
 *
 * Several processes may call it on one file at the same time: each step runs once.
 *
 * @returns The schema's version.
 * @throws {CacheError} `CONFIG` when the file belongs to another program or to a newer version of this one.
 */
export function migrate(
  database: DatabaseSync,
  file: string,
  options: MigrateOptions = {},
): number {
  const { migrations = SCHEMA_STEPS, logger = silentLogger } = options;
  let from: number | undefined;
  while (true) {
    // Read under the lock that the step is written under, so that no other process takes it as well.
    database.exec("BEGIN IMMEDIATE");
    try {
      const version = readVersion(database, file, migrations.length);
      const step = migrations[version];
      if (step === undefined) {
        database.exec("COMMIT");
        // Of a new index there is nothing to know.
        if (from !== undefined && from > 0) {
          logger.info("The index has a new schema", { file, from, to: version });
        }
        return version;
      }
      database.exec(step);
      database.exec(`PRAGMA application_id = ${APPLICATION_ID}`);
      database.exec(`PRAGMA user_version = ${version + 1}`);
      database.exec("COMMIT");
      from ??= version;
    } catch (error) {
      if (database.isTransaction) database.exec("ROLLBACK");
      throw error;
    }
  }
}

function readVersion(database: DatabaseSync, file: string, newest: number): number {
  const header = database
    .prepare(
      `SELECT
        (SELECT application_id FROM pragma_application_id) AS applicationId,
        (SELECT user_version FROM pragma_user_version) AS version,
        (SELECT count(*) FROM sqlite_schema) AS tables`,
    )
    .get();
  const version = Number(header?.["version"]);
  if (Number(header?.["applicationId"]) !== APPLICATION_ID && header?.["tables"] !== 0) {
    throw new CacheError("CONFIG", `${file} is a database of another program`, {
      hint: "Choose another file for the index.",
    });
  }
  if (version > newest) {
    throw new CacheError(
      "CONFIG",
      `The index ${file} has schema version ${version}, newer than version ${newest} of this server`,
      { hint: "Start the newer server that wrote it, or restore an index from before the update." },
    );
  }
  return version;
}
