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
  created_at_ms AS createdAtMs`;

export interface ViewRow {
  readonly id: number;
  readonly name: string;
  readonly isPublic: number;
  readonly storeDir: string;
  readonly priority: number;
  readonly upstreamCacheKeyNames: string;
  readonly retentionSeconds: number | null;
  readonly createdAtMs: number;
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
    createdAtMs: row.createdAtMs,
  };
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

/** Finds a view's holding of a NAR. Parameters: view id, NAR hash. */
export const FIND_HOLDING: string = `
  SELECT ${OBJECT_COLUMNS}, h.expires_at_ms AS expiresAtMs, h.id AS holdingId, o.id AS objectId
  FROM holdings AS h JOIN objects AS o ON o.id = h.object_id
  WHERE h.view_id = ?1 AND h.nar_hash = ?2`;

export interface HoldingRow extends ObjectRow {
  readonly expiresAtMs: number | null;
  readonly holdingId: number;
  readonly objectId: number;
}

export function toHoldingRecord(row: HoldingRow): HoldingRecord {
  return { ...toObjectRecord(row), expiresAtMs: row.expiresAtMs ?? undefined };
}

/** Columns of a path in a query that calls the table `p`, and its object `o`. */
export const PATH_COLUMNS: string = ` p.view_id AS viewId, p.store_path_hash AS storePathHash, p.store_path AS storePath,
    o.nar_hash AS narHash, o.nar_size AS narSize, o.file_hash AS fileHash, o.file_size AS fileSize,
    p.reference_names AS referenceNames, p.deriver, p.ca, p.system, p.signatures,
    p.nar_info AS narInfo, p.key_generation AS keyGeneration, p.created_at_ms AS createdAtMs, p.created_by AS createdBy`;

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
}

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
  };
}

/** Reads a list of strings that was written with `JSON.stringify`. */
export function parseStrings(json: string): string[] {
  const strings: string[] = JSON.parse(json);
  return strings;
}
