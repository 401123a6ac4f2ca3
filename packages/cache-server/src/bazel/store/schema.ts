/**
 * The schema of a tenant's Bazel index, one step per version. Steps are never changed once released.
 *
 * `accessed` is a period of `touches.ts`. An ActionResult is never accessed later than what it refers to, which
 * is why what was accessed last may be kept by that alone, and no table says who refers to a blob.
 */
export const BAZEL_SCHEMA_STEPS: readonly string[] = [
  `
  -- An instance name: a view, or what lies below it.
  CREATE TABLE scopes (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    view_id INTEGER NOT NULL,
    instance TEXT NOT NULL,
    blobs INTEGER NOT NULL DEFAULT 0,
    actions INTEGER NOT NULL DEFAULT 0,
    keyed_values INTEGER NOT NULL DEFAULT 0,
    -- Of the blobs themselves, and of all as stored.
    logical_bytes INTEGER NOT NULL DEFAULT 0,
    stored_bytes INTEGER NOT NULL DEFAULT 0,
    UNIQUE (view_id, instance)
  ) STRICT;

  -- Bytes as they are stored: in contents when they are few, else in a file.
  CREATE TABLE objects (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    form INTEGER NOT NULL CHECK (form IN (0, 1)),
    size_bytes INTEGER NOT NULL CHECK (size_bytes >= 0),
    stored_bytes INTEGER NOT NULL CHECK (stored_bytes >= 0),
    file TEXT,
    owners INTEGER NOT NULL CHECK (owners > 0)
  ) STRICT;

  CREATE UNIQUE INDEX objects_by_file ON objects (file) WHERE file IS NOT NULL;

  CREATE TABLE contents (
    object_id INTEGER PRIMARY KEY REFERENCES objects (id) ON DELETE CASCADE,
    data BLOB NOT NULL
  ) STRICT;

  -- The hash comes first, to find the object that another scope of the tenant has.
  CREATE TABLE blobs (
    hash BLOB NOT NULL,
    scope_id INTEGER NOT NULL,
    object_id INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL,
    accessed INTEGER NOT NULL,
    PRIMARY KEY (hash, scope_id)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX blobs_by_access ON blobs (scope_id, accessed);

  -- How a blob is cut into chunks: the digests, one after the other.
  CREATE TABLE layouts (
    hash BLOB NOT NULL,
    scope_id INTEGER NOT NULL,
    chunks BLOB NOT NULL,
    PRIMARY KEY (hash, scope_id),
    FOREIGN KEY (hash, scope_id) REFERENCES blobs (hash, scope_id) ON DELETE CASCADE
  ) STRICT, WITHOUT ROWID;

  -- result is a serialized ActionResult; refers_to lists the digests of all blobs it needs, those in its trees
  -- too, and is NULL as long as a tree is missing.
  CREATE TABLE actions (
    id INTEGER PRIMARY KEY,
    hash BLOB NOT NULL,
    scope_id INTEGER NOT NULL,
    result BLOB NOT NULL,
    refers_to BLOB,
    accessed INTEGER NOT NULL,
    UNIQUE (hash, scope_id)
  ) STRICT;
  CREATE INDEX actions_by_access ON actions (scope_id, accessed);

  -- Opaque values under any key; nothing of Bazel's reads them.
  CREATE TABLE keyed_values (
    scope_id INTEGER NOT NULL,
    key TEXT NOT NULL,
    object_id INTEGER NOT NULL,
    sha256 BLOB NOT NULL,
    accessed INTEGER NOT NULL,
    PRIMARY KEY (scope_id, key)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX keyed_values_by_access ON keyed_values (scope_id, accessed);

  CREATE TABLE totals (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    stored_bytes INTEGER NOT NULL
  ) STRICT;
  INSERT INTO totals (id, stored_bytes) VALUES (1, 0);
  `,
  `
  -- When the bytes were last hashed, by their upload or by a scrub.
  ALTER TABLE objects ADD COLUMN verified_ms INTEGER NOT NULL DEFAULT 0;
  `,
  `
  -- Provenance: who, as JSON and as what revocations select by; and what one of them wrote within a minute, which a
  -- revocation hides by one row, however much it was. Entries of before have the write 0.
  CREATE TABLE actors (
    id INTEGER PRIMARY KEY,
    facts TEXT NOT NULL UNIQUE,
    principal TEXT NOT NULL,
    run TEXT,
    jti TEXT
  ) STRICT;
  CREATE TABLE writes (
    id INTEGER PRIMARY KEY,
    actor_id INTEGER NOT NULL REFERENCES actors (id),
    started_ms INTEGER NOT NULL,
    revocation_id INTEGER
  ) STRICT;
  CREATE INDEX writes_by_actor ON writes (actor_id);
  CREATE INDEX writes_revoked ON writes (revocation_id) WHERE revocation_id IS NOT NULL;
  ALTER TABLE blobs ADD COLUMN write_id INTEGER NOT NULL DEFAULT 0;
  ALTER TABLE actions ADD COLUMN write_id INTEGER NOT NULL DEFAULT 0;
  ALTER TABLE keyed_values ADD COLUMN write_id INTEGER NOT NULL DEFAULT 0;
  -- Blobs, which are many, are gone through instead.
  CREATE INDEX actions_by_write ON actions (write_id) WHERE write_id > 0;

  -- The write of an ActionResult that another took the place of.
  CREATE TABLE superseded (
    hash BLOB NOT NULL,
    scope_id INTEGER NOT NULL,
    write_id INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    PRIMARY KEY (hash, scope_id, write_id)
  ) STRICT, WITHOUT ROWID;

  -- Who was given an ActionResult (kind 0, by its hash) or a value (kind 1, by its key); the latest of them.
  CREATE TABLE reads (
    id INTEGER PRIMARY KEY,
    kind INTEGER NOT NULL,
    name BLOB NOT NULL,
    scope_id INTEGER NOT NULL,
    write_id INTEGER NOT NULL,
    actor_id INTEGER NOT NULL,
    first_at_ms INTEGER NOT NULL,
    last_at_ms INTEGER NOT NULL,
    UNIQUE (name, scope_id, kind, write_id, actor_id)
  ) STRICT;
  -- The same by what they were written with, for as long as provenance is kept.
  CREATE TABLE consumers (
    write_id INTEGER NOT NULL,
    actor_id INTEGER NOT NULL,
    entries INTEGER NOT NULL,
    last_at_ms INTEGER NOT NULL,
    PRIMARY KEY (write_id, actor_id)
  ) STRICT, WITHOUT ROWID;

  -- Those of the server's revocations that hold here already, or held until they were taken back.
  CREATE TABLE applied_revocations (id INTEGER PRIMARY KEY) STRICT;
  `,
  `
  -- What a merge queue's runs wrote is known by a key; a push that takes it over writes with a write of its own, which
  -- names the one it was written with first: revoking either hides it.
  ALTER TABLE actors ADD COLUMN offers TEXT;
  CREATE INDEX actors_by_offer ON actors (offers) WHERE offers IS NOT NULL;
  ALTER TABLE writes ADD COLUMN adopts INTEGER;
  CREATE INDEX writes_by_adopted ON writes (adopts) WHERE adopts IS NOT NULL;
  `,
];
