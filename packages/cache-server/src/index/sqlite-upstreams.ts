import type { DatabaseSync } from "node:sqlite";

import { CacheError } from "@glorious/core";

import { prepareQuery, type Query } from "./sqlite-connection.ts";
import {
  END_RESERVATION,
  fromHashBytes,
  OBJECT_COLUMNS,
  type ObjectRow,
  parseStrings,
  required,
  toHashBytes,
  toObjectRecord,
  viewIsThere,
} from "./sqlite-rows.ts";
import { SqliteViewDeletion } from "./sqlite-view-deletion.ts";
import type {
  HeldAsItCame,
  HoldingMove,
  NewUpstream,
  UpstreamChanges,
  UpstreamPath,
  UpstreamRecord,
} from "./upstream-index.ts";

const SELECT_UPSTREAM = `
  SELECT u.id, u.name, u.url, u.public_keys AS publicKeys, u.authorization, u.only_view_id AS onlyViewId,
    v.store_dir AS storeDir, v.priority, v.max_size_bytes AS maxSizeBytes, u.created_at_ms AS createdAtMs,
    u.view_id AS viewId
  FROM upstreams AS u JOIN views AS v ON v.id = u.view_id`;

interface UpstreamRow {
  readonly id: number;
  readonly name: string;
  readonly url: string;
  readonly publicKeys: string;
  readonly authorization: string | null;
  readonly onlyViewId: number | null;
  readonly storeDir: string;
  readonly priority: number;
  readonly maxSizeBytes: number | null;
  readonly createdAtMs: number;
  readonly viewId: number;
}

function toUpstreamRecord(row: UpstreamRow): UpstreamRecord {
  return {
    ...row,
    publicKeys: parseStrings(row.publicKeys),
    authorization: row.authorization ?? undefined,
    onlyViewId: row.onlyViewId ?? undefined,
    maxSizeBytes: row.maxSizeBytes ?? undefined,
  };
}

const SELECT_PATH = `
  SELECT p.view_id AS hiddenViewId, p.store_path_hash AS storePathHash, p.nar_info AS narInfo,
    p.file_hash AS fileHash, p.nar_hash AS narHash, p.reference_names AS referenceNames,
    p.checked_at_ms AS checkedAtMs`;

interface UpstreamPathRow {
  readonly hiddenViewId: number;
  readonly storePathHash: string;
  readonly narInfo: string;
  readonly fileHash: Uint8Array | null;
  readonly narHash: Uint8Array;
  readonly referenceNames: string;
  readonly checkedAtMs: number;
}

function toUpstreamPath({ referenceNames, ...row }: UpstreamPathRow): UpstreamPath {
  return {
    ...row,
    fileHash: row.fileHash === null ? undefined : fromHashBytes(row.fileHash),
    narHash: fromHashBytes(row.narHash),
    references: parseStrings(referenceNames),
  };
}

/** The reading half of upstreams; see `SqliteReads`. */
export class SqliteUpstreamReads {
  readonly #findUpstream: Query<UpstreamRow>;
  readonly #listUpstreams: Query<UpstreamRow>;
  readonly #upstreamsOfView: Query<UpstreamRow>;
  readonly #viewsOfUpstream: Query<{ readonly name: string }>;
  readonly #findPaths: Query<UpstreamPathRow>;
  readonly #findFile: Query<UpstreamPathRow>;
  readonly #listHeldAsTheyCame: Query<ObjectRow & { readonly id: number; readonly viewId: number }>;

  constructor(database: DatabaseSync) {
    this.#findUpstream = prepareQuery(database, `${SELECT_UPSTREAM} WHERE u.name = ?1`);
    this.#listUpstreams = prepareQuery(database, `${SELECT_UPSTREAM} ORDER BY u.name`);
    this.#upstreamsOfView = prepareQuery(
      database,
      `${SELECT_UPSTREAM} JOIN view_upstreams AS a ON a.upstream_id = u.id
       WHERE a.view_id = ?1 AND ${viewIsThere("?1")} ORDER BY a.position`,
    );
    this.#viewsOfUpstream = prepareQuery(
      database,
      `SELECT v.name FROM view_upstreams AS a JOIN views AS v ON v.id = a.view_id
       WHERE a.upstream_id = ?1`,
    );
    this.#findPaths = prepareQuery(
      database,
      `${SELECT_PATH} FROM json_each(?2) AS asked
         CROSS JOIN upstream_paths AS p ON p.view_id = ?1 AND p.store_path_hash = asked.value
       WHERE ${viewIsThere("?1")}`,
    );
    this.#findFile = prepareQuery(
      database,
      `${SELECT_PATH} FROM upstream_paths AS p
       WHERE p.view_id = ?1 AND p.file_hash = ?2 AND ${viewIsThere("?1")} LIMIT 1`,
    );
    // There are few such objects, if any, and many holdings.
    this.#listHeldAsTheyCame = prepareQuery(
      database,
      `SELECT o.id, h.view_id AS viewId, ${OBJECT_COLUMNS}
       FROM objects AS o CROSS JOIN holdings AS h ON h.object_id = o.id
       WHERE o.compression <> 'zstd' AND o.id > ?1 AND h.expires_at_ms IS NULL AND h.is_lost = 0
         AND ${viewIsThere("h.view_id")}
       ORDER BY o.id LIMIT ?2`,
    );
  }

  listHeldAsTheyCame({
    after,
    limit,
  }: {
    readonly after: number;
    readonly limit: number;
  }): HeldAsItCame[] {
    return this.#listHeldAsTheyCame
      .all(after, limit)
      .map(({ id, viewId, ...object }) => ({ id, viewId, object: toObjectRecord(object) }));
  }

  findUpstream(name: string): UpstreamRecord | undefined {
    const row = this.#findUpstream.get(name);
    return row && toUpstreamRecord(row);
  }

  listUpstreams(): UpstreamRecord[] {
    return this.#listUpstreams.all().map(toUpstreamRecord);
  }

  upstreamsOfViews(viewIds: readonly number[]): UpstreamRecord[] {
    const byId = new Map<number, UpstreamRow>();
    for (const viewId of viewIds) {
      for (const row of this.#upstreamsOfView.all(viewId)) {
        if (!byId.has(row.id)) byId.set(row.id, row);
      }
    }
    return [...byId.values()].toSorted((a, b) => a.priority - b.priority).map(toUpstreamRecord);
  }

  viewsOfUpstream(upstreamId: number): string[] {
    return this.#viewsOfUpstream
      .all(upstreamId)
      .map(({ name }) => name)
      .toSorted();
  }

  findUpstreamPaths(
    hiddenViewIds: readonly number[],
    storePathHashes: readonly string[],
  ): UpstreamPath[] {
    const asked = JSON.stringify([...new Set(storePathHashes)]);
    return hiddenViewIds.flatMap((id) => this.#findPaths.all(id, asked).map(toUpstreamPath));
  }

  findUpstreamFile(hiddenViewIds: readonly number[], fileHash: string): UpstreamPath | undefined {
    const hash = toHashBytes(fileHash);
    for (const id of hiddenViewIds) {
      const row = this.#findFile.get(id, hash);
      if (row !== undefined) return toUpstreamPath(row);
    }
    return undefined;
  }
}

/** The writing half of upstreams; see `SqliteWrites`. */
export class SqliteUpstreamWrites {
  readonly #deletion: SqliteViewDeletion;
  readonly #findUpstream: Query<UpstreamRow>;
  readonly #viewExists: Query<{ readonly found: number }>;
  readonly #insertView: Query<{ readonly id: number }>;
  readonly #insertUpstream: Query<never>;
  readonly #updateUpstream: Query<never>;
  readonly #updateView: Query<never>;
  readonly #moveToView: Query<never>;
  readonly #detachAll: Query<never>;
  readonly #attach: Query<never>;
  readonly #putPath: Query<never>;
  readonly #removePath: Query<never>;
  readonly #trimPaths: Query<never>;
  readonly #findHeld: Query<{ readonly id: number; readonly objectId: number }>;
  readonly #findReserved: Query<{ readonly id: number }>;
  readonly #pathsOfHolding: Query<{ readonly storePathHash: string; readonly narInfo: string }>;
  readonly #keepFile: Query<never>;
  readonly #moveHolding: Query<never>;
  readonly #endReservation: Query<never>;
  readonly #movePath: Query<never>;

  constructor(database: DatabaseSync) {
    this.#deletion = new SqliteViewDeletion(database);
    this.#findUpstream = prepareQuery(database, `${SELECT_UPSTREAM} WHERE u.name = ?1`);
    this.#viewExists = prepareQuery(database, `SELECT 1 AS found WHERE ${viewIsThere("?1")}`);
    // No view that somebody makes has a slash in its name. It is kept for as long as there is room for it.
    this.#insertView = prepareQuery(
      database,
      `INSERT INTO views (name, is_hidden, is_public, store_dir, priority, upstream_cache_key_names,
         retention_seconds, max_size_bytes, created_at_ms)
       VALUES ('upstream/' || ?1, 1, 0, ?2, ?3, '[]', 0, ?4, ?5) RETURNING id`,
    );
    this.#insertUpstream = prepareQuery(
      database,
      `INSERT INTO upstreams (name, url, public_keys, authorization, only_view_id, view_id, created_at_ms)
       VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)`,
    );
    this.#updateUpstream = prepareQuery(
      database,
      `UPDATE upstreams SET public_keys = ?2, authorization = coalesce(?3, authorization)
       WHERE id = ?1`,
    );
    this.#updateView = prepareQuery(
      database,
      `UPDATE views SET priority = ?2, max_size_bytes = ?3 WHERE id = ?1`,
    );
    this.#moveToView = prepareQuery(database, `UPDATE upstreams SET view_id = ?2 WHERE id = ?1`);
    this.#detachAll = prepareQuery(database, `DELETE FROM view_upstreams WHERE view_id = ?1`);
    this.#attach = prepareQuery(
      database,
      `INSERT INTO view_upstreams (view_id, upstream_id, position)
       SELECT ?1, id, ?3 FROM upstreams
       WHERE id = ?2 AND (only_view_id IS NULL OR only_view_id = ?1)`,
    );
    // In place of the row before, with a new id: ids are in order of the answers' age.
    this.#putPath = prepareQuery(
      database,
      `INSERT OR REPLACE INTO upstream_paths (view_id, store_path_hash, nar_info, file_hash, nar_hash,
         reference_names, checked_at_ms)
       SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7 WHERE ${viewIsThere("?1")}`,
    );
    this.#removePath = prepareQuery(
      database,
      `DELETE FROM upstream_paths WHERE view_id = ?1 AND store_path_hash = ?2`,
    );
    this.#trimPaths = prepareQuery(
      database,
      `DELETE FROM upstream_paths
       WHERE id < (SELECT min(id) FROM upstream_paths) + ?3
         AND (checked_at_ms < ?1 OR id <= (SELECT max(id) FROM upstream_paths) - ?2)`,
    );
    this.#findHeld = prepareQuery(
      database,
      `SELECT h.id, h.object_id AS objectId FROM holdings AS h JOIN objects AS o ON o.id = h.object_id
       WHERE h.view_id = ?1 AND h.nar_hash = ?2 AND o.file_hash = ?3 AND h.is_lost = 0
         AND ${viewIsThere("?1")}`,
    );
    this.#findReserved = prepareQuery(
      database,
      `SELECT id FROM objects WHERE file_hash = ?1 AND nar_hash = ?2 AND is_deleting = 0
         AND quarantined_at_ms IS NULL`,
    );
    this.#pathsOfHolding = prepareQuery(
      database,
      `SELECT store_path_hash AS storePathHash, nar_info AS narInfo FROM paths WHERE holding_id = ?1`,
    );
    this.#keepFile = prepareQuery(
      database,
      `INSERT INTO uploaded_files (view_id, object_id, expires_at_ms) VALUES (?1, ?2, ?3)
       ON CONFLICT DO UPDATE SET expires_at_ms = max(expires_at_ms, excluded.expires_at_ms)`,
    );
    this.#moveHolding = prepareQuery(database, `UPDATE holdings SET object_id = ?2 WHERE id = ?1`);
    this.#endReservation = prepareQuery(database, END_RESERVATION);
    this.#movePath = prepareQuery(
      database,
      `UPDATE paths SET object_id = ?3, nar_info = ?4, is_lost = 0
       WHERE view_id = ?1 AND store_path_hash = ?2`,
    );
  }

  moveHolding({ viewId, narHash, from, to, narInfos, fileExpiresAtMs }: HoldingMove): boolean {
    const narHashBytes = toHashBytes(narHash);
    const held = this.#findHeld.get(viewId, narHashBytes, toHashBytes(from));
    const target = this.#findReserved.get(toHashBytes(to), narHashBytes);
    if (held === undefined || target === undefined) return false;
    const changes = new Map(narInfos.map((change) => [change.storePathHash, change]));
    const paths = this.#pathsOfHolding.all(held.id);
    const isAsRead = paths.every(
      ({ storePathHash, narInfo }) => changes.get(storePathHash)?.replaces === narInfo,
    );
    if (!isAsRead) return false;
    this.#keepFile.run(viewId, held.objectId, fileExpiresAtMs);
    // Until each path names the new object as well, it counts as lost; nobody sees that.
    this.#moveHolding.run(held.id, target.id);
    this.#endReservation.run(target.id);
    for (const { storePathHash } of paths) {
      const narInfo = changes.get(storePathHash)?.narInfo ?? null;
      this.#movePath.run(viewId, storePathHash, target.id, narInfo);
    }
    return true;
  }

  createUpstream(upstream: NewUpstream): UpstreamRecord {
    const { name, url, publicKeys, authorization, onlyViewId, createdAtMs } = upstream;
    if (this.#findUpstream.get(name) !== undefined) {
      throw new CacheError("CONFLICT", `The upstream ${name} exists already`, {
        hint: "Choose another name, or change the one that is there.",
      });
    }
    if (onlyViewId !== undefined) this.#requireView(onlyViewId);
    const viewId = this.#addView(upstream);
    this.#insertUpstream.run(
      name,
      url,
      JSON.stringify(publicKeys),
      authorization ?? null,
      onlyViewId ?? null,
      viewId,
      createdAtMs,
    );
    return toUpstreamRecord(required(this.#findUpstream.get(name)));
  }

  updateUpstream(name: string, changes: UpstreamChanges): UpstreamRecord | undefined {
    const row = this.#findUpstream.get(name);
    if (row === undefined) return undefined;
    const before = toUpstreamRecord(row);
    const { publicKeys = before.publicKeys, priority = before.priority } = changes;
    const { maxSizeBytes = before.maxSizeBytes } = changes;
    const size = maxSizeBytes === "default" ? undefined : maxSizeBytes;
    this.#updateUpstream.run(before.id, JSON.stringify(publicKeys), changes.authorization ?? null);
    if (before.publicKeys.every((key) => publicKeys.includes(key))) {
      this.#updateView.run(before.viewId, priority, size ?? null);
    } else {
      this.#deletion.beginHidden(before.viewId);
      this.#moveToView.run(before.id, this.#addView({ ...before, priority, maxSizeBytes: size }));
    }
    return toUpstreamRecord(required(this.#findUpstream.get(name)));
  }

  deleteUpstream(name: string): boolean {
    return this.#deletion.beginUpstream(name);
  }

  setViewUpstreams(viewId: number, upstreamIds: readonly number[]): void {
    this.#requireView(viewId);
    this.#detachAll.run(viewId);
    for (const [position, id] of [...new Set(upstreamIds)].entries()) {
      if (this.#attach.run(viewId, id, position) > 0) continue;
      throw new CacheError("NOT_FOUND", `The view may have no upstream with id ${id}`, {
        hint: "It was removed a moment ago; look it up by its name again.",
      });
    }
  }

  putUpstreamPaths(paths: readonly UpstreamPath[]): void {
    for (const path of paths) {
      this.#putPath.run(
        path.hiddenViewId,
        path.storePathHash,
        path.narInfo,
        path.fileHash === undefined ? null : toHashBytes(path.fileHash),
        toHashBytes(path.narHash),
        JSON.stringify(path.references),
        path.checkedAtMs,
      );
    }
  }

  removeUpstreamPath(hiddenViewId: number, storePathHash: string): void {
    this.#removePath.run(hiddenViewId, storePathHash);
  }

  trimUpstreamPaths(checkedBeforeMs: number, keep: number, limit: number): number {
    return this.#trimPaths.run(checkedBeforeMs, keep, limit);
  }

  #addView(upstream: NewUpstream): number {
    const { name, storeDir, priority, maxSizeBytes, createdAtMs } = upstream;
    const row = this.#insertView.get(name, storeDir, priority, maxSizeBytes ?? null, createdAtMs);
    return required(row).id;
  }

  #requireView(viewId: number): void {
    if (this.#viewExists.get(viewId) !== undefined) return;
    throw new CacheError("NOT_FOUND", `There is no view with id ${viewId}`, {
      hint: "It was removed a moment ago; look it up by its name again.",
    });
  }
}
