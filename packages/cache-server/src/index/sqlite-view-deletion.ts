import type { DatabaseSync } from "node:sqlite";

import { prepareQuery, type Query } from "./sqlite-connection.ts";

/** Tables whose rows name a view, in an order that no foreign key forbids. Each has its key. */
const TABLES: ReadonlyArray<readonly [table: string, key: string]> = [
  ["paths", "id"],
  ["documents", "id"],
  ["entries", "(kind, name, view_id, principal_id)"],
  ["reads", "(kind, name, view_id, principal_id)"],
  ["uploaded_files", "(view_id, object_id)"],
  ["holdings", "id"],
  ["upstream_paths", "id"],
];

/**
 * Deletes views: out of sight in one short transaction, row by row afterwards. Everything at once would keep all
 * other writers waiting for minutes when a view has a million paths.
 */
export class SqliteViewDeletion {
  readonly #database: DatabaseSync;

  constructor(database: DatabaseSync) {
    this.#database = database;
    this.#hideView = this.#prepare(`
      UPDATE views SET is_deleted = 1, name = '/' || id
      WHERE is_deleted = 0 AND id IN (
        SELECT id FROM views WHERE name = ?1 AND is_hidden = 0
        UNION SELECT o.id FROM views AS o JOIN views AS b ON b.id = o.overlay_of WHERE b.name = ?1)
      RETURNING id`);
    this.#hideViewOfUpstream = this.#prepare(
      `UPDATE views SET is_deleted = 1, name = '/' || id WHERE id = ?1`,
    );
    this.#deleteUpstream = this.#prepare(
      `DELETE FROM upstreams WHERE name = ?1 RETURNING view_id AS id`,
    );
    this.#deletePrivateUpstreams = this.#prepare(
      `DELETE FROM upstreams WHERE only_view_id = ?1 RETURNING view_id AS id`,
    );
    this.#detachUpstreams = this.#prepare(`DELETE FROM view_upstreams WHERE view_id = ?1`);
    this.#deleteKeys = this.#prepare(`DELETE FROM signing_keys WHERE view_id = ?1`);
    this.#deletePins = this.#prepare(`DELETE FROM pins WHERE view_id = ?1`);
    this.#expireUploads = this.#prepare(`UPDATE uploads SET expires_at_ms = 0 WHERE view_id = ?1`);
    this.#findDeleted = this.#prepare(
      `SELECT id FROM views WHERE is_deleted = 1 ORDER BY id LIMIT 1`,
    );
    this.#deleteRows = TABLES.map(([table, key]) => {
      const columns = key.replaceAll(/[()]/g, "");
      return this.#prepare(`
        DELETE FROM ${table} WHERE ${key} IN (
          SELECT ${columns} FROM ${table} WHERE view_id = ?1 LIMIT ?2)`);
    });
    this.#deleteView = this.#prepare(`DELETE FROM views WHERE id = ?1`);
  }

  #prepare<Row>(sql: string): Query<Row> {
    return prepareQuery<Row>(this.#database, sql);
  }

  readonly #hideView: Query<{ readonly id: number }>;
  readonly #deleteKeys: Query<never>;
  readonly #deletePins: Query<never>;
  readonly #expireUploads: Query<never>;
  /** Takes the view and its overlays out of sight and frees their names. */
  begin(name: string): boolean {
    const views = this.#hideView.all(name);
    for (const { id } of views) {
      this.#deleteKeys.run(id);
      this.#deletePins.run(id);
      this.#expireUploads.run(id);
      this.#detachUpstreams.run(id);
      for (const hidden of this.#deletePrivateUpstreams.all(id)) this.beginHidden(hidden.id);
    }
    return views.length > 0;
  }

  readonly #deleteUpstream: Query<{ readonly id: number }>;
  readonly #deletePrivateUpstreams: Query<{ readonly id: number }>;
  readonly #detachUpstreams: Query<never>;
  /** Removes an upstream from all views, and takes its hidden view out of sight. */
  beginUpstream(name: string): boolean {
    const hidden = this.#deleteUpstream.get(name);
    if (hidden !== undefined) this.beginHidden(hidden.id);
    return hidden !== undefined;
  }

  readonly #hideViewOfUpstream: Query<never>;
  /** Takes the hidden view of an upstream out of sight. */
  beginHidden(viewId: number): void {
    this.#hideViewOfUpstream.run(viewId);
  }

  readonly #findDeleted: Query<{ readonly id: number }>;
  readonly #deleteRows: readonly Query<never>[];
  readonly #deleteView: Query<never>;
  /** Removes at most so many rows of deleted views. */
  purge(limit: number): number {
    const view = this.#findDeleted.get();
    if (view === undefined) return 0;
    let removed = 0;
    for (const rows of this.#deleteRows) {
      removed += rows.run(view.id, limit - removed);
      if (removed >= limit) return removed;
    }
    this.#deleteView.run(view.id);
    return removed + 1;
  }
}
