import type { DatabaseSync } from "node:sqlite";

import { CacheError, type Logger, silentLogger } from "@glorious/core";

/** Marks a SQLite file as ours in its header: "FLYW". */
const APPLICATION_ID = 0x46_4c_59_57;

/** Parts of the first step's triggers. */
const KEEP_NEW_OBJECT = `UPDATE objects SET is_referenced = 1
      WHERE id = NEW.object_id AND is_referenced = 0`;
const RELEASE_OLD_OBJECT = `UPDATE objects SET is_referenced = 0 WHERE id = OLD.object_id
      AND NOT EXISTS (SELECT 1 FROM holdings WHERE object_id = OLD.object_id)
      AND NOT EXISTS (SELECT 1 FROM paths WHERE object_id = OLD.object_id)
      AND NOT EXISTS (SELECT 1 FROM uploaded_files WHERE object_id = OLD.object_id)`;

/**
 * One step of the schema, from version n to n + 1. A released step never changes; the next one follows it.
 *
 * Hashes are stored as 32 bytes, half of their text. Objects and holdings have integer ids because paths,
 * the many rows, name both. `is_referenced` and `view_totals` are kept by triggers, which also see
 * cascades, so that neither the sweep nor statistics ever read a whole table.
 */
const MIGRATIONS: readonly string[] = [
  `
  CREATE TABLE views (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    is_public INTEGER NOT NULL CHECK (is_public IN (0, 1)),
    store_dir TEXT NOT NULL,
    priority INTEGER NOT NULL,
    upstream_cache_key_names TEXT NOT NULL CHECK (json_valid(upstream_cache_key_names)),
    retention_seconds INTEGER CHECK (retention_seconds >= 0),
    created_at_ms INTEGER NOT NULL
  ) STRICT;

  CREATE TABLE view_totals (
    view_id INTEGER PRIMARY KEY REFERENCES views (id) ON DELETE CASCADE,
    uploads INTEGER NOT NULL DEFAULT 0,
    uploaded_nar_bytes INTEGER NOT NULL DEFAULT 0,
    conflicts INTEGER NOT NULL DEFAULT 0,
    paths INTEGER NOT NULL DEFAULT 0,
    nars INTEGER NOT NULL DEFAULT 0,
    nar_bytes INTEGER NOT NULL DEFAULT 0,
    file_bytes INTEGER NOT NULL DEFAULT 0
  ) STRICT;

  CREATE TABLE signing_keys (
    id INTEGER PRIMARY KEY,
    view_id INTEGER NOT NULL REFERENCES views (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    secret_key TEXT NOT NULL,
    public_key TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL,
    UNIQUE (view_id, name)
  ) STRICT;

  CREATE TABLE objects (
    id INTEGER PRIMARY KEY,
    file_hash BLOB NOT NULL UNIQUE CHECK (length(file_hash) = 32),
    file_size INTEGER NOT NULL CHECK (file_size >= 0),
    compression TEXT NOT NULL,
    nar_hash BLOB NOT NULL CHECK (length(nar_hash) = 32),
    nar_size INTEGER NOT NULL CHECK (nar_size >= 0),
    reserved_at_ms INTEGER NOT NULL,
    is_referenced INTEGER NOT NULL DEFAULT 0 CHECK (is_referenced IN (0, 1)),
    is_deleting INTEGER NOT NULL DEFAULT 0 CHECK (is_deleting IN (0, 1)),
    CHECK (NOT (is_referenced AND is_deleting))
  ) STRICT;
  CREATE INDEX objects_unreferenced ON objects (reserved_at_ms)
    WHERE is_referenced = 0 AND is_deleting = 0;
  CREATE INDEX objects_deleting ON objects (id) WHERE is_deleting = 1;

  CREATE TABLE holdings (
    id INTEGER PRIMARY KEY,
    view_id INTEGER NOT NULL REFERENCES views (id) ON DELETE CASCADE,
    nar_hash BLOB NOT NULL CHECK (length(nar_hash) = 32),
    object_id INTEGER NOT NULL REFERENCES objects (id),
    expires_at_ms INTEGER,
    UNIQUE (view_id, nar_hash)
  ) STRICT;
  CREATE INDEX holdings_by_object ON holdings (object_id, view_id);
  CREATE INDEX holdings_by_expiry ON holdings (expires_at_ms) WHERE expires_at_ms IS NOT NULL;

  CREATE TABLE uploaded_files (
    view_id INTEGER NOT NULL REFERENCES views (id) ON DELETE CASCADE,
    object_id INTEGER NOT NULL REFERENCES objects (id),
    expires_at_ms INTEGER NOT NULL,
    PRIMARY KEY (view_id, object_id)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX uploaded_files_by_object ON uploaded_files (object_id, view_id);
  CREATE INDEX uploaded_files_by_expiry ON uploaded_files (expires_at_ms);

  CREATE TABLE paths (
    id INTEGER PRIMARY KEY,
    view_id INTEGER NOT NULL REFERENCES views (id) ON DELETE CASCADE,
    store_path_hash TEXT NOT NULL CHECK (length(store_path_hash) = 32),
    store_path TEXT NOT NULL,
    holding_id INTEGER NOT NULL REFERENCES holdings (id),
    object_id INTEGER NOT NULL REFERENCES objects (id),
    reference_names TEXT NOT NULL,
    deriver TEXT,
    ca TEXT,
    system TEXT,
    signatures TEXT NOT NULL,
    nar_info TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL,
    created_by TEXT,
    UNIQUE (view_id, store_path_hash)
  ) STRICT;
  CREATE INDEX paths_by_holding ON paths (holding_id);
  CREATE INDEX paths_by_object ON paths (object_id, view_id);

  CREATE TABLE documents (
    id INTEGER PRIMARY KEY,
    view_id INTEGER NOT NULL REFERENCES views (id) ON DELETE CASCADE,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    body BLOB NOT NULL,
    created_at_ms INTEGER NOT NULL,
    UNIQUE (view_id, kind, name)
  ) STRICT;

  CREATE TABLE revoked_tokens (
    jti TEXT PRIMARY KEY,
    expires_at_ms INTEGER
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX revoked_tokens_by_expiry ON revoked_tokens (expires_at_ms)
    WHERE expires_at_ms IS NOT NULL;

  CREATE TABLE pings (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    count INTEGER NOT NULL
  ) STRICT;
  INSERT INTO pings (id, count) VALUES (1, 0);

  CREATE TRIGGER view_created AFTER INSERT ON views BEGIN
    INSERT INTO view_totals (view_id) VALUES (NEW.id);
  END;

  CREATE TRIGGER holding_added AFTER INSERT ON holdings BEGIN
    ${KEEP_NEW_OBJECT};
    UPDATE view_totals SET
      nars = nars + 1,
      nar_bytes = nar_bytes + (SELECT nar_size FROM objects WHERE id = NEW.object_id),
      file_bytes = file_bytes + (SELECT file_size FROM objects WHERE id = NEW.object_id)
      WHERE view_id = NEW.view_id;
  END;
  CREATE TRIGGER holding_moved AFTER UPDATE OF object_id ON holdings
    WHEN NEW.object_id <> OLD.object_id BEGIN
    ${KEEP_NEW_OBJECT};
    ${RELEASE_OLD_OBJECT};
    UPDATE view_totals SET file_bytes = file_bytes
      + (SELECT file_size FROM objects WHERE id = NEW.object_id)
      - (SELECT file_size FROM objects WHERE id = OLD.object_id)
      WHERE view_id = NEW.view_id;
  END;
  CREATE TRIGGER holding_removed AFTER DELETE ON holdings BEGIN
    ${RELEASE_OLD_OBJECT};
    UPDATE view_totals SET
      nars = nars - 1,
      nar_bytes = nar_bytes - (SELECT nar_size FROM objects WHERE id = OLD.object_id),
      file_bytes = file_bytes - (SELECT file_size FROM objects WHERE id = OLD.object_id)
      WHERE view_id = OLD.view_id;
  END;

  CREATE TRIGGER uploaded_file_added AFTER INSERT ON uploaded_files BEGIN
    ${KEEP_NEW_OBJECT};
  END;
  CREATE TRIGGER uploaded_file_removed AFTER DELETE ON uploaded_files BEGIN
    ${RELEASE_OLD_OBJECT};
  END;

  CREATE TRIGGER path_added AFTER INSERT ON paths BEGIN
    ${KEEP_NEW_OBJECT};
    UPDATE view_totals SET paths = paths + 1 WHERE view_id = NEW.view_id;
  END;
  CREATE TRIGGER path_moved AFTER UPDATE OF object_id ON paths
    WHEN NEW.object_id <> OLD.object_id BEGIN
    ${KEEP_NEW_OBJECT};
    ${RELEASE_OLD_OBJECT};
  END;
  CREATE TRIGGER path_removed AFTER DELETE ON paths BEGIN
    ${RELEASE_OLD_OBJECT};
    UPDATE view_totals SET paths = paths - 1 WHERE view_id = OLD.view_id;
  END;
  `,
  // A key younger than its view replaced another one, and until now nothing ended what a crash had
  // interrupted there: these views are signed once more.
  `
  ALTER TABLE views ADD COLUMN key_generation INTEGER NOT NULL DEFAULT 0;
  ALTER TABLE paths ADD COLUMN key_generation INTEGER NOT NULL DEFAULT 0;
  CREATE INDEX paths_by_key_generation ON paths (view_id, key_generation);
  UPDATE views SET key_generation = 1 WHERE EXISTS (SELECT 1 FROM signing_keys AS k
    WHERE k.view_id = views.id AND k.created_at_ms > views.created_at_ms);
  `,
];

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
  const { migrations = MIGRATIONS, logger = silentLogger } = options;
  while (true) {
    // Read under the lock that the step is written under, so that no other process takes it as well.
    database.exec("BEGIN IMMEDIATE");
    try {
      const version = readVersion(database, file, migrations.length);
      const step = migrations[version];
      if (step === undefined) {
        database.exec("COMMIT");
        return version;
      }
      database.exec(step);
      database.exec(`PRAGMA application_id = ${APPLICATION_ID}`);
      database.exec(`PRAGMA user_version = ${version + 1}`);
      database.exec("COMMIT");
      logger.info("The index has a new schema", { file, from: version, to: version + 1 });
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
