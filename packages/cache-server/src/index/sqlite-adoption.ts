import type { DatabaseSync } from "node:sqlite";

import type { Offer } from "./adoption-index.ts";
import type { EntryKind } from "./provenance-index.ts";
import { prepareQuery, type Query } from "./sqlite-connection.ts";
import { fromHashBytes, viewIsThere } from "./sqlite-rows.ts";

/** Whether an entry of an overlay is what writers with the key wrote, and nobody else since it was made. */
function isOffered(entry: {
  readonly kind: string;
  readonly name: string;
  readonly view: string;
  readonly createdAtMs: string;
  readonly key: string;
}): string {
  const writers = `SELECT 1 FROM entries AS e JOIN principals AS w ON w.id = e.principal_id
      WHERE e.kind = ${entry.kind} AND e.name = ${entry.name} AND e.view_id = ${entry.view}
        AND e.written_at_ms >= ${entry.createdAtMs}`;
  return `EXISTS (${writers} AND w.offers = ${entry.key})
    AND NOT EXISTS (${writers} AND w.offers IS NOT ${entry.key})`;
}

/** Parameters 1 and 2: the overlay, the key. */
const OFFERED_PATH = `p.view_id = ?1 AND p.is_lost = 0 AND ${viewIsThere("?1")}
  AND ${isOffered({ kind: "'path'", name: "p.store_path_hash", view: "?1", createdAtMs: "p.created_at_ms", key: "?2" })}`;

/** The reading half of adoption. */
export class SqliteAdoptionReads {
  constructor(database: DatabaseSync) {
    this.#findOffers = prepareQuery(
      database,
      `SELECT v.id AS viewId, v.name AS viewName FROM views AS v INDEXED BY views_by_base
       WHERE v.overlay_of = ?2 AND v.is_deleted = 0 AND EXISTS (
         SELECT 1 FROM principals AS w JOIN entries AS e ON e.principal_id = w.id
         WHERE w.offers = ?1 AND e.view_id = v.id)
       ORDER BY v.id`,
    );
    this.#listOfferedPaths = prepareQuery(
      database,
      `SELECT p.store_path_hash AS hash FROM paths AS p
       WHERE ${OFFERED_PATH} AND p.store_path_hash > ?3 ORDER BY p.store_path_hash LIMIT ?4`,
    );
    this.#anyOffers = prepareQuery(
      database,
      `SELECT 1 AS found FROM principals WHERE offers = ?1 LIMIT 1`,
    );
  }

  readonly #anyOffers: Query<{ readonly found: number }>;
  readonly #findOffers: Query<{ readonly viewId: number; readonly viewName: string }>;
  findOffers(key: string, baseId: number): Offer[] {
    // Most pushes come from no queue, and a view may have thousands of overlays.
    if (this.#anyOffers.get(key) === undefined) return [];
    return this.#findOffers.all(key, baseId).map((row) => ({ ...row, key }));
  }

  readonly #listOfferedPaths: Query<{ readonly hash: string }>;
  listOfferedPaths(
    { viewId, key }: Offer,
    page: { readonly after?: string; readonly limit: number },
  ): string[] {
    return this.#listOfferedPaths
      .all(viewId, key, page.after ?? "", page.limit)
      .map(({ hash }) => hash);
  }
}

/** The writing half: runs inside the transaction that makes what is taken over visible. */
export class SqliteAdoption {
  constructor(database: DatabaseSync) {
    this.#offeredNar = prepareQuery(
      database,
      `SELECT h.nar_hash AS narHash FROM paths AS p JOIN holdings AS h ON h.id = p.holding_id
       WHERE ${OFFERED_PATH} AND p.store_path_hash = ?3`,
    );
    this.#listOfferedDocuments = prepareQuery(
      database,
      `SELECT d.kind, d.name, d.body FROM documents AS d
       WHERE d.view_id = ?1 AND d.revocation_id IS NULL AND d.kind <> 'listing'
         AND ${isOffered({ kind: "d.kind", name: "d.name", view: "?1", createdAtMs: "d.created_at_ms", key: "?2" })}
         AND NOT EXISTS (SELECT 1 FROM documents AS o WHERE o.view_id = ?3 AND o.kind = d.kind
           AND o.name = d.name AND o.revocation_id IS NULL)
       LIMIT ?4`,
    );
    this.#copyWriters = prepareQuery(
      database,
      `INSERT INTO entries (kind, name, view_id, principal_id, written_at_ms, adopted_from)
       SELECT kind, name, ?2, principal_id, ?5, ?6 FROM entries
       WHERE kind = ?3 AND name = ?4 AND view_id = ?1
         AND principal_id IN (SELECT id FROM principals WHERE offers = ?7)
         AND written_at_ms >= coalesce(
           (SELECT created_at_ms FROM paths WHERE ?3 = 'path' AND view_id = ?1 AND store_path_hash = ?4),
           (SELECT created_at_ms FROM documents WHERE view_id = ?1 AND kind = ?3 AND name = ?4))
       ON CONFLICT DO UPDATE SET written_at_ms = max(written_at_ms, excluded.written_at_ms)`,
    );
  }

  readonly #offeredNar: Query<{ readonly narHash: Uint8Array }>;
  /** The NAR hash of a path, unless it is offered no more. */
  findOfferedNar({ viewId, key }: Offer, storePathHash: string): string | undefined {
    const row = this.#offeredNar.get(viewId, key, storePathHash);
    return row && fromHashBytes(row.narHash);
  }

  readonly #listOfferedDocuments: Query<OfferedDocument>;
  listOfferedDocuments(viewId: number, offer: Offer, limit: number): OfferedDocument[] {
    return this.#listOfferedDocuments.all(offer.viewId, offer.key, viewId, limit);
  }

  readonly #copyWriters: Query<never>;
  /** Says in the view, too, who wrote an entry as it is; `atMs` is when it came there. */
  copyWriters(
    viewId: number,
    offer: Offer,
    entry: { readonly kind: EntryKind; readonly name: string; readonly atMs: number },
  ): void {
    const { kind, name, atMs } = entry;
    this.#copyWriters.run(offer.viewId, viewId, kind, name, atMs, offer.viewName, offer.key);
  }
}

interface OfferedDocument {
  readonly kind: EntryKind;
  readonly name: string;
  readonly body: Uint8Array;
}
