import type { DatabaseSync } from "node:sqlite";

import { CacheError } from "@glorious/core";

import type {
  DocumentKind,
  FoundNarInfo,
  FoundObject,
  HoldingRecord,
  LevelUsage,
  PathRecord,
  SigningKeyRecord,
  TenantUsage,
  UploadedFileRecord,
  ViewRecord,
  ViewStats,
} from "./cache-index.ts";
import { prepareQuery, type Query } from "./sqlite-connection.ts";
import {
  FIND_HOLDING,
  fromHashBytes,
  type HoldingRow,
  type NarInfoRow,
  OBJECT_COLUMNS,
  type ObjectRow,
  parseStrings,
  pathIsThere,
  type PathRow,
  SELECT_PATH,
  SIGNING_KEY_COLUMNS,
  toHashBytes,
  toHoldingRecord,
  toObjectRecord,
  toPathRecord,
  toSigningKeyRecord,
  toViewRecord,
  VIEW_COLUMNS,
  viewIsThere,
  type ViewRow,
} from "./sqlite-rows.ts";

/** The reading half of the index: one connection, every statement prepared once, committed data only. */
export class SqliteReads {
  readonly #database: DatabaseSync;

  constructor(database: DatabaseSync) {
    this.#database = database;
    this.#findView = this.#prepare(
      `SELECT ${VIEW_COLUMNS} FROM views WHERE name = ?1 AND is_deleted = 0 AND is_hidden = 0`,
    );
    this.#listViews = this.#prepare(
      `SELECT ${VIEW_COLUMNS} FROM views WHERE is_deleted = 0 AND is_hidden = 0 ORDER BY name`,
    );
    this.#viewStats = this.#prepare(`
      SELECT paths, nars, nar_bytes AS narBytes, file_bytes AS fileBytes, uploads,
        uploaded_nar_bytes AS uploadedNarBytes, conflicts
      FROM view_totals WHERE view_id = ?1 AND ${viewIsThere("?1")}`);
    // A tenant's name ends at the plus sign; that of the default tenant is empty.
    this.#tenantUsage = this.#prepare(`
      SELECT v.overlay_of IS NOT NULL AS isOverlay, count(*) AS views,
        coalesce(sum(t.file_bytes + t.other_bytes > 0), 0) AS holders,
        coalesce(sum(t.file_bytes + t.other_bytes), 0) AS bytes
      FROM views AS v JOIN view_totals AS t ON t.view_id = v.id
      WHERE v.is_deleted = 0 AND v.is_hidden = 0 AND substr(v.name, 1, instr(v.name, '+')) = ?1
      GROUP BY 1`);
    this.#viewBytes = this.#prepare(
      `SELECT file_bytes + other_bytes AS bytes FROM view_totals WHERE view_id = ?1`,
    );
    this.#listSigningKeys = this.#prepare(`
      SELECT ${SIGNING_KEY_COLUMNS} FROM signing_keys WHERE view_id = ?1 ORDER BY created_at_ms, id`);
    this.#findPath = this.#prepare(`
      ${SELECT_PATH} WHERE p.view_id = ?1 AND p.store_path_hash = ?2 AND p.is_lost = 0
        AND ${viewIsThere("?1")}`);
    this.#findNarInfos = this.#prepare(`
      SELECT p.view_id AS viewId, p.store_path_hash AS storePathHash,
        p.reference_names AS referenceNames, p.nar_info AS narInfo, a.accessed_at_ms AS accessedAtMs
      FROM json_each(?2) AS asked
        CROSS JOIN paths AS p ON p.view_id = ?1 AND p.store_path_hash = asked.value
        JOIN path_accesses AS a ON a.path_id = p.id
      WHERE p.is_lost = 0 AND ${viewIsThere("?1")}`);
    this.#listPaths = this.#prepare(`
      ${SELECT_PATH} WHERE p.view_id = ?1 AND p.store_path_hash > ?2 AND ${viewIsThere("?1")}
      ORDER BY p.store_path_hash LIMIT ?3`);
    this.#signingKeyGeneration = this.#prepare(
      `SELECT key_generation AS generation FROM views WHERE id = ?1 AND is_deleted = 0`,
    );
    this.#listOutdatedPaths = this.#prepare(`
      ${SELECT_PATH} WHERE p.view_id = ?1 AND p.key_generation < (SELECT key_generation FROM views WHERE id = ?1 AND is_deleted = 0)
      LIMIT ?2`);
    this.#countOutdatedPaths = this.#prepare(`
      SELECT count(*) AS count FROM paths
      WHERE view_id = ?1
        AND key_generation < (SELECT key_generation FROM views WHERE id = ?1 AND is_deleted = 0)`);
    this.#presentPaths = this.#prepare(`
      SELECT asked.value AS hash FROM json_each(?2) AS asked
      WHERE ${pathIsThere("?1", "asked.value")}`);
    this.#presentNars = this.#prepare(`
      SELECT asked.value AS hash FROM json_each(?2) AS asked
      WHERE ${viewIsThere("?1")}
        AND EXISTS (SELECT 1 FROM holdings WHERE view_id = ?1 AND nar_hash = unhex(asked.value))
        AND NOT EXISTS (SELECT 1 FROM holdings INDEXED BY holdings_lost
          WHERE view_id = ?1 AND nar_hash = unhex(asked.value) AND is_lost = 1)`);
    this.#findHolding = this.#prepare(`${FIND_HOLDING} AND ${viewIsThere("?1")}`);
    this.#findObject = this.#prepare(`
      SELECT ${OBJECT_COLUMNS} FROM objects AS o
      WHERE o.file_hash = ?2 AND o.quarantined_at_ms IS NULL AND ${viewIsThere("?1")} AND (
        EXISTS (SELECT 1 FROM holdings
          WHERE object_id = o.id AND view_id = ?1 AND revocation_id IS NULL)
        OR EXISTS (SELECT 1 FROM paths
          WHERE object_id = o.id AND view_id = ?1 AND revocation_id IS NULL)
        OR EXISTS (SELECT 1 FROM uploaded_files WHERE object_id = o.id AND view_id = ?1))`);
    this.#findUploadedFile = this.#prepare(`
      SELECT ${OBJECT_COLUMNS}, f.expires_at_ms AS expiresAtMs
      FROM objects AS o JOIN uploaded_files AS f ON f.view_id = ?1 AND f.object_id = o.id
      WHERE o.file_hash = ?2 AND o.compression = ?3 AND o.quarantined_at_ms IS NULL
        AND ${viewIsThere("?1")}`);
    this.#findDocument = this.#prepare(
      `SELECT body FROM documents
       WHERE view_id = ?1 AND kind = ?2 AND name = ?3 AND revocation_id IS NULL
         AND ${viewIsThere("?1")}`,
    );
    this.#isTokenRevoked = this.#prepare(`SELECT 1 AS found FROM revoked_tokens WHERE jti = ?1`);
    this.#nameSeenAtMs = this.#prepare(
      `SELECT seen_at_ms AS seenAtMs FROM seen_names WHERE key = ?1`,
    );
    this.#readPing = this.#prepare(`SELECT count FROM pings WHERE id = 1`);
  }

  #prepare<Row>(sql: string): Query<Row> {
    return prepareQuery<Row>(this.#database, sql);
  }

  readonly #findView: Query<ViewRow>;
  findView(name: string): ViewRecord | undefined {
    const row = this.#findView.get(name);
    return row && toViewRecord(row);
  }

  readonly #listViews: Query<ViewRow>;
  listViews(): ViewRecord[] {
    return this.#listViews.all().map(toViewRecord);
  }

  readonly #viewStats: Query<ViewStats>;
  viewStats(viewId: number): ViewStats {
    const row = this.#viewStats.get(viewId);
    if (row === undefined) throw new CacheError("NOT_FOUND", `There is no view with id ${viewId}`);
    return { ...row };
  }

  readonly #viewBytes: Query<{ readonly bytes: number }>;
  viewBytes(viewId: number): number {
    return this.#viewBytes.get(viewId)?.bytes ?? 0;
  }

  readonly #tenantUsage: Query<LevelUsage & { readonly isOverlay: number }>;
  tenantUsage(tenant: string | undefined): TenantUsage {
    const rows = this.#tenantUsage.all(tenant === undefined ? "" : `${tenant}+`);
    const usageOf = (isOverlay: number): LevelUsage => {
      const row = rows.find((each) => each.isOverlay === isOverlay);
      return { views: row?.views ?? 0, holders: row?.holders ?? 0, bytes: row?.bytes ?? 0 };
    };
    return { own: usageOf(0), overlays: usageOf(1) };
  }

  readonly #listSigningKeys: Query<SigningKeyRecord>;
  listSigningKeys(viewId: number): SigningKeyRecord[] {
    return this.#listSigningKeys.all(viewId).map(toSigningKeyRecord);
  }

  readonly #findPath: Query<PathRow>;
  findPath(chain: readonly number[], storePathHash: string): PathRecord | undefined {
    const row = firstOf(chain, (viewId) => this.#findPath.get(viewId, storePathHash));
    return row && toPathRecord(row);
  }

  readonly #findNarInfos: Query<NarInfoRow>;
  findNarInfos(chain: readonly number[], storePathHashes: readonly string[]): FoundNarInfo[] {
    const wanted = new Set(storePathHashes);
    const found: FoundNarInfo[] = [];
    for (const viewId of chain) {
      if (wanted.size === 0) break;
      for (const row of this.#findNarInfos.all(viewId, JSON.stringify([...wanted]))) {
        const { referenceNames, ...path } = row;
        found.push({ ...path, references: parseStrings(referenceNames) });
        wanted.delete(path.storePathHash);
      }
    }
    return found;
  }

  readonly #listPaths: Query<PathRow>;
  listPaths(
    viewId: number,
    page: { readonly after?: string; readonly limit: number },
  ): PathRecord[] {
    return this.#listPaths.all(viewId, page.after ?? "", page.limit).map(toPathRecord);
  }

  readonly #signingKeyGeneration: Query<{ readonly generation: number }>;
  signingKeyGeneration(viewId: number): number {
    return this.#signingKeyGeneration.get(viewId)?.generation ?? 0;
  }

  readonly #listOutdatedPaths: Query<PathRow>;
  listOutdatedPaths(viewId: number, limit: number): PathRecord[] {
    return this.#listOutdatedPaths.all(viewId, limit).map(toPathRecord);
  }

  readonly #countOutdatedPaths: Query<{ readonly count: number }>;
  countOutdatedPaths(viewId: number): number {
    return this.#countOutdatedPaths.get(viewId)?.count ?? 0;
  }

  readonly #presentPaths: Query<{ readonly hash: string }>;
  findMissingPaths(viewId: number, storePathHashes: readonly string[]): string[] {
    return without(storePathHashes, (asked) => this.#presentPaths.all(viewId, asked));
  }

  readonly #presentNars: Query<{ readonly hash: string }>;
  findMissingNars(viewId: number, narHashes: readonly string[]): string[] {
    return without(narHashes, (asked) => this.#presentNars.all(viewId, asked));
  }

  readonly #findHolding: Query<HoldingRow>;
  findHolding(viewId: number, narHash: string): HoldingRecord | undefined {
    const row = this.#findHolding.get(viewId, toHashBytes(narHash));
    return row && toHoldingRecord(row);
  }

  readonly #findObject: Query<ObjectRow>;
  findObject(chain: readonly number[], fileHash: string): FoundObject | undefined {
    const hash = toHashBytes(fileHash);
    return firstOf(chain, (viewId) => {
      const row = this.#findObject.get(viewId, hash);
      return row && { ...toObjectRecord(row), viewId };
    });
  }

  readonly #findUploadedFile: Query<ObjectRow & { readonly expiresAtMs: number }>;
  findUploadedFile(
    viewId: number,
    fileHash: string,
    compression: string,
  ): UploadedFileRecord | undefined {
    const row = this.#findUploadedFile.get(viewId, toHashBytes(fileHash), compression);
    if (row === undefined) return undefined;
    return {
      viewId,
      fileHash,
      compression: row.compression,
      narHash: fromHashBytes(row.narHash),
      narSize: row.narSize,
      expiresAtMs: row.expiresAtMs,
    };
  }

  readonly #findDocument: Query<{ readonly body: Uint8Array }>;
  findDocument(chain: readonly number[], kind: DocumentKind, name: string): Uint8Array | undefined {
    return firstOf(chain, (viewId) => this.#findDocument.get(viewId, kind, name))?.body;
  }

  readonly #isTokenRevoked: Query<{ readonly found: number }>;
  isTokenRevoked(jti: string): boolean {
    return this.#isTokenRevoked.get(jti) !== undefined;
  }

  readonly #nameSeenAtMs: Query<{ readonly seenAtMs: number }>;
  nameSeenAtMs(key: string): number | undefined {
    return this.#nameSeenAtMs.get(key)?.seenAtMs;
  }

  readonly #readPing: Query<{ readonly count: number }>;
  /** How often the database was pinged. */
  readPing(): number {
    return this.#readPing.get()?.count ?? 0;
  }
}

function firstOf<Row>(
  chain: readonly number[],
  find: (viewId: number) => Row | undefined,
): Row | undefined {
  for (const viewId of chain) {
    const row = find(viewId);
    if (row !== undefined) return row;
  }
  return undefined;
}

/** What was asked, each once and in its order, without what `findPresent` finds given the list as JSON. */
function without(
  asked: readonly string[],
  findPresent: (json: string) => readonly { readonly hash: string }[],
): string[] {
  const distinct = new Set(asked);
  if (distinct.size === 0) return [];
  for (const { hash } of findPresent(JSON.stringify([...distinct]))) distinct.delete(hash);
  return [...distinct];
}
