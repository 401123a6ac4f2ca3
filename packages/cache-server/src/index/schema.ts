/** Parts of triggers: an object is referenced as long as anything names it. */
const KEEP_NEW_OBJECT = `UPDATE objects SET is_referenced = 1
      WHERE id = NEW.object_id AND is_referenced = 0`;
const RELEASE_OLD_OBJECT = `UPDATE objects SET is_referenced = 0 WHERE id = OLD.object_id
      AND NOT EXISTS (SELECT 1 FROM holdings WHERE object_id = OLD.object_id)
      AND NOT EXISTS (SELECT 1 FROM paths WHERE object_id = OLD.object_id)
      AND NOT EXISTS (SELECT 1 FROM uploaded_files WHERE object_id = OLD.object_id)`;

const NEW_OBJECT_IS_QUARANTINED = `EXISTS (SELECT 1 FROM objects
      WHERE id = NEW.object_id AND quarantined_at_ms IS NOT NULL)`;

/** Who refers to what; a path's reference to itself says nothing. A base name begins with its hash. */
const ADD_NEW_REFERENCES = `INSERT OR IGNORE INTO path_references (view_id, reference_hash, path_id)
      SELECT NEW.view_id, substr(value, 1, 32), NEW.id FROM json_each(NEW.reference_names)
      WHERE substr(value, 1, 32) <> NEW.store_path_hash`;
const REMOVE_OLD_REFERENCES = `DELETE FROM path_references WHERE view_id = OLD.view_id AND path_id = OLD.id
      AND reference_hash IN (SELECT substr(value, 1, 32) FROM json_each(OLD.reference_names))`;

/**
 * One step of the schema, from version n to n + 1. A released step never changes; the next one follows it.
 *
 * Hashes are stored as 32 bytes, half of their text. Objects and holdings have integer ids because paths,
 * the many rows, name both. What is kept twice is kept by triggers, which also see cascades: `is_referenced`,
 * `is_lost`, `view_totals`, `path_references`. So neither the sweep nor statistics ever read a whole table.
 */
export const SCHEMA_STEPS: readonly string[] = [
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
  // A path or holding is lost while its object is in quarantine; a path also when its view holds its NAR as
  // another object than its narinfo names. Few are, so that the partial indexes stay small and say it without a
  // look at the wide rows. Access times change all the time: they have narrow rows of their own. References are
  // by hash, not by id, because a path may come after those that refer to it.
  `
  ALTER TABLE views ADD COLUMN max_size_bytes INTEGER CHECK (max_size_bytes >= 0);
  ALTER TABLE views ADD COLUMN compression_level INTEGER;
  ALTER TABLE objects ADD COLUMN verified_at_ms INTEGER;
  ALTER TABLE objects ADD COLUMN quarantined_at_ms INTEGER;
  ALTER TABLE objects ADD COLUMN quarantine_reason TEXT;
  CREATE INDEX objects_quarantined ON objects (quarantined_at_ms)
    WHERE quarantined_at_ms IS NOT NULL;
  ALTER TABLE holdings ADD COLUMN is_lost INTEGER NOT NULL DEFAULT 0 CHECK (is_lost IN (0, 1));
  CREATE INDEX holdings_lost ON holdings (view_id, nar_hash) WHERE is_lost = 1;
  ALTER TABLE paths ADD COLUMN is_lost INTEGER NOT NULL DEFAULT 0 CHECK (is_lost IN (0, 1));
  CREATE INDEX paths_lost ON paths (view_id, store_path_hash) WHERE is_lost = 1;

  CREATE TABLE path_accesses (
    path_id INTEGER PRIMARY KEY REFERENCES paths (id) ON DELETE CASCADE,
    accessed_at_ms INTEGER NOT NULL
  ) STRICT;

  CREATE TABLE path_references (
    view_id INTEGER NOT NULL,
    reference_hash TEXT NOT NULL,
    path_id INTEGER NOT NULL,
    PRIMARY KEY (view_id, reference_hash, path_id)
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE pins (
    view_id INTEGER NOT NULL REFERENCES views (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    store_path_hash TEXT NOT NULL,
    store_path TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL,
    created_by TEXT,
    PRIMARY KEY (view_id, name)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX pins_by_path ON pins (view_id, store_path_hash);

  -- Without a foreign key: the parts' bytes outlive the view until somebody has removed them.
  CREATE TABLE uploads (
    id TEXT NOT NULL UNIQUE,
    view_id INTEGER NOT NULL,
    nar_hash BLOB NOT NULL CHECK (length(nar_hash) = 32),
    nar_size INTEGER NOT NULL,
    part_bytes INTEGER NOT NULL CHECK (part_bytes > 0),
    created_at_ms INTEGER NOT NULL,
    expires_at_ms INTEGER NOT NULL
  ) STRICT;
  CREATE INDEX uploads_by_nar ON uploads (view_id, nar_hash, part_bytes, created_at_ms);
  CREATE INDEX uploads_by_expiry ON uploads (expires_at_ms);
  CREATE TABLE upload_parts (
    upload_id TEXT NOT NULL REFERENCES uploads (id) ON DELETE CASCADE,
    number INTEGER NOT NULL CHECK (number >= 0),
    size_bytes INTEGER NOT NULL CHECK (size_bytes >= 0),
    sha256 BLOB NOT NULL CHECK (length(sha256) = 32),
    PRIMARY KEY (upload_id, number)
  ) STRICT, WITHOUT ROWID;
  CREATE TRIGGER view_deleted AFTER DELETE ON views BEGIN
    UPDATE uploads SET expires_at_ms = 0 WHERE view_id = OLD.id;
  END;

  DROP TRIGGER holding_added;
  CREATE TRIGGER holding_added AFTER INSERT ON holdings BEGIN
    ${KEEP_NEW_OBJECT};
    UPDATE view_totals SET
      nars = nars + 1,
      nar_bytes = nar_bytes + (SELECT nar_size FROM objects WHERE id = NEW.object_id),
      file_bytes = file_bytes + (SELECT file_size FROM objects WHERE id = NEW.object_id)
      WHERE view_id = NEW.view_id;
    UPDATE holdings SET is_lost = 1 WHERE id = NEW.id AND ${NEW_OBJECT_IS_QUARANTINED};
  END;
  DROP TRIGGER holding_moved;
  CREATE TRIGGER holding_moved AFTER UPDATE OF object_id ON holdings
    WHEN NEW.object_id <> OLD.object_id BEGIN
    ${KEEP_NEW_OBJECT};
    ${RELEASE_OLD_OBJECT};
    UPDATE view_totals SET file_bytes = file_bytes
      + (SELECT file_size FROM objects WHERE id = NEW.object_id)
      - (SELECT file_size FROM objects WHERE id = OLD.object_id)
      WHERE view_id = NEW.view_id AND OLD.is_lost = 0;
    UPDATE holdings SET is_lost = ${NEW_OBJECT_IS_QUARANTINED} WHERE id = NEW.id;
    UPDATE paths SET is_lost = object_id <> NEW.object_id OR ${NEW_OBJECT_IS_QUARANTINED}
      WHERE holding_id = NEW.id;
  END;
  CREATE TRIGGER holding_lost AFTER UPDATE OF is_lost ON holdings
    WHEN NEW.is_lost <> OLD.is_lost BEGIN
    UPDATE view_totals SET
      nars = nars + (OLD.is_lost - NEW.is_lost),
      nar_bytes = nar_bytes + (OLD.is_lost - NEW.is_lost)
        * (SELECT nar_size FROM objects WHERE id = NEW.object_id),
      file_bytes = file_bytes + (OLD.is_lost - NEW.is_lost)
        * (SELECT file_size FROM objects WHERE id = NEW.object_id)
      WHERE view_id = NEW.view_id;
  END;
  DROP TRIGGER holding_removed;
  CREATE TRIGGER holding_removed AFTER DELETE ON holdings BEGIN
    ${RELEASE_OLD_OBJECT};
    UPDATE view_totals SET
      nars = nars - 1,
      nar_bytes = nar_bytes - (SELECT nar_size FROM objects WHERE id = OLD.object_id),
      file_bytes = file_bytes - (SELECT file_size FROM objects WHERE id = OLD.object_id)
      WHERE view_id = OLD.view_id AND OLD.is_lost = 0;
    DELETE FROM documents
      WHERE view_id = OLD.view_id AND kind = 'listing' AND name = lower(hex(OLD.nar_hash));
  END;

  DROP TRIGGER path_added;
  CREATE TRIGGER path_added AFTER INSERT ON paths BEGIN
    ${KEEP_NEW_OBJECT};
    UPDATE view_totals SET paths = paths + 1 WHERE view_id = NEW.view_id;
    INSERT INTO path_accesses (path_id, accessed_at_ms) VALUES (NEW.id, NEW.created_at_ms);
    ${ADD_NEW_REFERENCES};
  END;
  CREATE TRIGGER path_refers AFTER UPDATE OF reference_names ON paths
    WHEN NEW.reference_names <> OLD.reference_names BEGIN
    ${REMOVE_OLD_REFERENCES};
    ${ADD_NEW_REFERENCES};
  END;
  CREATE TRIGGER path_lost AFTER UPDATE OF is_lost ON paths WHEN NEW.is_lost <> OLD.is_lost BEGIN
    UPDATE view_totals SET paths = paths + (OLD.is_lost - NEW.is_lost) WHERE view_id = NEW.view_id;
  END;
  DROP TRIGGER path_removed;
  CREATE TRIGGER path_removed AFTER DELETE ON paths BEGIN
    ${RELEASE_OLD_OBJECT};
    UPDATE view_totals SET paths = paths - 1 WHERE view_id = OLD.view_id AND OLD.is_lost = 0;
    ${REMOVE_OLD_REFERENCES};
  END;
  CREATE TRIGGER object_quarantined AFTER UPDATE OF quarantined_at_ms ON objects
    WHEN (NEW.quarantined_at_ms IS NULL) <> (OLD.quarantined_at_ms IS NULL) BEGIN
    UPDATE holdings SET is_lost = NEW.quarantined_at_ms IS NOT NULL WHERE object_id = NEW.id;
    UPDATE paths SET is_lost = NEW.quarantined_at_ms IS NOT NULL
      OR NEW.id <> (SELECT object_id FROM holdings WHERE id = paths.holding_id)
      WHERE object_id = NEW.id;
  END;

  INSERT INTO path_accesses (path_id, accessed_at_ms) SELECT id, created_at_ms FROM paths;
  INSERT OR IGNORE INTO path_references (view_id, reference_hash, path_id)
    SELECT p.view_id, substr(r.value, 1, 32), p.id
    FROM paths AS p, json_each(p.reference_names) AS r
    WHERE substr(r.value, 1, 32) <> p.store_path_hash ORDER BY 1, 2, 3;
  UPDATE paths SET is_lost = 1
    WHERE object_id <> (SELECT object_id FROM holdings WHERE id = paths.holding_id);
  -- Made again when asked for; some are named by their path still, and none went with its NAR until now.
  DELETE FROM documents WHERE kind = 'listing';
  `,
  // A view that is deleted keeps its row, under a name that no view can have, until the last of the rows that
  // name it is gone.
  `
  ALTER TABLE views ADD COLUMN is_deleted INTEGER NOT NULL DEFAULT 0 CHECK (is_deleted IN (0, 1));
  CREATE INDEX views_deleted ON views (is_deleted) WHERE is_deleted = 1;
  `,
  // An overlay lies over another view of its tenant; whoever writes to it has its key. What a view's last write was says
  // when an overlay is done with.
  `
  ALTER TABLE views ADD COLUMN overlay_of INTEGER;
  ALTER TABLE views ADD COLUMN overlay_key TEXT;
  ALTER TABLE views ADD COLUMN written_at_ms INTEGER;
  CREATE INDEX views_by_base ON views (overlay_of) WHERE overlay_of IS NOT NULL;
  `,
  // Provenance. What a revocation hides is lost like what is in quarantine, until it is written anew or the revocation is
  // taken back.
  `
  CREATE TABLE principals (
    id INTEGER PRIMARY KEY,
    facts TEXT NOT NULL UNIQUE CHECK (json_valid(facts)),
    principal TEXT NOT NULL,
    run TEXT,
    jti TEXT
  ) STRICT;
  CREATE INDEX principals_by_name ON principals (principal, run);
  CREATE INDEX principals_by_run ON principals (run) WHERE run IS NOT NULL;
  CREATE INDEX principals_by_jti ON principals (jti) WHERE jti IS NOT NULL;
  CREATE TABLE entries (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    view_id INTEGER NOT NULL,
    principal_id INTEGER NOT NULL REFERENCES principals (id),
    written_at_ms INTEGER NOT NULL,
    PRIMARY KEY (kind, name, view_id, principal_id)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX entries_by_principal ON entries (principal_id, written_at_ms);
  CREATE INDEX entries_by_view ON entries (view_id);
  CREATE INDEX entries_by_time ON entries (written_at_ms);
  CREATE TABLE reads (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    view_id INTEGER NOT NULL,
    principal_id INTEGER NOT NULL REFERENCES principals (id),
    first_at_ms INTEGER NOT NULL,
    last_at_ms INTEGER NOT NULL,
    PRIMARY KEY (kind, name, view_id, principal_id)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX reads_by_view ON reads (view_id);
  CREATE INDEX reads_by_principal ON reads (principal_id);
  CREATE INDEX reads_by_time ON reads (last_at_ms);
  CREATE TABLE revocations (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    principal TEXT,
    run TEXT,
    jti TEXT,
    since_ms INTEGER,
    created_at_ms INTEGER NOT NULL,
    created_by TEXT,
    entries INTEGER NOT NULL,
    lifted_at_ms INTEGER
  ) STRICT;
  CREATE INDEX revocations_in_force ON revocations (principal, run, jti) WHERE lifted_at_ms IS NULL;
  ALTER TABLE paths ADD COLUMN revocation_id INTEGER;
  ALTER TABLE holdings ADD COLUMN revocation_id INTEGER;
  ALTER TABLE documents ADD COLUMN revocation_id INTEGER;
  CREATE INDEX paths_revoked ON paths (revocation_id) WHERE revocation_id IS NOT NULL;
  CREATE INDEX holdings_revoked ON holdings (revocation_id) WHERE revocation_id IS NOT NULL;
  CREATE INDEX documents_revoked ON documents (revocation_id) WHERE revocation_id IS NOT NULL;

  DROP TRIGGER holding_moved;
  CREATE TRIGGER holding_moved AFTER UPDATE OF object_id ON holdings
    WHEN NEW.object_id <> OLD.object_id BEGIN
    ${KEEP_NEW_OBJECT};
    ${RELEASE_OLD_OBJECT};
    UPDATE view_totals SET file_bytes = file_bytes
      + (SELECT file_size FROM objects WHERE id = NEW.object_id)
      - (SELECT file_size FROM objects WHERE id = OLD.object_id)
      WHERE view_id = NEW.view_id AND OLD.is_lost = 0;
    UPDATE holdings SET is_lost = revocation_id IS NOT NULL OR ${NEW_OBJECT_IS_QUARANTINED}
      WHERE id = NEW.id;
    UPDATE paths SET is_lost = revocation_id IS NOT NULL OR object_id <> NEW.object_id
      OR ${NEW_OBJECT_IS_QUARANTINED}
      WHERE holding_id = NEW.id;
  END;
  DROP TRIGGER object_quarantined;
  CREATE TRIGGER object_quarantined AFTER UPDATE OF quarantined_at_ms ON objects
    WHEN (NEW.quarantined_at_ms IS NULL) <> (OLD.quarantined_at_ms IS NULL) BEGIN
    UPDATE holdings SET is_lost = NEW.quarantined_at_ms IS NOT NULL OR revocation_id IS NOT NULL
      WHERE object_id = NEW.id;
    UPDATE paths SET is_lost = NEW.quarantined_at_ms IS NOT NULL OR revocation_id IS NOT NULL
      OR NEW.id <> (SELECT object_id FROM holdings WHERE id = paths.holding_id)
      WHERE object_id = NEW.id;
  END;
  CREATE TRIGGER holding_revoked AFTER UPDATE OF revocation_id ON holdings BEGIN
    UPDATE holdings SET is_lost = revocation_id IS NOT NULL OR ${NEW_OBJECT_IS_QUARANTINED}
      WHERE id = NEW.id;
  END;
  CREATE TRIGGER path_revoked AFTER UPDATE OF revocation_id ON paths BEGIN
    UPDATE paths SET is_lost = revocation_id IS NOT NULL OR ${NEW_OBJECT_IS_QUARANTINED}
      OR object_id <> (SELECT object_id FROM holdings WHERE id = NEW.holding_id)
      WHERE id = NEW.id;
  END;
  `,
  // What a merge queue's run wrote is known by a key, by which the push of the same commit takes it over.
  `
  ALTER TABLE principals ADD COLUMN offers TEXT;
  CREATE INDEX principals_by_offer ON principals (offers) WHERE offers IS NOT NULL;
  ALTER TABLE entries ADD COLUMN adopted_from TEXT;
  `,
  // Whose an overlay is and of which ref, for who deletes it with its branch.
  `
  ALTER TABLE views ADD COLUMN overlay_owner TEXT;
  ALTER TABLE views ADD COLUMN overlay_ref TEXT;
  `,
  // When names were last seen that a token carries no id for: after a gap they may be somebody else's.
  `
  CREATE TABLE seen_names (
    key TEXT PRIMARY KEY,
    seen_at_ms INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;
  `,
  // What a view takes beside its NARs, for quotas. A file as it came may be the very object that the view serves.
  `
  ALTER TABLE view_totals ADD COLUMN other_bytes INTEGER NOT NULL DEFAULT 0;
  ALTER TABLE uploaded_files ADD COLUMN counted_bytes INTEGER NOT NULL DEFAULT 0;
  UPDATE uploaded_files SET counted_bytes = (SELECT file_size FROM objects WHERE id = object_id)
    WHERE NOT EXISTS (SELECT 1 FROM holdings AS h
      WHERE h.object_id = uploaded_files.object_id AND h.view_id = uploaded_files.view_id);
  UPDATE view_totals SET other_bytes =
    (SELECT coalesce(sum(length(body)), 0) FROM documents AS d WHERE d.view_id = view_totals.view_id)
    + (SELECT coalesce(sum(counted_bytes), 0) FROM uploaded_files AS f WHERE f.view_id = view_totals.view_id);
  CREATE TRIGGER document_added AFTER INSERT ON documents BEGIN
    UPDATE view_totals SET other_bytes = other_bytes + length(NEW.body) WHERE view_id = NEW.view_id;
  END;
  CREATE TRIGGER document_changed AFTER UPDATE OF body ON documents BEGIN
    UPDATE view_totals SET other_bytes = other_bytes + length(NEW.body) - length(OLD.body)
      WHERE view_id = NEW.view_id;
  END;
  CREATE TRIGGER document_removed AFTER DELETE ON documents BEGIN
    UPDATE view_totals SET other_bytes = other_bytes - length(OLD.body) WHERE view_id = OLD.view_id;
  END;
  CREATE TRIGGER uploaded_file_counted AFTER INSERT ON uploaded_files BEGIN
    UPDATE view_totals SET other_bytes = other_bytes + NEW.counted_bytes WHERE view_id = NEW.view_id;
  END;
  CREATE TRIGGER uploaded_file_discounted AFTER DELETE ON uploaded_files BEGIN
    UPDATE view_totals SET other_bytes = other_bytes - OLD.counted_bytes WHERE view_id = OLD.view_id;
  END;
  `,
  // The views of a tenant, whose name ends at the plus sign, for its quotas. A revocation hides in many steps.
  `
  CREATE INDEX views_by_tenant ON views (substr(name, 1, instr(name, '+')), overlay_of IS NOT NULL)
    WHERE is_deleted = 0;
  ALTER TABLE revocations ADD COLUMN finished_at_ms INTEGER;
  UPDATE revocations SET finished_at_ms = created_at_ms;
  CREATE INDEX revocations_unfinished ON revocations (id) WHERE finished_at_ms IS NULL;
  `,
  // Caches that views fall back to. What was fetched from one is held by a view that no name finds; what it only said of
  // a path is kept apart, under the view that it would be held by. The ids of these answers are in order of their age.
  `
  ALTER TABLE views ADD COLUMN is_hidden INTEGER NOT NULL DEFAULT 0 CHECK (is_hidden IN (0, 1));
  ALTER TABLE views ADD COLUMN signs_upstream INTEGER NOT NULL DEFAULT 0
    CHECK (signs_upstream IN (0, 1));
  ALTER TABLE views ADD COLUMN pushes_upstream INTEGER NOT NULL DEFAULT 0
    CHECK (pushes_upstream IN (0, 1));
  DROP INDEX views_by_tenant;
  CREATE INDEX views_by_tenant ON views (substr(name, 1, instr(name, '+')), overlay_of IS NOT NULL)
    WHERE is_deleted = 0 AND is_hidden = 0;
  CREATE TABLE upstreams (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    url TEXT NOT NULL,
    public_keys TEXT NOT NULL CHECK (json_valid(public_keys)),
    authorization TEXT,
    only_view_id INTEGER REFERENCES views (id),
    view_id INTEGER NOT NULL UNIQUE REFERENCES views (id),
    created_at_ms INTEGER NOT NULL,
    CHECK (authorization IS NULL OR only_view_id IS NOT NULL)
  ) STRICT;
  CREATE INDEX upstreams_by_only_view ON upstreams (only_view_id) WHERE only_view_id IS NOT NULL;
  CREATE TABLE view_upstreams (
    view_id INTEGER NOT NULL REFERENCES views (id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    upstream_id INTEGER NOT NULL REFERENCES upstreams (id) ON DELETE CASCADE,
    PRIMARY KEY (view_id, position)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX view_upstreams_by_upstream ON view_upstreams (upstream_id);
  CREATE TABLE upstream_paths (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    view_id INTEGER NOT NULL REFERENCES views (id) ON DELETE CASCADE,
    store_path_hash TEXT NOT NULL CHECK (length(store_path_hash) = 32),
    nar_info TEXT NOT NULL,
    file_hash BLOB CHECK (length(file_hash) = 32),
    nar_hash BLOB NOT NULL CHECK (length(nar_hash) = 32),
    reference_names TEXT NOT NULL,
    checked_at_ms INTEGER NOT NULL,
    UNIQUE (view_id, store_path_hash)
  ) STRICT;
  CREATE INDEX upstream_paths_by_file ON upstream_paths (view_id, file_hash)
    WHERE file_hash IS NOT NULL;
  `,
  // Who agreed on what lies in the commons.
  `
  CREATE TABLE commons_votes (
    view_id INTEGER NOT NULL REFERENCES views (id) ON DELETE CASCADE,
    store_path_hash TEXT NOT NULL,
    voter_id INTEGER NOT NULL,
    agreed_at_ms INTEGER NOT NULL,
    PRIMARY KEY (view_id, store_path_hash, voter_id)
  ) STRICT, WITHOUT ROWID;
  CREATE TRIGGER path_votes_removed AFTER DELETE ON paths BEGIN
    DELETE FROM commons_votes WHERE view_id = OLD.view_id AND store_path_hash = OLD.store_path_hash;
  END;
  `,
  // What came from an upstream is held as it came until it is encoded again.
  `
  CREATE INDEX objects_in_other_encodings ON objects (id) WHERE compression <> 'zstd';
  `,
];
