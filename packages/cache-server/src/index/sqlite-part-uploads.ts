import type { DatabaseSync } from "node:sqlite";

import { CacheError } from "@glorious/core";

import type { PartUploadLimits, PartUploadRecord, UploadPart } from "./part-upload-index.ts";
import { prepareQuery, type Query } from "./sqlite-connection.ts";
import { fromHashBytes, toHashBytes, viewIsThere } from "./sqlite-rows.ts";

const UPLOAD_COLUMNS = `u.id, u.view_id AS viewId, u.nar_hash AS narHash, u.nar_size AS narSize,
  u.part_bytes AS partBytes, u.created_at_ms AS createdAtMs, u.expires_at_ms AS expiresAtMs`;
const PART_COLUMNS = `number, size_bytes AS sizeBytes, sha256`;
/** An upload outlives its view only to be cleaned up. */
const VIEW_IS_THERE = viewIsThere("u.view_id");

interface UploadRow extends Omit<PartUploadRecord, "narHash"> {
  readonly narHash: Uint8Array;
}

interface PartRow extends Omit<UploadPart, "sha256"> {
  readonly sha256: Uint8Array;
}

/** The reading half of uploads in parts; see `SqliteReads`. */
export class SqlitePartUploadReads {
  readonly #database: DatabaseSync;

  constructor(database: DatabaseSync) {
    this.#database = database;
    this.#findUpload = this.#prepare(`
      SELECT ${UPLOAD_COLUMNS} FROM uploads AS u
      WHERE u.id = ?2 AND u.view_id = ?1 AND ${VIEW_IS_THERE}`);
    this.#findUploadOfNar = this.#prepare(`
      SELECT ${UPLOAD_COLUMNS} FROM uploads AS u
      WHERE u.view_id = ?1 AND u.nar_hash = ?2 AND u.part_bytes = ?3 AND u.expires_at_ms > ?4
        AND ${VIEW_IS_THERE}
      ORDER BY u.created_at_ms DESC LIMIT 1`);
    this.#listParts = this.#prepare(
      `SELECT ${PART_COLUMNS} FROM upload_parts WHERE upload_id = ?1 ORDER BY number`,
    );
    this.#listExpired = this.#prepare(`
      SELECT ${UPLOAD_COLUMNS} FROM uploads AS u
      WHERE u.expires_at_ms <= ?1 ORDER BY u.expires_at_ms LIMIT ?2`);
  }

  #prepare<Row>(sql: string): Query<Row> {
    return prepareQuery<Row>(this.#database, sql);
  }

  readonly #findUpload: Query<UploadRow>;
  findUpload(viewId: number, id: string): PartUploadRecord | undefined {
    const row = this.#findUpload.get(viewId, id);
    return row && toPartUploadRecord(row);
  }

  readonly #findUploadOfNar: Query<UploadRow>;
  findUploadOfNar(
    viewId: number,
    wanted: { readonly narHash: string; readonly partBytes: number; readonly nowMs: number },
  ): PartUploadRecord | undefined {
    const { narHash, partBytes, nowMs } = wanted;
    const row = this.#findUploadOfNar.get(viewId, toHashBytes(narHash), partBytes, nowMs);
    return row && toPartUploadRecord(row);
  }

  readonly #listParts: Query<PartRow>;
  listUploadParts(uploadId: string): UploadPart[] {
    return this.#listParts
      .all(uploadId)
      .map(({ sha256, ...part }) => ({ ...part, sha256: fromHashBytes(sha256) }));
  }

  readonly #listExpired: Query<UploadRow>;
  listExpiredUploads(nowMs: number, limit: number): PartUploadRecord[] {
    return this.#listExpired.all(nowMs, limit).map(toPartUploadRecord);
  }
}

/** The writing half of uploads in parts; see `SqliteWrites`. */
export class SqlitePartUploadWrites {
  readonly #database: DatabaseSync;

  constructor(database: DatabaseSync) {
    this.#database = database;
    this.#viewExists = this.#prepare(`SELECT 1 AS found WHERE ${viewIsThere("?1")}`);
    this.#countUploads = this.#prepare(`
      SELECT count(*) AS uploads, coalesce(sum(nar_size), 0) AS narBytes FROM uploads
      WHERE view_id = ?1`);
    this.#insertUpload = this.#prepare(`
      INSERT INTO uploads (id, view_id, nar_hash, nar_size, part_bytes, created_at_ms, expires_at_ms)
      VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (id) DO NOTHING`);
    this.#uploadExists = this.#prepare(
      `SELECT 1 AS found FROM uploads AS u WHERE u.id = ?1 AND ${VIEW_IS_THERE}`,
    );
    this.#insertPart = this.#prepare(`
      INSERT INTO upload_parts (upload_id, number, size_bytes, sha256) VALUES (?1, ?2, ?3, ?4)
      ON CONFLICT (upload_id, number) DO NOTHING`);
    this.#findPart = this.#prepare(
      `SELECT ${PART_COLUMNS} FROM upload_parts WHERE upload_id = ?1 AND number = ?2`,
    );
    this.#extendUpload = this.#prepare(`
      UPDATE uploads AS u SET expires_at_ms = max(expires_at_ms, ?2)
      WHERE u.id = ?1 AND ${VIEW_IS_THERE}`);
    this.#deleteUpload = this.#prepare(`DELETE FROM uploads WHERE id = ?1`);
  }

  #prepare<Row>(sql: string): Query<Row> {
    return prepareQuery<Row>(this.#database, sql);
  }

  readonly #viewExists: Query<{ readonly found: number }>;
  readonly #countUploads: Query<{ readonly uploads: number; readonly narBytes: number }>;
  readonly #insertUpload: Query<never>;
  createUpload(upload: PartUploadRecord, limits?: PartUploadLimits): void {
    const { id, viewId, narHash, narSize, partBytes, createdAtMs, expiresAtMs } = upload;
    if (this.#viewExists.get(viewId) === undefined) {
      throw new CacheError("NOT_FOUND", `There is no view with id ${viewId}`);
    }
    this.#requireRoom(upload, limits);
    const times = [createdAtMs, expiresAtMs];
    if (this.#insertUpload.run(id, viewId, toHashBytes(narHash), narSize, partBytes, ...times) > 0)
      return;
    throw new CacheError("CONFLICT", `There is an upload ${id} already`);
  }

  #requireRoom({ viewId, narSize }: PartUploadRecord, limits: PartUploadLimits | undefined): void {
    const open = limits && this.#countUploads.get(viewId);
    if (open === undefined || limits === undefined) return;
    const isFull =
      open.uploads >= limits.maxUploads || open.narBytes + narSize > limits.maxNarBytes;
    if (!isFull) return;
    throw new CacheError(
      "CONFLICT",
      `The view has ${open.uploads} uploads in parts open, of ${open.narBytes} NAR bytes, and no room for more`,
      { hint: "Send the NAR whole, or wait until others are done or have expired." },
    );
  }

  readonly #uploadExists: Query<{ readonly found: number }>;
  readonly #insertPart: Query<never>;
  readonly #findPart: Query<PartRow>;
  addUploadPart(uploadId: string, { number, sizeBytes, sha256 }: UploadPart): void {
    const hash = toHashBytes(sha256);
    if (this.#uploadExists.get(uploadId) === undefined) {
      throw new CacheError("NOT_FOUND", `There is no upload ${uploadId}`, {
        hint: "It expired, ended or was given up; begin a new one.",
      });
    }
    if (this.#insertPart.run(uploadId, number, sizeBytes, hash) > 0) return;
    const known = this.#findPart.get(uploadId, number);
    if (known?.sizeBytes === sizeBytes && hash.equals(known.sha256)) return;
    throw new CacheError("CONFLICT", `The upload ${uploadId} has another part ${number}`, {
      hint: "The NAR changed, or was encoded by another version; give this upload up and begin anew.",
    });
  }

  readonly #extendUpload: Query<never>;
  extendUpload(id: string, expiresAtMs: number): boolean {
    return this.#extendUpload.run(id, expiresAtMs) > 0;
  }

  readonly #deleteUpload: Query<never>;
  deleteUpload(id: string): boolean {
    return this.#deleteUpload.run(id) > 0;
  }
}

function toPartUploadRecord({ narHash, ...row }: UploadRow): PartUploadRecord {
  return { ...row, narHash: fromHashBytes(narHash) };
}
