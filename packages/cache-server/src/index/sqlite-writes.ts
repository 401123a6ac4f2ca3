import type { DatabaseSync } from "node:sqlite";

import { CacheError } from "@glorious/core";

import type { Offer } from "./adoption-index.ts";
import type {
  CommitPathsOptions,
  CommitResult,
  ExpireResult,
  HoldingRecord,
  NarInfoChange,
  NewDocument,
  NewHolding,
  NewPath,
  NewSigningKey,
  NewView,
  ObjectRecord,
  UploadedFileRecord,
  ViewChanges,
  ViewCounts,
  ViewRecord,
} from "./cache-index.ts";
import type { PrincipalFacts } from "./provenance-index.ts";
import { SqliteAdoption } from "./sqlite-adoption.ts";
import { SqliteCommit } from "./sqlite-commit.ts";
import { prepareQuery, type Query } from "./sqlite-connection.ts";
import { SqliteProvenanceWriter } from "./sqlite-provenance-writer.ts";
import {
  END_RESERVATION,
  EXPIRE_UNUSED_HOLDING,
  fromHashBytes,
  type HoldingRow,
  OBJECT_COLUMNS,
  type ObjectRow,
  required,
  SELECT_HOLDING,
  toHashBytes,
  toHoldingRecord,
  toViewRecord,
  VIEW_COLUMNS,
  viewIsThere,
  type ViewRow,
} from "./sqlite-rows.ts";
import { SqliteViewDeletion } from "./sqlite-view-deletion.ts";

interface ObjectStateRow extends ObjectRow {
  readonly id: number;
  readonly isDeleting: number;
}

/**
 * The writing half of the index: each method is one operation, run inside a savepoint that its caller
 * opens on a connection that holds the write lock, so what it reads cannot change under it.
 */
export class SqliteWrites {
  readonly #database: DatabaseSync;

  constructor(database: DatabaseSync) {
    this.#database = database;
    this.#insertView = this.#prepare(`
      INSERT INTO views (name, is_public, store_dir, priority, upstream_cache_key_names,
        retention_seconds, max_size_bytes, compression_level, created_at_ms, overlay_of, overlay_key,
        overlay_owner, overlay_ref, signs_upstream, pushes_upstream)
      VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15) ON CONFLICT (name) DO NOTHING RETURNING ${VIEW_COLUMNS}`);
    this.#updateView = this.#prepare(`
      UPDATE views SET is_public = coalesce(?2, is_public), store_dir = coalesce(?3, store_dir),
        priority = coalesce(?4, priority),
        upstream_cache_key_names = coalesce(?5, upstream_cache_key_names),
        retention_seconds = CASE WHEN ?6 THEN ?7 ELSE retention_seconds END,
        max_size_bytes = CASE WHEN ?8 THEN ?9 ELSE max_size_bytes END,
        compression_level = CASE WHEN ?10 THEN ?11 ELSE compression_level END,
        signs_upstream = coalesce(?12, signs_upstream),
        pushes_upstream = coalesce(?13, pushes_upstream)
      WHERE name = ?1 AND is_deleted = 0 AND is_hidden = 0 RETURNING ${VIEW_COLUMNS}`);
    this.#touchOverlay = this.#prepare(`
      UPDATE views SET written_at_ms = ?2
      WHERE id = ?1 AND overlay_of IS NOT NULL AND coalesce(written_at_ms, created_at_ms) < ?2`);
    this.#deletion = new SqliteViewDeletion(database);
    this.#viewExists = this.#prepare(`SELECT 1 AS found WHERE ${viewIsThere("?1")}`);
    this.#addCounts = this.#prepare(`
      UPDATE view_totals SET uploads = uploads + ?2, uploaded_nar_bytes = uploaded_nar_bytes + ?3,
        conflicts = conflicts + ?4
      WHERE view_id = ?1`);
    this.#deleteSigningKeys = this.#prepare(`DELETE FROM signing_keys WHERE view_id = ?1`);
    this.#insertSigningKey = this.#prepare(`
      INSERT INTO signing_keys (view_id, name, secret_key, public_key, created_at_ms)
      VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (view_id, name) DO NOTHING`);
    this.#countSigningKeys = this.#prepare(`
      SELECT count(*) AS total, count(CASE WHEN name = ?2 THEN 1 END) AS named
      FROM signing_keys WHERE view_id = ?1`);
    this.#deleteSigningKey = this.#prepare(
      `DELETE FROM signing_keys WHERE view_id = ?1 AND name = ?2`,
    );
    this.#nextKeyGeneration = this.#prepare(
      `UPDATE views SET key_generation = key_generation + 1 WHERE id = ?1`,
    );

    this.#findObjectState = this.#prepare(`
      SELECT o.id, o.is_deleting AS isDeleting, ${OBJECT_COLUMNS}
      FROM objects AS o WHERE o.file_hash = ?1`);
    this.#insertObject = this.#prepare(`
      INSERT INTO objects (file_hash, file_size, compression, nar_hash, nar_size, reserved_at_ms)
      VALUES (?1, ?2, ?3, ?4, ?5, ?6)`);
    this.#touchObject = this.#prepare(
      `UPDATE objects SET reserved_at_ms = max(reserved_at_ms, ?2) WHERE id = ?1`,
    );
    this.#claimObjects = this.#prepare(`
      UPDATE objects SET is_deleting = 1 WHERE id IN (
        SELECT o.id FROM objects AS o
        WHERE o.is_referenced = 0 AND o.is_deleting = 0 AND o.reserved_at_ms < ?1
        ORDER BY o.reserved_at_ms LIMIT ?2)`);
    this.#listClaimed = this.#prepare(
      `SELECT file_hash AS fileHash FROM objects WHERE is_deleting = 1 ORDER BY id`,
    );
    this.#removeClaimed = this.#prepare(
      `DELETE FROM objects WHERE file_hash = ?1 AND is_deleting = 1`,
    );

    this.#getHolding = this.#prepare(`${SELECT_HOLDING} WHERE h.id = ?1`);
    // A scalar max() with a NULL is NULL: a holding without an expiry keeps having none.
    this.#upsertHolding = this.#prepare(`
      INSERT INTO holdings (view_id, nar_hash, object_id, expires_at_ms) VALUES (?1, ?2, ?3, ?4)
      ON CONFLICT (view_id, nar_hash) DO UPDATE SET
        expires_at_ms = max(expires_at_ms, excluded.expires_at_ms),
        object_id = CASE WHEN ?5 OR is_lost THEN excluded.object_id ELSE object_id END
      RETURNING id`);
    this.#upsertUploadedFile = this.#prepare(`
      INSERT INTO uploaded_files (view_id, object_id, expires_at_ms, counted_bytes)
      SELECT ?1, o.id, ?3, CASE WHEN EXISTS (SELECT 1 FROM holdings WHERE object_id = o.id AND view_id = ?1)
        THEN 0 ELSE o.file_size END
      FROM objects AS o WHERE o.id = ?2
      ON CONFLICT (view_id, object_id) DO UPDATE SET
        expires_at_ms = max(expires_at_ms, excluded.expires_at_ms)`);

    this.#commit = new SqliteCommit(database);
    this.#adoption = new SqliteAdoption(database);
    this.#replaceNarInfo = this.#prepare(
      `UPDATE paths SET nar_info = ?3, key_generation = ?4
       WHERE view_id = ?1 AND store_path_hash = ?2 AND nar_info = ?5`,
    );
    this.#deletePath = this.#prepare(
      `DELETE FROM paths WHERE view_id = ?1 AND store_path_hash = ?2 AND ${viewIsThere("?1")}
       RETURNING holding_id AS holdingId`,
    );
    this.#expireUnusedHolding = this.#prepare(EXPIRE_UNUSED_HOLDING);

    this.#insertDocument = this.#prepare(`
      INSERT INTO documents (view_id, kind, name, body, created_at_ms) VALUES (?1, ?2, ?3, ?4, ?5)
      ON CONFLICT (view_id, kind, name) DO UPDATE
        SET body = excluded.body, created_at_ms = excluded.created_at_ms, revocation_id = NULL
        WHERE revocation_id IS NOT NULL`);
    this.#provenance = new SqliteProvenanceWriter(database);
    this.#endReservation = this.#prepare(END_RESERVATION);
    this.#liftHolding = this.#prepare(
      `UPDATE holdings SET revocation_id = NULL WHERE id = ?1 AND revocation_id IS NOT NULL`,
    );
    this.#holdsNar = this.#prepare(
      `SELECT 1 AS found FROM holdings WHERE view_id = ?1 AND nar_hash = ?2`,
    );
    this.#revokeToken = this.#prepare(`
      INSERT INTO revoked_tokens (jti, expires_at_ms) VALUES (?1, ?2)
      ON CONFLICT (jti) DO UPDATE SET expires_at_ms = max(expires_at_ms, excluded.expires_at_ms)`);
    this.#noteName = this.#prepare(`
      INSERT INTO seen_names (key, seen_at_ms) VALUES (?1, ?2)
      ON CONFLICT (key) DO UPDATE SET seen_at_ms = max(seen_at_ms, excluded.seen_at_ms)`);

    this.#expireHoldings = this.#prepare(`
      DELETE FROM holdings WHERE id IN (
        SELECT id FROM holdings WHERE expires_at_ms <= ?1 ORDER BY expires_at_ms LIMIT ?2)`);
    this.#expireUploadedFiles = this.#prepare(`
      DELETE FROM uploaded_files WHERE (view_id, object_id) IN (
        SELECT view_id, object_id FROM uploaded_files
        WHERE expires_at_ms <= ?1 ORDER BY expires_at_ms LIMIT ?2)`);
    this.#expireRevocations = this.#prepare(`
      DELETE FROM revoked_tokens WHERE jti IN (
        SELECT jti FROM revoked_tokens WHERE expires_at_ms <= ?1 ORDER BY expires_at_ms LIMIT ?2)`);
    this.#ping = this.#prepare(`UPDATE pings SET count = count + 1 WHERE id = 1 RETURNING count`);
  }

  #prepare<Row>(sql: string): Query<Row> {
    return prepareQuery<Row>(this.#database, sql);
  }

  readonly #insertView: Query<ViewRow>;
  createView(view: NewView, key: NewSigningKey): ViewRecord {
    if (view.overlayOf !== undefined) this.#requireView(view.overlayOf);
    const row = this.#insertView.get(
      view.name,
      Number(view.isPublic),
      view.storeDir,
      view.priority,
      JSON.stringify(view.upstreamCacheKeyNames),
      view.retentionSeconds ?? null,
      view.maxSizeBytes ?? null,
      view.compressionLevel ?? null,
      view.createdAtMs,
      view.overlayOf ?? null,
      view.overlayKey ?? null,
      view.overlayOwner ?? null,
      view.overlayRef ?? null,
      Number(view.signsUpstream ?? false),
      Number(view.pushesUpstream ?? false),
    );
    if (row === undefined) {
      throw new CacheError("CONFLICT", `The view ${view.name} exists already`, {
        hint: "Choose another name, or configure the view that is there.",
      });
    }
    this.#insertKey(row.id, key);
    return toViewRecord(row);
  }

  readonly #updateView: Query<ViewRow>;
  updateView(name: string, changes: ViewChanges): ViewRecord | undefined {
    const { isPublic, storeDir, priority, upstreamCacheKeyNames } = changes;
    const row = this.#updateView.get(
      name,
      optionalFlag(isPublic),
      storeDir ?? null,
      priority ?? null,
      upstreamCacheKeyNames === undefined ? null : JSON.stringify(upstreamCacheKeyNames),
      ...resettable(changes.retentionSeconds),
      ...resettable(changes.maxSizeBytes),
      ...resettable(changes.compressionLevel),
      optionalFlag(changes.signsUpstream),
      optionalFlag(changes.pushesUpstream),
    );
    return row && toViewRecord(row);
  }

  readonly #touchOverlay: Query<never>;
  touchOverlay(viewId: number, atMs: number): void {
    this.#touchOverlay.run(viewId, atMs);
  }

  readonly #deletion: SqliteViewDeletion;
  deleteView(name: string): boolean {
    return this.#deletion.begin(name);
  }

  purgeDeletedViews(limit: number): number {
    return this.#deletion.purge(limit);
  }

  readonly #addCounts: Query<never>;
  addCounts(viewId: number, counts: Partial<ViewCounts>): void {
    const { uploads = 0, uploadedNarBytes = 0, conflicts = 0 } = counts;
    this.#requireView(viewId);
    this.#addCounts.run(viewId, uploads, uploadedNarBytes, conflicts);
  }

  readonly #deleteSigningKeys: Query<never>;
  replaceSigningKeys(viewId: number, key: NewSigningKey): void {
    this.#requireView(viewId);
    this.#deleteSigningKeys.run(viewId);
    this.#insertKey(viewId, key);
    this.#nextKeyGeneration.run(viewId);
  }

  readonly #nextKeyGeneration: Query<never>;
  addSigningKey(viewId: number, key: NewSigningKey): void {
    this.#requireView(viewId);
    this.#insertKey(viewId, key);
    this.#nextKeyGeneration.run(viewId);
  }

  readonly #countSigningKeys: Query<{ readonly total: number; readonly named: number }>;
  readonly #deleteSigningKey: Query<never>;
  removeSigningKey(viewId: number, name: string): boolean {
    this.#requireView(viewId);
    const counts = this.#countSigningKeys.get(viewId, name);
    if (counts === undefined || counts.named === 0) return false;
    if (counts.total === 1) {
      throw new CacheError("CONFLICT", `${name} is the only signing key of its view`, {
        hint: "Add another key first, and let clients trust it.",
      });
    }
    this.#deleteSigningKey.run(viewId, name);
    this.#nextKeyGeneration.run(viewId);
    return true;
  }

  readonly #insertSigningKey: Query<never>;
  #insertKey(viewId: number, { name, secretKey, publicKey, createdAtMs }: NewSigningKey): void {
    if (this.#insertSigningKey.run(viewId, name, secretKey, publicKey, createdAtMs) > 0) return;
    throw new CacheError("CONFLICT", `The view has a signing key ${name} already`, {
      hint: "Give the new key another name: clients know keys by their names.",
    });
  }

  readonly #findObjectState: Query<ObjectStateRow>;
  readonly #insertObject: Query<never>;
  readonly #touchObject: Query<never>;
  reserveObject(object: ObjectRecord, nowMs: number): "reserved" | "busy" {
    const fileHash = toHashBytes(object.fileHash);
    const narHash = toHashBytes(object.narHash);
    const existing = this.#findObjectState.get(fileHash);
    if (existing === undefined) {
      const { fileSize, compression, narSize } = object;
      this.#insertObject.run(fileHash, fileSize, compression, narHash, narSize, nowMs);
      return "reserved";
    }
    if (existing.isDeleting === 1) return "busy";
    if (
      existing.compression !== object.compression ||
      existing.fileSize !== object.fileSize ||
      existing.narSize !== object.narSize ||
      !narHash.equals(existing.narHash)
    ) {
      throw new CacheError(
        "CONFLICT",
        `The object ${object.fileHash} is known as another encoding than ${object.compression} of the NAR ${object.narHash}`,
        { hint: "Send the NAR in another compression." },
      );
    }
    this.#touchObject.run(existing.id, nowMs);
    return "reserved";
  }

  readonly #getHolding: Query<HoldingRow>;
  readonly #upsertHolding: Query<{ readonly id: number }>;
  holdNar(holding: NewHolding): HoldingRecord {
    const { viewId, expiresAtMs, replaceObject = false, isAsItCame = false } = holding;
    const narHash = toHashBytes(holding.narHash);
    this.#requireView(viewId);
    const object = this.#requireReserved(holding.fileHash);
    const isHoldable = isAsItCame || object.compression === "zstd";
    if (!isHoldable || !narHash.equals(object.narHash)) {
      throw new Error(`The object ${holding.fileHash} is not the NAR ${holding.narHash} in zstd`);
    }
    const { id } = required(
      this.#upsertHolding.get(viewId, narHash, object.id, expiresAtMs, Number(replaceObject)),
    );
    // Bytes that came and were verified are nobody's any more.
    this.#liftHolding.run(id);
    if (isAsItCame) this.#endReservation.run(object.id);
    return toHoldingRecord(required(this.#getHolding.get(id)));
  }

  readonly #liftHolding: Query<never>;
  readonly #endReservation: Query<never>;

  readonly #upsertUploadedFile: Query<never>;
  addUploadedFile(file: UploadedFileRecord): void {
    this.#requireView(file.viewId);
    const object = this.#requireReserved(file.fileHash);
    if (
      object.compression !== file.compression ||
      object.narSize !== file.narSize ||
      fromHashBytes(object.narHash) !== file.narHash
    ) {
      throw new Error(`The object ${file.fileHash} was reserved with another compression or NAR`);
    }
    this.#upsertUploadedFile.run(file.viewId, object.id, file.expiresAtMs);
  }

  readonly #commit: SqliteCommit;
  commitPaths(
    viewId: number,
    paths: readonly NewPath[],
    { behind = [], writer, adopts }: CommitPathsOptions,
  ): CommitResult {
    this.#requireView(viewId);
    const principalId = writer && this.#provenance.requirePrincipal(writer);
    if (adopts === undefined) return this.#commit.run(viewId, paths, { behind, principalId });
    const offered = paths.filter(
      ({ storePathHash, narHash }) =>
        this.#adoption.findOfferedNar(adopts, storePathHash) === narHash,
    );
    for (const { narHash, fileHash, createdAtMs } of offered) {
      // It expires at once unless its path is committed now.
      this.holdNar({ viewId, narHash, fileHash, expiresAtMs: createdAtMs });
    }
    const result = this.#commit.run(viewId, offered, { behind, principalId });
    if (result.kind === "committed") {
      const created = new Set(result.created);
      for (const { storePathHash: name, createdAtMs: atMs } of offered) {
        if (!created.has(name)) continue;
        this.#adoption.copyWriters(viewId, adopts, { kind: "path", name, atMs });
      }
    }
    return result;
  }

  readonly #adoption: SqliteAdoption;
  adoptDocuments(
    viewId: number,
    offer: Offer,
    {
      writer,
      atMs,
      limit,
    }: { readonly writer: PrincipalFacts; readonly atMs: number; readonly limit: number },
  ): number {
    this.#requireView(viewId);
    const principalId = this.#provenance.requirePrincipal(writer);
    const documents = this.#adoption.listOfferedDocuments(viewId, offer, limit);
    for (const { kind, name, body } of documents) {
      this.#insertDocument.run(viewId, kind, name, body, atMs);
      this.#provenance.addEntry(viewId, principalId, { kind, name, atMs });
      this.#adoption.copyWriters(viewId, offer, { kind, name, atMs });
    }
    return documents.length;
  }

  readonly #replaceNarInfo: Query<never>;
  replaceNarInfos(viewId: number, changes: readonly NarInfoChange[]): void {
    for (const { storePathHash, narInfo, keyGeneration, replaces } of changes) {
      this.#replaceNarInfo.run(viewId, storePathHash, narInfo, keyGeneration, replaces);
    }
  }

  readonly #deletePath: Query<{ readonly holdingId: number }>;
  readonly #expireUnusedHolding: Query<never>;
  deletePath(viewId: number, storePathHash: string, narExpiresAtMs: number): boolean {
    const row = this.#deletePath.get(viewId, storePathHash);
    if (row === undefined) return false;
    this.#expireUnusedHolding.run(row.holdingId, narExpiresAtMs);
    return true;
  }

  readonly #provenance: SqliteProvenanceWriter;
  readonly #insertDocument: Query<never>;
  readonly #holdsNar: Query<{ readonly found: number }>;
  putDocument(viewId: number, document: NewDocument, writer?: PrincipalFacts): boolean {
    this.#requireView(viewId);
    const principalId = writer && this.#provenance.requirePrincipal(writer);
    const { kind, name, body, createdAtMs } = document;
    const isOrphan =
      kind === "listing" && this.#holdsNar.get(viewId, toHashBytes(name)) === undefined;
    if (isOrphan) return false;
    const isKept = this.#insertDocument.run(viewId, kind, name, body, createdAtMs) > 0;
    if (isKept && principalId !== undefined && kind !== "listing") {
      this.#provenance.addEntry(viewId, principalId, { kind, name, atMs: createdAtMs });
    }
    return isKept;
  }

  readonly #revokeToken: Query<never>;
  revokeToken(jti: string, expiresAtMs: number | undefined): void {
    this.#revokeToken.run(jti, expiresAtMs ?? null);
  }

  readonly #noteName: Query<never>;
  noteName(key: string, atMs: number): void {
    this.#noteName.run(key, atMs);
  }

  readonly #expireHoldings: Query<never>;
  readonly #expireUploadedFiles: Query<never>;
  readonly #expireRevocations: Query<never>;
  expire(nowMs: number, limit: number): ExpireResult {
    return {
      holdings: this.#expireHoldings.run(nowMs, limit),
      uploadedFiles: this.#expireUploadedFiles.run(nowMs, limit),
      revocations: this.#expireRevocations.run(nowMs, limit),
    };
  }

  readonly #claimObjects: Query<never>;
  readonly #listClaimed: Query<{ readonly fileHash: Uint8Array }>;
  claimUnreferencedObjects(reservedBeforeMs: number, limit: number): string[] {
    this.#claimObjects.run(reservedBeforeMs, limit);
    return this.#listClaimed.all().map((row) => fromHashBytes(row.fileHash));
  }

  readonly #removeClaimed: Query<never>;
  removeClaimedObjects(fileHashes: readonly string[]): void {
    for (const fileHash of fileHashes) this.#removeClaimed.run(toHashBytes(fileHash));
  }

  readonly #ping: Query<{ readonly count: number }>;
  /** Writes, and returns what a read must see afterwards. */
  ping(): number {
    const row = this.#ping.get();
    if (row === undefined) throw new Error("The row that a ping writes is gone");
    return row.count;
  }

  readonly #viewExists: Query<{ readonly found: number }>;
  #requireView(viewId: number): void {
    if (this.#viewExists.get(viewId) === undefined) {
      throw new CacheError("NOT_FOUND", `There is no view with id ${viewId}`, {
        hint: "It was removed a moment ago; look it up by its name again.",
      });
    }
  }

  #requireReserved(fileHash: string): ObjectStateRow {
    const object = this.#findObjectState.get(toHashBytes(fileHash));
    if (object === undefined || object.isDeleting === 1) {
      throw new CacheError(
        "UNAVAILABLE",
        `The object ${fileHash} was not reserved, or is no more`,
        {
          hint: "Its upload took longer than unreferenced objects live; send it again.",
        },
      );
    }
    return object;
  }
}

function optionalFlag(flag: boolean | undefined): number | null {
  return flag === undefined ? null : Number(flag);
}

/** Whether a setting changes, and to what. */
function resettable(change: number | "default" | undefined): [number, number | null] {
  return [Number(change !== undefined), change === "default" ? null : (change ?? null)];
}
