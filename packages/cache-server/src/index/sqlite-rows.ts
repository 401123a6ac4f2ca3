import type {
  HoldingRecord,
  ObjectCompression,
  ObjectRecord,
  PathRecord,
  SigningKeyRecord,
  ViewRecord,
} from "./cache-index.ts";

/** A SHA-256 as the database keeps it. @throws {Error} when `hex` is not 64 lowercase hexadecimal digits. */
export function toHashBytes(hex: string): Buffer {
  if (!/^[0-9a-f]{64}$/.test(hex)) {
    throw new Error(`${JSON.stringify(hex)} is not a SHA-256 in lowercase hexadecimal`);
  }
  return Buffer.from(hex, "hex");
}

/** The lowercase hexadecimal form of a hash the database kept. */
export function fromHashBytes(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("hex");
}

export const VIEW_COLUMNS: string = `id, name, is_public AS isPublic, store_dir AS storeDir, priority,
  upstream_cache_key_names AS upstreamCacheKeyNames, retention_seconds AS retentionSeconds,
  max_size_bytes AS maxSizeBytes, compression_level AS compressionLevel,
  created_at_ms AS createdAtMs, overlay_of AS overlayOf, overlay_key AS overlayKey,
  overlay_owner AS overlayOwner, overlay_ref AS overlayRef, written_at_ms AS writtenAtMs,
  signs_upstream AS signsUpstream, pushes_upstream AS pushesUpstream`;

export interface ViewRow {
  readonly id: number;
  readonly name: string;
  readonly isPublic: number;
  readonly storeDir: string;
  readonly priority: number;
  readonly upstreamCacheKeyNames: string;
  readonly retentionSeconds: number | null;
  readonly maxSizeBytes: number | null;
  readonly compressionLevel: number | null;
  readonly createdAtMs: number;
  readonly overlayOf: number | null;
  readonly overlayKey: string | null;
  readonly overlayOwner: string | null;
  readonly overlayRef: string | null;
  readonly writtenAtMs: number | null;
  readonly signsUpstream: number;
  readonly pushesUpstream: number;
}

export function toViewRecord(row: ViewRow): ViewRecord {
  return {
    id: row.id,
    name: row.name,
    isPublic: row.isPublic === 1,
    storeDir: row.storeDir,
    priority: row.priority,
    upstreamCacheKeyNames: parseStrings(row.upstreamCacheKeyNames),
    retentionSeconds: row.retentionSeconds ?? undefined,
    maxSizeBytes: row.maxSizeBytes ?? undefined,
    compressionLevel: row.compressionLevel ?? undefined,
    signsUpstream: row.signsUpstream === 1,
    pushesUpstream: row.pushesUpstream === 1,
    createdAtMs: row.createdAtMs,
    ...(row.overlayOf === null
      ? {}
      : {
          overlayOf: row.overlayOf,
          overlayKey: row.overlayKey ?? undefined,
          overlayOwner: row.overlayOwner ?? undefined,
          overlayRef: row.overlayRef ?? undefined,
          writtenAtMs: row.writtenAtMs ?? row.createdAtMs,
        }),
  };
}

/** Whether a view is there, rather than deleted and not purged yet. */
export function viewIsThere(viewId: string): string {
  return `EXISTS (SELECT 1 FROM views WHERE id = ${viewId} AND is_deleted = 0)`;
}

export const SIGNING_KEY_COLUMNS: string = `name, secret_key AS secretKey, public_key AS publicKey,
  created_at_ms AS createdAtMs`;

export function toSigningKeyRecord(row: SigningKeyRecord): SigningKeyRecord {
  // A row has no prototype; a record is a plain object.
  return { ...row };
}

/** Columns of an object in a query that calls the table `o`. */
export const OBJECT_COLUMNS: string = `o.file_hash AS fileHash, o.file_size AS fileSize, o.compression,
  o.nar_hash AS narHash, o.nar_size AS narSize`;

export interface ObjectRow {
  readonly fileHash: Uint8Array;
  readonly fileSize: number;
  readonly compression: ObjectCompression;
  readonly narHash: Uint8Array;
  readonly narSize: number;
}

export function toObjectRecord(row: ObjectRow): ObjectRecord {
  return {
    fileHash: fromHashBytes(row.fileHash),
    fileSize: row.fileSize,
    compression: row.compression,
    narHash: fromHashBytes(row.narHash),
    narSize: row.narSize,
  };
}

/** A holding's columns, to go before `WHERE`; the holding is `h`. */
export const SELECT_HOLDING: string = `
  SELECT ${OBJECT_COLUMNS}, h.expires_at_ms AS expiresAtMs, h.id AS holdingId, o.id AS objectId
  FROM holdings AS h JOIN objects AS o ON o.id = h.object_id`;

/** Finds a view's holding of a NAR, unless it is lost. Parameters: view id, NAR hash. */
export const FIND_HOLDING: string = `
  ${SELECT_HOLDING} WHERE h.view_id = ?1 AND h.nar_hash = ?2 AND h.is_lost = 0`;

/** An object that can be fetched again need not outlive its last holding. Parameter: its id. */
export const END_RESERVATION = `UPDATE objects SET reserved_at_ms = 0 WHERE id = ?1`;

/** Lets a holding expire when no path has it. Parameters: its id, when. */
export const EXPIRE_UNUSED_HOLDING: string = `
  UPDATE holdings SET expires_at_ms = ?2
  WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM paths WHERE holding_id = ?1)`;

export interface HoldingRow extends ObjectRow {
  readonly expiresAtMs: number | null;
  readonly holdingId: number;
  readonly objectId: number;
}

export function toHoldingRecord(row: HoldingRow): HoldingRecord {
  return { ...toObjectRecord(row), expiresAtMs: row.expiresAtMs ?? undefined };
}

/** A path's columns, to go before `WHERE`; the path is `p`. */
export const SELECT_PATH: string = `
  SELECT p.view_id AS viewId, p.store_path_hash AS storePathHash, p.store_path AS storePath,
    o.nar_hash AS narHash, o.nar_size AS narSize, o.file_hash AS fileHash, o.file_size AS fileSize,
    p.reference_names AS referenceNames, p.deriver, p.ca, p.system, p.signatures,
    p.nar_info AS narInfo, p.key_generation AS keyGeneration, p.created_at_ms AS createdAtMs,
    p.created_by AS createdBy, a.accessed_at_ms AS accessedAtMs
  FROM paths AS p
    JOIN objects AS o ON o.id = p.object_id
    JOIN path_accesses AS a ON a.path_id = p.id`;

/** Moves a path's access time forward. Parameters: view id, store path hash, the time. */
export const TOUCH_PATH: string = `
  UPDATE path_accesses SET accessed_at_ms = ?3
  WHERE path_id = (SELECT id FROM paths WHERE view_id = ?1 AND store_path_hash = ?2)
    AND accessed_at_ms < ?3`;

/**
 * Moves the access times forward of a view's paths that have the NAR of an object. Parameters: view id, file hash,
 * the time.
 */
export const TOUCH_NAR: string = `
  UPDATE path_accesses SET accessed_at_ms = ?3
  WHERE accessed_at_ms < ?3 AND path_id IN (
    SELECT p.id FROM objects AS o
      JOIN holdings AS h ON h.view_id = ?1 AND h.nar_hash = o.nar_hash
      JOIN paths AS p ON p.holding_id = h.id
    WHERE o.file_hash = ?2)`;

/** Whether a view has a path that is not lost, without a look at its wide row. */
export function pathIsThere(viewId: string, storePathHash: string): string {
  return `${viewIsThere(viewId)} AND EXISTS (SELECT 1 FROM paths WHERE view_id = ${viewId} AND store_path_hash = ${storePathHash})
    AND NOT EXISTS (SELECT 1 FROM paths INDEXED BY paths_lost
      WHERE view_id = ${viewId} AND store_path_hash = ${storePathHash} AND is_lost = 1)`;
}

export interface PathRow {
  readonly viewId: number;
  readonly storePathHash: string;
  readonly storePath: string;
  readonly narHash: Uint8Array;
  readonly narSize: number;
  readonly fileHash: Uint8Array;
  readonly fileSize: number;
  readonly referenceNames: string;
  readonly deriver: string | null;
  readonly ca: string | null;
  readonly system: string | null;
  readonly signatures: string;
  readonly narInfo: string;
  readonly keyGeneration: number;
  readonly createdAtMs: number;
  readonly createdBy: string | null;
  readonly accessedAtMs: number;
}

export type NarInfoRow = Pick<
  PathRow,
  "viewId" | "storePathHash" | "referenceNames" | "narInfo" | "accessedAtMs"
>;

export function toPathRecord(row: PathRow): PathRecord {
  return {
    viewId: row.viewId,
    storePathHash: row.storePathHash,
    storePath: row.storePath,
    narHash: fromHashBytes(row.narHash),
    narSize: row.narSize,
    fileHash: fromHashBytes(row.fileHash),
    fileSize: row.fileSize,
    references: parseStrings(row.referenceNames),
    deriver: row.deriver ?? undefined,
    ca: row.ca ?? undefined,
    system: row.system ?? undefined,
    signatures: parseStrings(row.signatures),
    narInfo: row.narInfo,
    keyGeneration: row.keyGeneration,
    createdAtMs: row.createdAtMs,
    createdBy: row.createdBy ?? undefined,
    accessedAtMs: row.accessedAtMs,
  };
}

/** What a statement that always answers has answered. */
export function required<Row>(row: Row | undefined): Row {
  if (row === undefined) throw new Error("A statement answered no row");
  return row;
}

/** Reads a list of strings that was written with `JSON.stringify`. */
export function parseStrings(json: string): string[] {
  const strings: string[] = JSON.parse(json);
  return strings;
}
