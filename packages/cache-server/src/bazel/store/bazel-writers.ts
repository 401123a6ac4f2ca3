import type { DatabaseSync } from "node:sqlite";

import { CacheError } from "@glorious/core";

import { prepareQuery, type Query } from "../../index/sqlite-connection.ts";
import { moduleBeside } from "../../index/sqlite-writer.ts";
import { ProvenanceWrites } from "./provenance-writes.ts";
import type { WriteOrigin } from "./write-book.ts";

/** Bytes that are new to the index: in `data` when they are few, else in `file`. */
export interface NewObject {
  readonly form: 0 | 1;
  readonly sizeBytes: number;
  readonly storedBytes: number;
  readonly file: string | undefined;
  readonly data: Uint8Array | undefined;
}

export interface NewBlob extends NewObject {
  /** When its bytes were hashed, in milliseconds. */
  readonly verifiedMs: number;
  readonly scopeId: number;
  readonly hash: Uint8Array;
  readonly accessed: number;
  readonly origin: WriteOrigin;
}

/** Small blobs in columns: a figure for each, and their hashes and bytes one after the other. */
export interface NewBlobs {
  readonly hashes: Uint8Array;
  readonly forms: Uint8Array;
  readonly sizes: Int32Array;
  /** The only one in its memory. */
  readonly data: Uint8Array<ArrayBuffer>;
  /** Where the bytes of each end. */
  readonly ends: Int32Array;
}

export interface NewKeyedValue extends NewObject {
  readonly verifiedMs: number;
  readonly scopeId: number;
  readonly key: string;
  readonly sha256: Uint8Array;
  readonly accessed: number;
  readonly origin: WriteOrigin;
}

/** What a write did to the store: files that nothing refers to now, and how many bytes came or went. */
export interface StoreChange {
  readonly unusedFiles: readonly string[];
  /** Negative when bytes went. */
  readonly addedBytes: number;
}

interface ObjectRow {
  readonly file: string | null;
  readonly sizeBytes: number;
  readonly storedBytes: number;
  readonly owners: number;
}

/** What a scope holds more, or less. */
interface ScopeChange {
  readonly storedBytes?: number;
  readonly logicalBytes?: number;
  readonly blobs?: number;
  readonly actions?: number;
  readonly keyedValues?: number;
}

const BLOB: ScopeChange = { blobs: -1 };
const KEYED_VALUE: ScopeChange = { keyedValues: -1 };

interface OwnedRow {
  readonly objectId: number;
}

/** 1 when the row's write is revoked, so that the row counts as absent. */
const IS_REVOKED = `EXISTS (
  SELECT 1 FROM writes AS w WHERE w.id = write_id AND w.revocation_id IS NOT NULL)`;

/** What an ActionResult or keyed value takes beside its bytes, so that many tiny ones count as well. */
const ROW_BYTES = 100;

/** Later than every period. */
const NEVER = 2 ** 31;

/** Every write of a tenant's Bazel index; each method is one operation. */
export class BazelWrites {
  readonly #provenance: ProvenanceWrites;
  readonly #insertScope: Query<{ readonly id: number }>;
  readonly #addToScope: Query<never>;
  readonly #addTotal: Query<never>;
  readonly #deleteScope: Query<never>;
  readonly #findBlob: Query<OwnedRow & { readonly isRevoked: number }>;
  readonly #findShared: Query<OwnedRow & { readonly storedBytes: number }>;
  readonly #insertBlob: Query<never>;
  readonly #deleteBlob: Query<OwnedRow>;
  readonly #owners: Query<{ readonly scopeId: number }>;
  readonly #touchBlob: Query<never>;
  readonly #insertObject: Query<{ readonly id: number }>;
  readonly #insertContent: Query<never>;
  readonly #deleteContents: Query<never>;
  readonly #getObject: Query<ObjectRow>;
  readonly #addOwner: Query<never>;
  readonly #deleteObject: Query<never>;
  readonly #findActionBytes: Query<{
    readonly bytes: number;
    readonly writeId: number;
    readonly isRevoked: number;
  }>;
  readonly #insertSuperseded: Query<never>;
  readonly #resolveAction: Query<never>;
  readonly #upsertAction: Query<never>;
  readonly #deleteAction: Query<{ readonly bytes: number }>;
  readonly #touchAction: Query<never>;
  readonly #insertValue: Query<never>;
  readonly #deleteValue: Query<OwnedRow>;
  readonly #touchValue: Query<never>;
  readonly #upsertLayout: Query<never>;
  readonly #markVerified: Query<never>;

  constructor(database: DatabaseSync, provenance: ProvenanceWrites) {
    this.#provenance = provenance;
    const prepare = <Row>(sql: string): Query<Row> => prepareQuery<Row>(database, sql);
    this.#insertScope = prepare(`
      INSERT INTO scopes (view_id, instance) VALUES (?1, ?2)
      ON CONFLICT (view_id, instance) DO UPDATE SET instance = excluded.instance RETURNING id`);
    this.#addToScope = prepare(`
      UPDATE scopes SET stored_bytes = stored_bytes + ?2, logical_bytes = logical_bytes + ?3,
        blobs = blobs + ?4, actions = actions + ?5, keyed_values = keyed_values + ?6
      WHERE id = ?1`);
    this.#addTotal = prepare(`UPDATE totals SET stored_bytes = stored_bytes + ?1`);
    this.#deleteScope = prepare(`
      DELETE FROM scopes WHERE id = ?1
        AND NOT EXISTS (SELECT 1 FROM blobs WHERE scope_id = ?1)
        AND NOT EXISTS (SELECT 1 FROM actions WHERE scope_id = ?1)
        AND NOT EXISTS (SELECT 1 FROM keyed_values WHERE scope_id = ?1)`);

    this.#findBlob = prepare(
      `SELECT object_id AS objectId, ${IS_REVOKED} AS isRevoked FROM blobs
       WHERE hash = ?1 AND scope_id = ?2`,
    );
    this.#findShared = prepare(`
      SELECT b.object_id AS objectId, o.stored_bytes AS storedBytes
      FROM blobs AS b JOIN objects AS o ON o.id = b.object_id
      WHERE b.hash = ?1 AND b.size_bytes = ?2 AND NOT ${IS_REVOKED} LIMIT 1`);
    this.#insertBlob = prepare(`
      INSERT INTO blobs (hash, scope_id, object_id, size_bytes, accessed, write_id)
      VALUES (?1, ?2, ?3, ?4, ?5, ?6)`);
    this.#deleteBlob = prepare(`
      DELETE FROM blobs WHERE hash = ?1 AND scope_id = ?2 AND accessed < ?3
      RETURNING object_id AS objectId`);
    this.#owners = prepare(`SELECT scope_id AS scopeId FROM blobs WHERE hash = ?1`);
    this.#touchBlob = prepare(
      `UPDATE blobs SET accessed = ?3 WHERE hash = ?1 AND scope_id = ?2 AND accessed < ?3`,
    );

    this.#insertObject = prepare(`
      INSERT INTO objects (form, size_bytes, stored_bytes, file, owners, verified_ms)
      VALUES (?1, ?2, ?3, ?4, 1, ?5) RETURNING id`);
    this.#insertContent = prepare(`INSERT INTO contents (object_id, data) VALUES (?1, ?2)`);
    this.#deleteContents = prepare(`DELETE FROM contents WHERE object_id BETWEEN ?1 AND ?2`);
    this.#getObject = prepare(
      `SELECT file, size_bytes AS sizeBytes, stored_bytes AS storedBytes, owners
       FROM objects WHERE id = ?1`,
    );
    this.#addOwner = prepare(`UPDATE objects SET owners = owners + ?2 WHERE id = ?1`);
    this.#deleteObject = prepare(`DELETE FROM objects WHERE id = ?1`);

    const actionBytes = `length(result) + coalesce(length(refers_to), 0) + ${ROW_BYTES} AS bytes`;
    this.#findActionBytes = prepare(
      `SELECT ${actionBytes}, write_id AS writeId, ${IS_REVOKED} AS isRevoked FROM actions WHERE hash = ?1 AND scope_id = ?2`,
    );
    this.#insertSuperseded = prepare(`
      INSERT INTO superseded (hash, scope_id, write_id, at_ms) VALUES (?1, ?2, ?3, ?4)
      ON CONFLICT DO NOTHING`);
    this.#resolveAction = prepare(`
      UPDATE actions SET refers_to = ?4, accessed = max(accessed, ?5)
      WHERE hash = ?1 AND scope_id = ?2 AND result = ?3 AND refers_to IS NULL`);
    this.#upsertAction = prepare(`
      INSERT INTO actions (hash, scope_id, result, refers_to, accessed, write_id)
      VALUES (?1, ?2, ?3, ?4, ?5, ?6)
      ON CONFLICT (hash, scope_id) DO UPDATE SET result = excluded.result,
        refers_to = excluded.refers_to, accessed = excluded.accessed, write_id = excluded.write_id`);
    this.#deleteAction = prepare(`
      DELETE FROM actions WHERE hash = ?1 AND scope_id = ?2 AND accessed < ?3
      RETURNING ${actionBytes}`);
    this.#touchAction = prepare(
      `UPDATE actions SET accessed = ?3 WHERE hash = ?1 AND scope_id = ?2 AND accessed < ?3`,
    );

    this.#insertValue = prepare(`
      INSERT INTO keyed_values (scope_id, key, object_id, sha256, accessed, write_id)
      VALUES (?1, ?2, ?3, ?4, ?5, ?6)`);
    this.#deleteValue = prepare(`
      DELETE FROM keyed_values WHERE scope_id = ?1 AND key = ?2 AND accessed < ?3
      RETURNING object_id AS objectId`);
    this.#touchValue = prepare(
      `UPDATE keyed_values SET accessed = ?3 WHERE scope_id = ?1 AND key = ?2 AND accessed < ?3`,
    );
    this.#markVerified = prepare(`UPDATE objects SET verified_ms = ?2 WHERE id = ?1`);
    this.#upsertLayout = prepare(`
      INSERT INTO layouts (hash, scope_id, chunks)
      SELECT hash, scope_id, ?3 FROM blobs WHERE hash = ?1 AND scope_id = ?2
      ON CONFLICT (hash, scope_id) DO UPDATE SET chunks = excluded.chunks`);
  }

  openScope(viewId: number, instance: string): number {
    const scope = this.#insertScope.get(viewId, instance);
    if (scope === undefined) throw new Error("A scope was neither made nor found");
    return scope.id;
  }

  /** Forgets a scope that holds nothing. */
  deleteScope(scopeId: number): boolean {
    return this.#deleteScope.run(scopeId) > 0;
  }

  putBlob(blob: NewBlob): StoreChange {
    const { scopeId, hash, accessed } = blob;
    const unusedFiles = blob.file === undefined ? [] : [blob.file];
    const existing = this.#findBlob.get(hash, scopeId);
    if (existing?.isRevoked === 0) {
      this.#touchBlob.run(hash, scopeId, accessed);
      return { unusedFiles, addedBytes: 0 };
    }
    const writeId = this.#provenance.announce(blob.origin);
    const before = existing === undefined ? undefined : this.deleteBlobs(scopeId, [hash], NEVER);
    const added = this.#addBlob(blob, writeId);
    if (before === undefined) return added;
    return {
      unusedFiles: [...before.unusedFiles, ...added.unusedFiles],
      addedBytes: before.addedBytes + added.addedBytes,
    };
  }

  #addBlob(blob: NewBlob, writeId: number): StoreChange {
    const { scopeId, hash, sizeBytes, accessed } = blob;
    const unusedFiles = blob.file === undefined ? [] : [blob.file];
    const shared = this.#findShared.get(hash, sizeBytes);
    if (shared !== undefined) {
      this.#addOwner.run(shared.objectId, 1);
      this.#insertBlob.run(hash, scopeId, shared.objectId, sizeBytes, accessed, writeId);
      const { storedBytes } = shared;
      this.#change(scopeId, { storedBytes, logicalBytes: sizeBytes, blobs: 1 });
      return { unusedFiles, addedBytes: 0 };
    }
    const objectId = this.#addObject(blob);
    this.#insertBlob.run(hash, scopeId, objectId, sizeBytes, accessed, writeId);
    const { storedBytes } = blob;
    this.#change(scopeId, { storedBytes, logicalBytes: sizeBytes, blobs: 1 });
    this.#addTotal.run(storedBytes);
    return { unusedFiles: [], addedBytes: storedBytes };
  }

  putBlobs(
    scopeId: number,
    blobs: NewBlobs,
    common: Pick<NewBlob, "accessed" | "origin" | "verifiedMs">,
  ): StoreChange {
    const { forms, sizes, ends } = blobs;
    const unusedFiles: string[] = [];
    let addedBytes = 0;
    let start = 0;
    let at = 0;
    for (const hash of eachHash(blobs.hashes)) {
      const data = blobs.data.subarray(start, ends[at]);
      const form = forms[at] === 1 ? 1 : 0;
      const [sizeBytes, storedBytes] = [sizes[at] as number, data.length];
      const object = { form, sizeBytes, storedBytes, file: undefined, data } as const;
      const change = this.putBlob({ ...object, ...common, scopeId, hash });
      addedBytes += change.addedBytes;
      // They lie in the index, all of them; what they take the place of may not.
      unusedFiles.push(...change.unusedFiles);
      start += data.length;
      at += 1;
    }
    return { unusedFiles, addedBytes };
  }

  /**
   * Gives a scope blobs that another scope of the tenant has; those that it has itself stay as they are.
   *
   * @returns Whether all of them are there now; when not, nothing was given.
   */
  linkBlobs(
    scopeId: number,
    fromScopeId: number,
    blobs: {
      readonly hashes: Uint8Array;
      readonly sizes: Float64Array;
      readonly accessed: number;
      readonly origin: WriteOrigin;
    },
  ): StoreChange & { readonly isComplete: boolean } {
    const { hashes, sizes, accessed, origin } = blobs;
    const all = [...eachHash(hashes)];
    const change = { unusedFiles: [] as string[], addedBytes: 0 };
    const isThere = (hash: Uint8Array): boolean =>
      [scopeId, fromScopeId].some((id) => this.#findBlob.get(hash, id)?.isRevoked === 0);
    if (!all.every(isThere)) return { ...change, isComplete: false };
    for (const [at, hash] of all.entries()) {
      const shared = { form: 0, sizeBytes: sizes[at] as number, storedBytes: 0 } as const;
      const bytes = { file: undefined, data: undefined, verifiedMs: 0 };
      const added = this.putBlob({ ...shared, ...bytes, scopeId, hash, accessed, origin });
      change.unusedFiles.push(...added.unusedFiles);
      change.addedBytes += added.addedBytes;
    }
    return { ...change, isComplete: true };
  }

  /** Deletes those that were not used in this period or later. */
  deleteBlobs(scopeId: number, hashes: readonly Uint8Array[], usedBefore: number): StoreChange {
    const change = { unusedFiles: [] as string[], addedBytes: 0 };
    for (const hash of hashes) {
      const owned = this.#deleteBlob.get(hash, scopeId, usedBefore);
      if (owned !== undefined) this.#disown(scopeId, owned.objectId, BLOB, change);
    }
    return change;
  }

  /** Takes a blob from every scope that has it. */
  loseBlob(hash: Uint8Array): StoreChange & { readonly scopeIds: readonly number[] } {
    const scopeIds = this.#owners.all(hash).map(({ scopeId }) => scopeId);
    const change = { unusedFiles: [] as string[], addedBytes: 0 };
    for (const scopeId of scopeIds) {
      const owned = this.#deleteBlob.get(hash, scopeId, NEVER);
      if (owned !== undefined) this.#disown(scopeId, owned.objectId, BLOB, change);
    }
    return { ...change, scopeIds };
  }

  /** Forgets the bytes of objects in a range of ids, which lie in a pack by now. */
  deleteContents(firstId: number, lastId: number): void {
    this.#deleteContents.run(firstId, lastId);
  }

  putLayout(scopeId: number, hash: Uint8Array, chunks: Uint8Array): void {
    this.#upsertLayout.run(hash, scopeId, chunks);
  }

  putAction(
    scopeId: number,
    hash: Uint8Array,
    action: {
      readonly result: Uint8Array;
      readonly refersTo: Uint8Array | undefined;
      readonly accessed: number;
      readonly origin: WriteOrigin;
      readonly atMs: number;
      /** One that is there stays. */
      readonly keepsOther?: boolean;
    },
  ): StoreChange {
    const { result, refersTo, accessed, origin, atMs, keepsOther = false } = action;
    if (keepsOther && this.#findActionBytes.get(hash, scopeId)?.isRevoked === 0) {
      return { unusedFiles: [], addedBytes: 0 };
    }
    const writeId = this.#provenance.announce(origin);
    const before = this.#findActionBytes.get(hash, scopeId);
    if (before !== undefined && before.writeId > 0 && before.writeId !== writeId) {
      this.#insertSuperseded.run(hash, scopeId, before.writeId, atMs);
    }
    this.#upsertAction.run(hash, scopeId, result, refersTo ?? null, accessed, writeId);
    const addedBytes = result.length + (refersTo?.length ?? 0) + ROW_BYTES - (before?.bytes ?? 0);
    this.#change(scopeId, { storedBytes: addedBytes, actions: before === undefined ? 1 : 0 });
    this.#addTotal.run(addedBytes);
    return { unusedFiles: [], addedBytes };
  }

  /** Notes what an ActionResult needs that was stored before its trees were; it stays whose it is. */
  resolveAction(
    scopeId: number,
    hash: Uint8Array,
    action: {
      readonly result: Uint8Array;
      readonly refersTo: Uint8Array;
      readonly accessed: number;
    },
  ): StoreChange {
    const { result, refersTo, accessed } = action;
    if (this.#resolveAction.run(hash, scopeId, result, refersTo, accessed) === 0) {
      return { unusedFiles: [], addedBytes: 0 };
    }
    const addedBytes = refersTo.length;
    this.#change(scopeId, { storedBytes: addedBytes });
    this.#addTotal.run(addedBytes);
    return { unusedFiles: [], addedBytes };
  }

  /** Deletes those that were not used in this period or later. */
  deleteActions(scopeId: number, hashes: readonly Uint8Array[], usedBefore: number): StoreChange {
    let addedBytes = 0;
    let actions = 0;
    for (const hash of hashes) {
      const deleted = this.#deleteAction.get(hash, scopeId, usedBefore);
      if (deleted === undefined) continue;
      addedBytes -= deleted.bytes;
      actions -= 1;
    }
    this.#change(scopeId, { storedBytes: addedBytes, actions });
    this.#addTotal.run(addedBytes);
    return { unusedFiles: [], addedBytes };
  }

  putValue(value: NewKeyedValue): StoreChange & { readonly isNew: boolean } {
    const { scopeId, key, sha256, accessed } = value;
    const writeId = this.#provenance.announce(value.origin);
    const change = this.deleteValues(scopeId, [key], NEVER);
    const objectId = this.#addObject(value);
    this.#insertValue.run(scopeId, key, objectId, sha256, accessed, writeId);
    const storedBytes = value.storedBytes + ROW_BYTES;
    this.#change(scopeId, { storedBytes, logicalBytes: value.sizeBytes, keyedValues: 1 });
    this.#addTotal.run(storedBytes);
    return {
      unusedFiles: change.unusedFiles,
      addedBytes: change.addedBytes + storedBytes,
      isNew: change.deleted === 0,
    };
  }

  /** Deletes those that were not used in this period or later. */
  deleteValues(
    scopeId: number,
    keys: readonly string[],
    usedBefore: number,
  ): StoreChange & { readonly deleted: number } {
    const change = { unusedFiles: [] as string[], addedBytes: 0 };
    let deleted = 0;
    for (const key of keys) {
      const owned = this.#deleteValue.get(scopeId, key, usedBefore);
      if (owned === undefined) continue;
      this.#disown(scopeId, owned.objectId, KEYED_VALUE, change);
      this.#change(scopeId, { storedBytes: -ROW_BYTES });
      this.#addTotal.run(-ROW_BYTES);
      change.addedBytes -= ROW_BYTES;
      deleted += 1;
    }
    return { ...change, deleted };
  }

  /** @param hashes 32 bytes each, one after the other. */
  touchBlobs(scopeId: number, hashes: Uint8Array, accessed: number): void {
    for (const hash of eachHash(hashes)) this.#touchBlob.run(hash, scopeId, accessed);
  }

  /** @param hashes 32 bytes each, one after the other. */
  touchActions(scopeId: number, hashes: Uint8Array, accessed: number): void {
    for (const hash of eachHash(hashes)) this.#touchAction.run(hash, scopeId, accessed);
  }

  markVerified(objectIds: readonly number[], atMs: number): void {
    for (const objectId of objectIds) this.#markVerified.run(objectId, atMs);
  }

  touchValues(scopeId: number, keys: readonly string[], accessed: number): void {
    for (const key of keys) this.#touchValue.run(scopeId, key, accessed);
  }

  #addObject(object: NewObject & { readonly verifiedMs: number }): number {
    const { form, sizeBytes, storedBytes, file, data, verifiedMs } = object;
    const inserted = this.#insertObject.get(form, sizeBytes, storedBytes, file ?? null, verifiedMs);
    if (inserted === undefined) throw new Error("An object was not inserted");
    if (data !== undefined) this.#insertContent.run(inserted.id, data);
    return inserted.id;
  }

  #disown(
    scopeId: number,
    objectId: number,
    kind: ScopeChange,
    change: { unusedFiles: string[]; addedBytes: number },
  ): void {
    const object = this.#getObject.get(objectId);
    if (object === undefined) throw new Error(`The object ${objectId} had owners and is gone`);
    const { storedBytes, sizeBytes } = object;
    this.#change(scopeId, { ...kind, storedBytes: -storedBytes, logicalBytes: -sizeBytes });
    if (object.owners > 1) {
      this.#addOwner.run(objectId, -1);
      return;
    }
    this.#deleteObject.run(objectId);
    this.#addTotal.run(-storedBytes);
    change.addedBytes -= storedBytes;
    if (object.file !== null) change.unusedFiles.push(object.file);
  }

  #change(scopeId: number, change: ScopeChange): void {
    const { storedBytes = 0, logicalBytes = 0, blobs = 0, actions = 0, keyedValues = 0 } = change;
    const changed = this.#addToScope.run(
      scopeId,
      storedBytes,
      logicalBytes,
      blobs,
      actions,
      keyedValues,
    );
    if (changed > 0) return;
    throw new CacheError("NOT_FOUND", "The view was deleted meanwhile", {
      hint: "`flywheel view list` shows those there are.",
    });
  }
}

function* eachHash(hashes: Uint8Array): Iterable<Uint8Array> {
  for (let at = 0; at < hashes.length; at += 32) yield hashes.subarray(at, at + 32);
}

/** Everything that the writer thread can be told to do. */
export type IndexWrites = Pick<BazelWrites, keyof BazelWrites> &
  Pick<ProvenanceWrites, "forgetProvenance" | "liftWrites" | "recordReads" | "revokeWrites">;

/** This module's address, for the writer thread. */
export const BAZEL_WRITERS: string = moduleBeside("bazel-writers", import.meta.url);

/**
 * The writers of a tenant's Bazel index, for the thread that runs its batches.
 *
 * @public The thread imports this module by its address.
 */
export function createWriters(database: DatabaseSync): readonly object[] {
  const provenance = new ProvenanceWrites(database);
  return [new BazelWrites(database, provenance), provenance];
}
