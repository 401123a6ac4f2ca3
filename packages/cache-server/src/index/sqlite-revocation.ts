import type { DatabaseSync } from "node:sqlite";

import type { EntryKind, RevocationEffect, RevocationSelection } from "./provenance-index.ts";
import { prepareQuery, type Query } from "./sqlite-connection.ts";
import { SqliteProvenanceReads, toParameters } from "./sqlite-provenance.ts";
import { required } from "./sqlite-rows.ts";

/** The entry that a slice ended with, in the order of {@link SqliteRevocation.hideSlice}. */
export interface RevocationCursor {
  readonly principalId: number;
  readonly writtenAtMs: number;
  readonly kind: string;
  readonly name: string;
  readonly viewId: number;
}

export interface HiddenSlice {
  readonly hidden: number;
  /** `undefined`: there is nothing behind it. */
  readonly next: RevocationCursor | undefined;
}

interface RevocationRow {
  readonly principal: string | null;
  readonly run: string | null;
  readonly jti: string | null;
  readonly sinceMs: number | null;
  readonly createdAtMs: number;
}

interface EntryRow {
  readonly kind: EntryKind;
  readonly name: string;
  readonly viewId: number;
  readonly writtenAtMs: number;
}

/** The steps of a revocation, each a write of its own: what a huge principal wrote is no single transaction. */
export class SqliteRevocation {
  readonly #reads: SqliteProvenanceReads;

  constructor(database: DatabaseSync) {
    this.#reads = new SqliteProvenanceReads(database);
    const prepare = <Row>(sql: string): Query<Row> => prepareQuery<Row>(database, sql);
    this.#insert = prepare(`
      INSERT INTO revocations (principal, run, jti, since_ms, created_at_ms, created_by, entries)
      VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0) RETURNING id`);
    this.#find = prepare(`
      SELECT principal, run, jti, since_ms AS sinceMs, created_at_ms AS createdAtMs
      FROM revocations WHERE id = ?1 AND lifted_at_ms IS NULL`);
    this.#nextPrincipal = prepare(`
      SELECT id FROM principals WHERE id >= ?4 AND (?1 IS NULL OR principal = ?1)
        AND (?2 IS NULL OR run = ?2) AND (?3 IS NULL OR jti = ?3) ORDER BY id LIMIT 1`);
    this.#entriesAfter = prepare(`
      SELECT kind, name, view_id AS viewId, written_at_ms AS writtenAtMs
      FROM entries INDEXED BY entries_by_principal
      WHERE principal_id = ?1 AND written_at_ms <= ?6
        AND (written_at_ms, kind, name, view_id) > (?2, ?3, ?4, ?5)
      ORDER BY written_at_ms, kind, name, view_id LIMIT ?7`);
    this.#hidePath = prepare(`
      UPDATE paths SET revocation_id = ?1
      WHERE view_id = ?2 AND store_path_hash = ?3 AND created_at_ms <= ?4 AND revocation_id IS NULL
      RETURNING holding_id AS holdingId`);
    this.#hideDocument = prepare(`
      UPDATE documents SET revocation_id = ?1
      WHERE view_id = ?2 AND kind = ?3 AND name = ?4 AND created_at_ms <= ?5 AND revocation_id IS NULL`);
    // A NAR goes with its last path that is not hidden; its bytes are what its hash says, whoever needs them still.
    this.#hideHolding = prepare(`
      UPDATE holdings SET revocation_id = ?1 WHERE id = ?2 AND revocation_id IS NULL
        AND NOT EXISTS (SELECT 1 FROM paths WHERE holding_id = ?2 AND revocation_id IS NULL)`);
    this.#forgetFiles = prepare(`
      DELETE FROM uploaded_files WHERE (view_id, object_id) IN (
        SELECT f.view_id, f.object_id FROM holdings AS h
          JOIN objects AS o ON o.nar_hash = h.nar_hash
          JOIN uploaded_files AS f ON f.view_id = h.view_id AND f.object_id = o.id
        WHERE h.id = ?1)`);
    this.#count = prepare(`
      SELECT (SELECT count(*) FROM paths WHERE revocation_id = ?1)
        + (SELECT count(*) FROM documents WHERE revocation_id = ?1) AS count`);
    this.#finish = prepare(`
      UPDATE revocations SET finished_at_ms = ?2, entries = ?3 WHERE id = ?1`);
  }

  readonly #insert: Query<{ readonly id: number }>;
  addRevocation(
    selection: RevocationSelection,
    by: { readonly atMs: number; readonly createdBy: string | undefined },
  ): number {
    const parameters = toParameters(selection);
    return required(this.#insert.get(...parameters, by.atMs, by.createdBy ?? null)).id;
  }

  /** On the writer's thread, so that nobody who reads waits for it. */
  describeRevocation(selection: RevocationSelection, limit: number): RevocationEffect {
    return this.#reads.previewRevocation(selection, limit);
  }

  readonly #find: Query<RevocationRow>;
  readonly #nextPrincipal: Query<{ readonly id: number }>;
  readonly #entriesAfter: Query<EntryRow>;
  /** Hides what there is of the next entries, at most so many, in the order of who wrote them and when. */
  hideSlice(id: number, after: RevocationCursor | undefined, limit: number): HiddenSlice {
    const revocation = this.#find.get(id);
    // Taken back meanwhile.
    if (revocation === undefined) return { hidden: 0, next: undefined };
    const { principal, run, jti, sinceMs, createdAtMs } = revocation;
    // Who is named writes no more; others go on.
    const untilMs = (principal ?? run ?? jti) === null ? createdAtMs : Number.MAX_SAFE_INTEGER;
    let hidden = 0;
    let cursor = after ?? beforeEntriesOf(0, sinceMs);
    for (let left = limit; left > 0;) {
      const found = this.#nextPrincipal.get(principal, run, jti, cursor.principalId);
      if (found === undefined) return { hidden, next: undefined };
      if (found.id !== cursor.principalId) cursor = beforeEntriesOf(found.id, sinceMs);
      const { writtenAtMs, kind, name, viewId } = cursor;
      const page = this.#entriesAfter.all(
        ...[found.id, writtenAtMs, kind, name, viewId, untilMs, left],
      );
      for (const entry of page) hidden += this.#hide(id, entry);
      const last = page.at(-1);
      cursor =
        last === undefined || page.length < left
          ? beforeEntriesOf(found.id + 1, sinceMs)
          : { principalId: found.id, ...last };
      left -= Math.max(1, page.length);
    }
    return { hidden, next: cursor };
  }

  readonly #hidePath: Query<{ readonly holdingId: number }>;
  readonly #hideDocument: Query<never>;
  readonly #hideHolding: Query<never>;
  readonly #forgetFiles: Query<never>;
  #hide(id: number, { kind, name, viewId, writtenAtMs }: EntryRow): number {
    if (kind !== "path") return this.#hideDocument.run(id, viewId, kind, name, writtenAtMs);
    const path = this.#hidePath.get(id, viewId, name, writtenAtMs);
    if (path === undefined) return 0;
    if (this.#hideHolding.run(id, path.holdingId) > 0) this.#forgetFiles.run(path.holdingId);
    return 1;
  }

  readonly #count: Query<{ readonly count: number }>;
  countHidden(id: number): number {
    return required(this.#count.get(id)).count;
  }

  readonly #finish: Query<never>;
  finishRevocation(
    id: number,
    { atMs, entries }: { readonly atMs: number; readonly entries: number },
  ): void {
    this.#finish.run(id, atMs, entries);
  }
}

/** The place before everything that a principal wrote from a time on. */
function beforeEntriesOf(principalId: number, sinceMs: number | null): RevocationCursor {
  return { principalId, writtenAtMs: sinceMs ?? 0, kind: "", name: "", viewId: 0 };
}
