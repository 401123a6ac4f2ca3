import type { DatabaseSync } from "node:sqlite";

import { prepareQuery, type Query } from "../../index/sqlite-connection.ts";

/** Stored bytes, by what names them. */
export interface ScannedObject {
  readonly id: number;
  readonly form: 0 | 1;
  readonly sizeBytes: number;
  readonly storedBytes: number;
  readonly file: string | null;
  /** When they were last hashed, in milliseconds; 0 for those of before that was noted. */
  readonly verifiedMs: number;
}

export interface ScannedBlob extends ScannedObject {
  readonly hash: Uint8Array;
}

export interface ScannedValue extends ScannedObject {
  readonly scopeId: number;
  readonly key: string;
  readonly sha256: Uint8Array;
}

/** Goes through everything that a tenant's Bazel index names, page by page. */
export class ObjectScan {
  readonly #blobs: Query<ScannedBlob>;
  readonly #values: Query<ScannedValue>;
  readonly #data: Query<{ readonly data: Uint8Array }>;
  readonly #isThere: Query<{ readonly id: number }>;

  constructor(database: DatabaseSync) {
    const prepare = <Row>(sql: string): Query<Row> => prepareQuery<Row>(database, sql);
    const object = `o.id, o.form, o.size_bytes AS sizeBytes, o.stored_bytes AS storedBytes, o.file,
      o.verified_ms AS verifiedMs`;
    this.#blobs = prepare(`
      SELECT b.hash, ${object} FROM blobs AS b JOIN objects AS o ON o.id = b.object_id
      WHERE b.hash > ?1 ORDER BY b.hash LIMIT ?2`);
    this.#values = prepare(`
      SELECT v.scope_id AS scopeId, v.key, v.sha256, ${object}
      FROM keyed_values AS v JOIN objects AS o ON o.id = v.object_id
      WHERE (v.scope_id, v.key) > (?1, ?2) ORDER BY v.scope_id, v.key LIMIT ?3`);
    this.#data = prepare(`SELECT data FROM contents WHERE object_id = ?1`);
    this.#isThere = prepare(`SELECT id FROM objects WHERE id = ?1`);
  }

  /** Blobs in order of their hashes, beginning behind one; what several scopes have comes once for each. */
  blobs(after: Uint8Array, limit: number): ScannedBlob[] {
    return this.#blobs.all(after, limit);
  }

  /** Values in order of their scopes and keys, beginning behind one. */
  values(after: { readonly scopeId: number; readonly key: string }, limit: number): ScannedValue[] {
    return this.#values.all(after.scopeId, after.key, limit);
  }

  /** The bytes, when they lie in the index itself. */
  data(objectId: number): Uint8Array | undefined {
    return this.#data.get(objectId)?.data;
  }

  /** Whether something still refers to these bytes; their ids are never given twice. */
  isThere(objectId: number): boolean {
    return this.#isThere.get(objectId) !== undefined;
  }
}
