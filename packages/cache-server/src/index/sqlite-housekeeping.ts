import type { DatabaseSync } from "node:sqlite";

import { CacheError } from "@glorious/core";

import type {
  AffectedPath,
  CollectCandidate,
  CollectResult,
  GraphNode,
  KnownObjectRecord,
  NarTouch,
  ObjectStateRecord,
  PathTouch,
  PinRecord,
  QuarantineRecord,
} from "./housekeeping-index.ts";
import { SqliteCollect } from "./sqlite-collect.ts";
import { prepareQuery, type Query } from "./sqlite-connection.ts";
import {
  fromHashBytes,
  OBJECT_COLUMNS,
  type ObjectRow,
  parseStrings,
  pathIsThere,
  toHashBytes,
  toObjectRecord,
  TOUCH_NAR,
  TOUCH_PATH,
  viewIsThere,
} from "./sqlite-rows.ts";

/** How many affected paths `quarantineObject` names. */
const MAX_AFFECTED_PATHS = 1000;

interface PinRow extends Omit<PinRecord, "createdBy"> {
  readonly createdBy: string | null;
}

interface GraphRow {
  readonly storePathHash: string;
  readonly accessedAtMs: number;
  readonly fileSize: number;
  readonly narHash: Uint8Array;
  readonly referenceNames: string;
}

interface ObjectStateRow extends ObjectRow {
  readonly verifiedAtMs: number | null;
  readonly quarantinedAtMs: number | null;
}

interface KnownObjectRow extends ObjectStateRow {
  readonly id: number;
  readonly isReferenced: number;
}

interface QuarantineRow extends ObjectRow {
  readonly reason: string;
  readonly atMs: number;
  readonly paths: number;
}

/** The paths that name an object. Parameters: its id, how many. */
const LIST_AFFECTED = `
  SELECT p.view_id AS viewId, v.name AS view, p.store_path_hash AS storePathHash,
    p.store_path AS storePath
  FROM paths AS p JOIN views AS v ON v.id = p.view_id
  WHERE p.object_id = ?1 AND v.is_deleted = 0 ORDER BY p.view_id LIMIT ?2`;

/** The reading half of what housekeeping asks; see `SqliteReads`. */
export class SqliteHousekeepingReads {
  readonly #database: DatabaseSync;

  constructor(database: DatabaseSync) {
    this.#database = database;
    this.#listPins = this.#prepare(`
      SELECT name, store_path_hash AS storePathHash, store_path AS storePath,
        created_at_ms AS createdAtMs, created_by AS createdBy
      FROM pins WHERE view_id = ?1 ORDER BY name`);
    this.#listGraph = this.#prepare(`
      SELECT p.store_path_hash AS storePathHash, a.accessed_at_ms AS accessedAtMs,
        o.file_size AS fileSize, o.nar_hash AS narHash, p.reference_names AS referenceNames
      FROM paths AS p
        JOIN objects AS o ON o.id = p.object_id
        JOIN path_accesses AS a ON a.path_id = p.id
      WHERE p.view_id = ?1 AND p.store_path_hash > ?2 AND ${viewIsThere("?1")}
      ORDER BY p.store_path_hash LIMIT ?3`);
    this.#listObjects = this.#prepare(`
      SELECT ${OBJECT_COLUMNS}, o.verified_at_ms AS verifiedAtMs,
        o.quarantined_at_ms AS quarantinedAtMs
      FROM objects AS o WHERE o.file_hash > ?1 AND o.is_referenced = 1
      ORDER BY o.file_hash LIMIT ?2`);
    this.#listQuarantined = this.#prepare(`
      SELECT ${OBJECT_COLUMNS}, o.quarantine_reason AS reason, o.quarantined_at_ms AS atMs,
        (SELECT count(*) FROM paths WHERE object_id = o.id AND ${viewIsThere("paths.view_id")}) AS paths
      FROM objects AS o WHERE o.quarantined_at_ms IS NOT NULL
      ORDER BY o.quarantined_at_ms, o.id LIMIT ?1`);
    this.#countQuarantined = this.#prepare(
      `SELECT count(*) AS count FROM objects WHERE quarantined_at_ms IS NOT NULL`,
    );
    this.#findObjectState = this.#prepare(`
      SELECT ${OBJECT_COLUMNS}, o.verified_at_ms AS verifiedAtMs,
        o.quarantined_at_ms AS quarantinedAtMs, o.is_referenced AS isReferenced, o.id
      FROM objects AS o WHERE o.file_hash = ?1`);
    this.#listAffected = this.#prepare(LIST_AFFECTED);
  }

  #prepare<Row>(sql: string): Query<Row> {
    return prepareQuery<Row>(this.#database, sql);
  }

  readonly #listPins: Query<PinRow>;
  listPins(viewId: number): PinRecord[] {
    return this.#listPins
      .all(viewId)
      .map(({ createdBy, ...pin }) => ({ ...pin, createdBy: createdBy ?? undefined }));
  }

  readonly #listGraph: Query<GraphRow>;
  listGraph(
    viewId: number,
    page: { readonly after?: string; readonly limit: number },
  ): GraphNode[] {
    return this.#listGraph.all(viewId, page.after ?? "", page.limit).map((row) => ({
      storePathHash: row.storePathHash,
      accessedAtMs: row.accessedAtMs,
      fileSize: row.fileSize,
      narHash: fromHashBytes(row.narHash),
      references: parseStrings(row.referenceNames).map((name) => name.slice(0, 32)),
    }));
  }

  readonly #listObjects: Query<ObjectStateRow>;
  listObjects(page: { readonly after?: string; readonly limit: number }): ObjectStateRecord[] {
    const after = page.after === undefined ? new Uint8Array() : toHashBytes(page.after);
    return this.#listObjects.all(after, page.limit).map(toObjectStateRecord);
  }

  readonly #countQuarantined: Query<{ readonly count: number }>;
  countQuarantined(): number {
    return this.#countQuarantined.get()?.count ?? 0;
  }

  readonly #findObjectState: Query<KnownObjectRow>;
  findObjectState(fileHash: string): KnownObjectRecord | undefined {
    const row = this.#findObjectState.get(toHashBytes(fileHash));
    return row && { ...toObjectStateRecord(row), isReferenced: row.isReferenced === 1 };
  }

  readonly #listAffected: Query<AffectedPath>;
  listPathsOfObject(fileHash: string, limit: number): AffectedPath[] {
    const row = this.#findObjectState.get(toHashBytes(fileHash));
    return row === undefined
      ? []
      : this.#listAffected.all(row.id, limit).map((path) => ({ ...path }));
  }

  readonly #listQuarantined: Query<QuarantineRow>;
  listQuarantined(page: { readonly limit: number }): QuarantineRecord[] {
    return this.#listQuarantined.all(page.limit).map((row) => ({
      object: toObjectRecord(row),
      reason: row.reason,
      atMs: row.atMs,
      paths: row.paths,
    }));
  }
}

function toObjectStateRecord(row: ObjectStateRow): ObjectStateRecord {
  return {
    ...toObjectRecord(row),
    verifiedAtMs: row.verifiedAtMs ?? undefined,
    quarantinedAtMs: row.quarantinedAtMs ?? undefined,
  };
}

/** The writing half of what housekeeping asks; see `SqliteWrites`. */
export class SqliteHousekeepingWrites {
  readonly #database: DatabaseSync;

  constructor(database: DatabaseSync) {
    this.#database = database;
    this.#touchPath = this.#prepare(TOUCH_PATH);
    this.#touchNar = this.#prepare(TOUCH_NAR);
    this.#findVisiblePath = this.#prepare(`SELECT 1 AS found WHERE ${pathIsThere("?1", "?2")}`);
    this.#insertPin = this.#prepare(`
      INSERT INTO pins (view_id, name, store_path_hash, store_path, created_at_ms, created_by)
      VALUES (?1, ?2, ?3, ?4, ?5, ?6)`);
    this.#deletePin = this.#prepare(`DELETE FROM pins WHERE view_id = ?1 AND name = ?2`);
    this.#collect = new SqliteCollect(database);
    this.#markVerified = this.#prepare(
      `UPDATE objects SET verified_at_ms = ?2 WHERE file_hash = ?1`,
    );
    this.#quarantine = this.#prepare(`
      UPDATE objects SET quarantined_at_ms = coalesce(quarantined_at_ms, ?2),
        quarantine_reason = coalesce(quarantine_reason, ?3)
      WHERE file_hash = ?1 RETURNING id`);
    this.#listAffected = this.#prepare(LIST_AFFECTED);
    this.#restore = this.#prepare(`
      UPDATE objects SET quarantined_at_ms = NULL, quarantine_reason = NULL, verified_at_ms = NULL
      WHERE file_hash = ?1`);
  }

  #prepare<Row>(sql: string): Query<Row> {
    return prepareQuery<Row>(this.#database, sql);
  }

  readonly #touchPath: Query<never>;
  touchPaths(touches: readonly PathTouch[]): void {
    for (const { viewId, storePathHash, atMs } of touches) {
      this.#touchPath.run(viewId, storePathHash, atMs);
    }
  }

  readonly #touchNar: Query<never>;
  touchNars(touches: readonly NarTouch[]): void {
    for (const { viewId, fileHash, atMs } of touches) {
      this.#touchNar.run(viewId, toHashBytes(fileHash), atMs);
    }
  }

  readonly #findVisiblePath: Query<{ readonly found: number }>;
  readonly #insertPin: Query<never>;
  putPin(viewId: number, pin: PinRecord): "created" | "replaced" {
    const { name, storePathHash, storePath, createdAtMs, createdBy = null } = pin;
    if (this.#findVisiblePath.get(viewId, storePathHash) === undefined) {
      throw new CacheError("NOT_FOUND", `The view does not have ${storePath}`, {
        hint: "Push the path first, then pin it.",
      });
    }
    const isReplaced = this.deletePin(viewId, name);
    this.#insertPin.run(viewId, name, storePathHash, storePath, createdAtMs, createdBy);
    return isReplaced ? "replaced" : "created";
  }

  readonly #deletePin: Query<never>;
  deletePin(viewId: number, name: string): boolean {
    return this.#deletePin.run(viewId, name) > 0;
  }

  readonly #collect: SqliteCollect;
  collectPaths(
    viewId: number,
    candidates: readonly CollectCandidate[],
    narExpiresAtMs: number,
  ): CollectResult {
    return this.#collect.run(viewId, candidates, narExpiresAtMs);
  }

  readonly #markVerified: Query<never>;
  markVerified(fileHashes: readonly string[], atMs: number): void {
    for (const fileHash of fileHashes) this.#markVerified.run(toHashBytes(fileHash), atMs);
  }

  readonly #quarantine: Query<{ readonly id: number }>;
  readonly #listAffected: Query<AffectedPath>;
  quarantineObject(
    fileHash: string,
    { atMs, reason }: { readonly atMs: number; readonly reason: string },
  ): AffectedPath[] {
    const object = this.#quarantine.get(toHashBytes(fileHash), atMs, reason);
    if (object === undefined) return [];
    return this.#listAffected.all(object.id, MAX_AFFECTED_PATHS).map((row) => ({ ...row }));
  }

  readonly #restore: Query<never>;
  restoreObject(fileHash: string): void {
    this.#restore.run(toHashBytes(fileHash));
  }
}
