import type { DatabaseSync } from "node:sqlite";

import { parsePrincipalFacts } from "./principal-text.ts";
import type {
  EntryKind,
  EntryProvenance,
  EntryUse,
  PrincipalFacts,
  RevocationEffect,
  RevocationRecord,
  RevocationSelection,
  RevocationTarget,
} from "./provenance-index.ts";
import { prepareQuery, type Query } from "./sqlite-connection.ts";
import {
  FIND_REVOCATION,
  SqliteProvenanceWriter,
  toTargetParameters,
} from "./sqlite-provenance-writer.ts";
import { required } from "./sqlite-rows.ts";

/** Paths with one NAR whose reading is recorded when the NAR is read: a few have it, unless somebody means harm. */
const MAX_PATHS_PER_NAR = 100;

/** Entries of a selection, before `WHERE` goes on. Parameters 1 to 4: principal, run, token id, since. */
const SELECTED = `
  FROM principals AS w CROSS JOIN entries AS e INDEXED BY entries_by_principal ON e.principal_id = w.id
  WHERE (?1 IS NULL OR w.principal = ?1) AND (?2 IS NULL OR w.run = ?2) AND (?3 IS NULL OR w.jti = ?3)
    AND e.written_at_ms >= coalesce(?4, 0)`;

/** What of the selection is there as it was written: a path made anew since is somebody else's. */
const STILL_THERE = `(
    (e.kind = 'path' AND EXISTS (SELECT 1 FROM paths AS p WHERE p.view_id = e.view_id
      AND p.store_path_hash = e.name AND p.revocation_id IS NULL AND p.created_at_ms <= e.written_at_ms))
    OR (e.kind <> 'path' AND EXISTS (SELECT 1 FROM documents AS d WHERE d.view_id = e.view_id
      AND d.kind = e.kind AND d.name = e.name AND d.revocation_id IS NULL
      AND d.created_at_ms <= e.written_at_ms)))`;

type SelectionParameters = [string | null, string | null, string | null, number | null];

/** What selects entries, as {@link SELECTED} takes it. */
export function toParameters(selection: RevocationSelection): SelectionParameters {
  const { principal, run, jti, sinceMs } = selection;
  return [principal ?? null, run ?? null, jti ?? null, sinceMs ?? null];
}

/** The reading half of provenance. */
export class SqliteProvenanceReads {
  constructor(database: DatabaseSync) {
    this.#findRevocation = prepareQuery(database, FIND_REVOCATION);
    this.#listRevocations = prepareQuery(
      database,
      `SELECT id, principal, run, jti, since_ms AS sinceMs, created_at_ms AS createdAtMs,
         created_by AS createdBy, entries, finished_at_ms AS finishedAtMs,
         lifted_at_ms AS liftedAtMs
       FROM revocations ORDER BY id DESC LIMIT ?1`,
    );
    this.#countSelected = prepareQuery(
      database,
      `SELECT count(*) AS count FROM (SELECT DISTINCT e.kind, e.name, e.view_id ${SELECTED} AND ${STILL_THERE})`,
    );
    this.#listSelected = prepareQuery(
      database,
      `SELECT DISTINCT v.name AS view, e.kind, e.name
       FROM (SELECT e.kind, e.name, e.view_id ${SELECTED} AND ${STILL_THERE}) AS e
         JOIN views AS v ON v.id = e.view_id
       ORDER BY 1, 2, 3 LIMIT ?5`,
    );
    this.#listWriters = prepareQuery(
      database,
      `SELECT facts FROM principals WHERE id IN (SELECT w.id ${SELECTED}) ORDER BY id DESC LIMIT ?5`,
    );
    this.#listConsumers = prepareQuery(
      database,
      `SELECT c.facts, count(*) AS entries, max(r.last_at_ms) AS lastAtMs
       FROM (SELECT e.kind, e.name, e.view_id, min(e.written_at_ms) AS writtenAtMs ${SELECTED}
             GROUP BY e.kind, e.name, e.view_id) AS e
         JOIN reads AS r ON r.kind = e.kind AND r.name = e.name AND r.view_id = e.view_id
           AND r.last_at_ms >= e.writtenAtMs
         JOIN principals AS c ON c.id = r.principal_id
       WHERE r.principal_id NOT IN (SELECT w.id ${SELECTED})
       GROUP BY c.id ORDER BY lastAtMs DESC LIMIT ?5`,
    );
    this.#viewsOf = prepareQuery(
      database,
      `SELECT v.id, v.name FROM views AS v WHERE v.is_deleted = 0 AND v.id IN (
         SELECT view_id FROM entries WHERE kind = ?1 AND name = ?2
         UNION SELECT view_id FROM reads WHERE kind = ?1 AND name = ?2
         UNION SELECT view_id FROM paths WHERE ?1 = 'path' AND store_path_hash = ?2
           AND view_id IN (SELECT id FROM views)
         UNION SELECT view_id FROM documents WHERE kind = ?1 AND name = ?2
           AND view_id IN (SELECT id FROM views))
       ORDER BY v.name`,
    );
    this.#stateOfPath = prepareQuery(
      database,
      `SELECT is_lost AS isLost, revocation_id IS NOT NULL AS isHidden FROM paths
       WHERE view_id = ?1 AND store_path_hash = ?2`,
    );
    this.#stateOfDocument = prepareQuery(
      database,
      `SELECT 0 AS isLost, revocation_id IS NOT NULL AS isHidden FROM documents
       WHERE view_id = ?1 AND kind = ?3 AND name = ?2`,
    );
    this.#listEntryWriters = prepareQuery(
      database,
      `SELECT p.facts, e.written_at_ms AS atMs, e.adopted_from AS adoptedFrom FROM entries AS e JOIN principals AS p ON p.id = e.principal_id
       WHERE e.kind = ?1 AND e.name = ?2 AND e.view_id = ?3 ORDER BY 2 DESC LIMIT ?4`,
    );
    this.#listEntryReaders = prepareQuery(
      database,
      `SELECT p.facts, r.first_at_ms AS firstAtMs, r.last_at_ms AS lastAtMs
       FROM reads AS r JOIN principals AS p ON p.id = r.principal_id
       WHERE r.kind = ?1 AND r.name = ?2 AND r.view_id = ?3 ORDER BY 3 DESC LIMIT ?4`,
    );
  }

  readonly #findRevocation: Query<{ readonly found: number }>;
  isRevoked(caller: RevocationTarget): boolean {
    return this.#findRevocation.get(...toTargetParameters(caller)) !== undefined;
  }

  readonly #listRevocations: Query<{
    [Name in keyof RevocationRecord]: RevocationRecord[Name] | null;
  }>;
  listRevocations(limit: number): RevocationRecord[] {
    return this.#listRevocations.all(limit).map((row) => ({
      id: row.id ?? 0,
      principal: row.principal ?? undefined,
      run: row.run ?? undefined,
      jti: row.jti ?? undefined,
      sinceMs: row.sinceMs ?? undefined,
      createdAtMs: row.createdAtMs ?? 0,
      createdBy: row.createdBy ?? undefined,
      entries: row.entries ?? 0,
      finishedAtMs: row.finishedAtMs ?? undefined,
      liftedAtMs: row.liftedAtMs ?? undefined,
    }));
  }

  readonly #countSelected: Query<{ readonly count: number }>;
  readonly #listSelected: Query<{
    readonly view: string;
    readonly kind: EntryKind;
    readonly name: string;
  }>;
  readonly #listWriters: Query<{ readonly facts: string }>;
  readonly #listConsumers: Query<{
    readonly facts: string;
    readonly entries: number;
    readonly lastAtMs: number;
  }>;
  previewRevocation(selection: RevocationSelection, limit: number): RevocationEffect {
    const parameters = toParameters(selection);
    return {
      entries: required(this.#countSelected.get(...parameters)).count,
      samples: this.#listSelected.all(...parameters, limit).map((row) => ({ ...row })),
      writers: this.#listWriters
        .all(...parameters, limit)
        .map(({ facts }) => parsePrincipalFacts(facts)),
      consumers: this.#listConsumers
        .all(...parameters, limit)
        .map(({ facts, ...row }) => ({ ...parsePrincipalFacts(facts), ...row })),
    };
  }

  readonly #viewsOf: Query<{ readonly id: number; readonly name: string }>;
  readonly #stateOfPath: Query<StateRow>;
  readonly #stateOfDocument: Query<StateRow>;
  readonly #listEntryWriters: Query<{
    readonly facts: string;
    readonly atMs: number;
    readonly adoptedFrom: string | null;
  }>;
  readonly #listEntryReaders: Query<{
    readonly facts: string;
    readonly firstAtMs: number;
    readonly lastAtMs: number;
  }>;
  findProvenance(kind: EntryKind, name: string, limit: number): EntryProvenance[] {
    return this.#viewsOf.all(kind, name).map((view) => ({
      view: view.name,
      state: toState(
        kind === "path"
          ? this.#stateOfPath.get(view.id, name)
          : this.#stateOfDocument.get(view.id, name, kind),
      ),
      writers: this.#listEntryWriters
        .all(kind, name, view.id, limit)
        .map(({ facts, atMs, adoptedFrom }) => ({
          ...parsePrincipalFacts(facts),
          atMs,
          ...(adoptedFrom === null ? {} : { adoptedFrom }),
        })),
      readers: this.#listEntryReaders
        .all(kind, name, view.id, limit)
        .map(({ facts, ...row }) => ({ ...parsePrincipalFacts(facts), ...row })),
    }));
  }
}

interface StateRow {
  readonly isLost: number;
  readonly isHidden: number;
}

function toState(row: StateRow | undefined): EntryProvenance["state"] {
  if (row === undefined) return "gone";
  if (row.isHidden === 1) return "hidden";
  return row.isLost === 1 ? "lost" : "present";
}

/** The writing half of provenance, beside what commits record themselves. */
export class SqliteProvenanceWrites {
  readonly #writer: SqliteProvenanceWriter;

  constructor(database: DatabaseSync) {
    this.#writer = new SqliteProvenanceWriter(database);
    const prepare = <Row>(sql: string): Query<Row> => prepareQuery<Row>(database, sql);
    this.#putRead = prepare(`
      INSERT INTO reads (kind, name, view_id, principal_id, first_at_ms, last_at_ms)
      SELECT ?1, ?2, ?3, ?4, ?5, ?5 WHERE EXISTS (SELECT 1 FROM views WHERE id = ?3 AND is_deleted = 0)
      ON CONFLICT DO UPDATE SET last_at_ms = max(last_at_ms, excluded.last_at_ms)`);
    this.#putNarReads = prepare(`
      INSERT INTO reads (kind, name, view_id, principal_id, first_at_ms, last_at_ms)
      SELECT 'path', p.store_path_hash, p.view_id, ?3, ?4, ?4
      FROM objects AS o JOIN paths AS p ON p.object_id = o.id
      WHERE o.file_hash = ?1 AND p.view_id = ?2 AND EXISTS (SELECT 1 FROM views WHERE id = p.view_id AND is_deleted = 0)
      LIMIT ${MAX_PATHS_PER_NAR}
      ON CONFLICT DO UPDATE SET last_at_ms = max(last_at_ms, excluded.last_at_ms)`);
    this.#lift = prepare(`
      UPDATE revocations SET lifted_at_ms = ?2 WHERE id = ?1 AND lifted_at_ms IS NULL RETURNING id`);
    this.#showHoldings = prepare(
      `UPDATE holdings SET revocation_id = NULL WHERE revocation_id = ?1`,
    );
    this.#showPaths = prepare(`UPDATE paths SET revocation_id = NULL WHERE revocation_id = ?1`);
    this.#showDocuments = prepare(
      `UPDATE documents SET revocation_id = NULL WHERE revocation_id = ?1`,
    );
    this.#forgetReads = prepare(`
      DELETE FROM reads WHERE (kind, name, view_id, principal_id) IN (
        SELECT kind, name, view_id, principal_id FROM reads WHERE last_at_ms < ?1 LIMIT ?2)`);
    this.#forgetEntries = prepare(`
      DELETE FROM entries WHERE (kind, name, view_id, principal_id) IN (
        SELECT kind, name, view_id, principal_id FROM entries AS e WHERE written_at_ms < ?1
          AND NOT EXISTS (SELECT 1 FROM paths AS p
            WHERE e.kind = 'path' AND p.view_id = e.view_id AND p.store_path_hash = e.name)
          AND NOT EXISTS (SELECT 1 FROM documents AS d
            WHERE d.view_id = e.view_id AND d.kind = e.kind AND d.name = e.name)
        LIMIT ?2)`);
  }

  readonly #putRead: Query<never>;
  readonly #putNarReads: Query<never>;
  recordReads(reader: PrincipalFacts, reads: readonly EntryUse[]): void {
    const principalId = this.#writer.principalId(reader);
    for (const { kind, name, viewId, atMs } of reads) {
      if (kind === "nar") {
        this.#putNarReads.run(Buffer.from(name, "hex"), viewId, principalId, atMs);
        continue;
      }
      this.#putRead.run(kind, name, viewId, principalId, atMs);
    }
  }

  readonly #lift: Query<{ readonly id: number }>;
  readonly #showHoldings: Query<never>;
  readonly #showPaths: Query<never>;
  readonly #showDocuments: Query<never>;
  liftRevocation(
    id: number,
    { atMs, keepsHidden }: { readonly atMs: number; readonly keepsHidden: boolean },
  ): { readonly restored: number } | undefined {
    if (this.#lift.get(id, atMs) === undefined) return undefined;
    if (keepsHidden) return { restored: 0 };
    this.#showHoldings.run(id);
    return { restored: this.#showPaths.run(id) + this.#showDocuments.run(id) };
  }

  readonly #forgetReads: Query<never>;
  readonly #forgetEntries: Query<never>;
  forgetProvenance(beforeMs: number, limit: number): number {
    return this.#forgetReads.run(beforeMs, limit) + this.#forgetEntries.run(beforeMs, limit);
  }
}
