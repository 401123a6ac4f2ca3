import type { DatabaseSync } from "node:sqlite";

import type { CommitResult, NewPath } from "./cache-index.ts";
import { mergeClientSignatures } from "./signatures.ts";
import { prepareQuery, type Query } from "./sqlite-connection.ts";
import { SqliteProvenanceWriter } from "./sqlite-provenance-writer.ts";
import {
  EXPIRE_UNUSED_HOLDING,
  FIND_HOLDING,
  fromHashBytes,
  type HoldingRow,
  parseStrings,
  pathIsThere,
  required,
  toHashBytes,
  TOUCH_PATH,
} from "./sqlite-rows.ts";

/**
 * Makes paths visible, all or none: first reads all that decides it, then writes. Runs inside a transaction
 * that holds the write lock, so nothing changes between the two.
 */
export class SqliteCommit {
  readonly #database: DatabaseSync;

  constructor(database: DatabaseSync) {
    this.#database = database;
    this.#provenance = new SqliteProvenanceWriter(database);
    this.#findHolding = this.#prepare(FIND_HOLDING);
    this.#keepHolding = this.#prepare(
      `UPDATE holdings SET expires_at_ms = NULL WHERE id = ?1 AND expires_at_ms IS NOT NULL`,
    );
    this.#findKnownPath = this.#prepare(`
      SELECT p.id, p.signatures, p.reference_names AS referenceNames, p.deriver, p.ca, p.system,
        h.nar_hash AS narHash
      FROM paths AS p JOIN holdings AS h ON h.id = p.holding_id
      WHERE p.view_id = ?1 AND p.store_path_hash = ?2 AND p.is_lost = 0`);
    this.#findPath = this.#prepare(`SELECT 1 AS found WHERE ${pathIsThere("?1", "?2")}`);
    this.#deleteLostPath = this.#prepare(`
      DELETE FROM paths INDEXED BY paths_lost
      WHERE view_id = ?1 AND store_path_hash = ?2 AND is_lost = 1 RETURNING holding_id AS holdingId`);
    this.#expireUnusedHolding = this.#prepare(EXPIRE_UNUSED_HOLDING);
    this.#touchPath = this.#prepare(TOUCH_PATH);
    this.#insertPath = this.#prepare(`
      INSERT INTO paths (view_id, store_path_hash, store_path, holding_id, object_id, reference_names,
        deriver, ca, system, signatures, nar_info, key_generation, created_at_ms, created_by)
      VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14) RETURNING id`);
    this.#updatePath = this.#prepare(`
      UPDATE paths SET store_path = ?2, object_id = ?3, reference_names = ?4, deriver = ?5, ca = ?6,
        system = ?7, signatures = ?8, nar_info = ?9, key_generation = ?10
      WHERE id = ?1`);
  }

  readonly #provenance: SqliteProvenanceWriter;

  #prepare<Row>(sql: string): Query<Row> {
    return prepareQuery<Row>(this.#database, sql);
  }

  readonly #findHolding: Query<HoldingRow>;
  readonly #insertPath: Query<{ readonly id: number }>;
  readonly #updatePath: Query<never>;
  readonly #keepHolding: Query<never>;
  /** Commits into a view that is there. */
  run(
    viewId: number,
    paths: readonly NewPath[],
    { behind, principalId }: RunOptions,
  ): CommitResult {
    const chain: [number, ...number[]] = [viewId, ...behind.filter((id) => id !== viewId)];
    const { accepted, conflicts, missingNars, missingReferences } = this.#checkPaths(chain, paths);
    if (missingNars.length > 0 || missingReferences.length > 0) {
      return { kind: "incomplete", missingNars, missingReferences };
    }
    const created: string[] = [];
    const unchanged: string[] = [];
    const written = new Map<string, KnownPath>();
    for (const { path, holding, existing } of accepted) {
      const before = written.get(path.storePathHash) ?? existing;
      const signatures = mergeClientSignatures(before?.signatures ?? [], path.signatures);
      const id = this.#writePath(viewId, path, holding, before?.id, signatures);
      this.#keepHolding.run(holding.holdingId);
      if (principalId !== undefined && (before === undefined || isChange(before, path))) {
        const { storePathHash: name, createdAtMs: atMs } = path;
        this.#provenance.addEntry(viewId, principalId, { kind: "path", name, atMs });
      }
      if (!written.has(path.storePathHash)) {
        (before === undefined ? created : unchanged).push(path.storePathHash);
      }
      written.set(path.storePathHash, { ...path, id, signatures });
    }
    this.#touch(chain, accepted);
    return { kind: "committed", created, unchanged, conflicts };
  }

  /** Reads all that decides whether the paths may be committed; writes nothing. */
  #checkPaths(chain: readonly [number, ...number[]], paths: readonly NewPath[]): CheckedPaths {
    const [viewId] = chain;
    const inBatch = new Set(paths.map((path) => path.storePathHash));
    const narHashOf = new Map<string, string>();
    const accepted: AcceptedPath[] = [];
    const conflicts = new Map<string, string>();
    const missingNars = new Set<string>();
    const missingReferences: { storePathHash: string; reference: string }[] = [];
    for (const path of paths) {
      const { storePathHash, narHash } = path;
      const existing = this.#knownPath(viewId, storePathHash);
      const known = existing?.narHash ?? narHashOf.get(storePathHash) ?? narHash;
      if (known !== narHash) {
        conflicts.set(storePathHash, known);
        continue;
      }
      narHashOf.set(storePathHash, narHash);
      const holding = this.#findHolding.get(viewId, toHashBytes(narHash));
      if (holding === undefined || fromHashBytes(holding.fileHash) !== path.fileHash) {
        missingNars.add(narHash);
      } else {
        accepted.push({ path, holding, existing });
      }
      for (const reference of new Set(path.requiredReferences)) {
        if (inBatch.has(reference) || this.#findFirst(chain, reference) !== undefined) continue;
        missingReferences.push({ storePathHash, reference });
      }
    }
    return {
      accepted,
      conflicts: [...conflicts].map(([storePathHash, narHash]) => ({ storePathHash, narHash })),
      missingNars: [...missingNars],
      missingReferences,
    };
  }

  readonly #findPath: Query<{ readonly found: number }>;
  /** The first view of the chain that has a path. */
  #findFirst(chain: readonly number[], storePathHash: string): number | undefined {
    return chain.find((viewId) => this.#findPath.get(viewId, storePathHash) !== undefined);
  }

  readonly #findKnownPath: Query<{
    readonly id: number;
    readonly narHash: Uint8Array;
    readonly signatures: string;
    readonly referenceNames: string;
    readonly deriver: string | null;
    readonly ca: string | null;
    readonly system: string | null;
  }>;
  #knownPath(viewId: number, storePathHash: string): KnownPath | undefined {
    const row = this.#findKnownPath.get(viewId, storePathHash);
    if (row === undefined) return undefined;
    return {
      id: row.id,
      narHash: fromHashBytes(row.narHash),
      signatures: parseStrings(row.signatures),
      references: parseStrings(row.referenceNames),
      deriver: row.deriver ?? undefined,
      ca: row.ca ?? undefined,
      system: row.system ?? undefined,
    };
  }

  #writePath(
    viewId: number,
    path: NewPath,
    holding: HoldingRow,
    existingId: number | undefined,
    signatures: readonly string[],
  ): number {
    const facts = [
      JSON.stringify(path.references),
      path.deriver ?? null,
      path.ca ?? null,
      path.system ?? null,
      JSON.stringify(signatures),
      path.narInfo,
      path.keyGeneration,
    ];
    if (existingId !== undefined) {
      this.#updatePath.run(existingId, path.storePath, holding.objectId, ...facts);
      return existingId;
    }
    const { storePathHash, storePath, createdAtMs, createdBy = null } = path;
    this.#forgetLostPath(viewId, path);
    const { holdingId, objectId } = holding;
    const identity = [viewId, storePathHash, storePath, holdingId, objectId];
    return required(this.#insertPath.get(...identity, ...facts, createdAtMs, createdBy)).id;
  }

  readonly #deleteLostPath: Query<{ readonly holdingId: number }>;
  readonly #expireUnusedHolding: Query<never>;
  /** Makes room for a path that counted as absent. A NAR that it alone had is of no use: no grace for that. */
  #forgetLostPath(viewId: number, { storePathHash, createdAtMs }: NewPath): void {
    const lost = this.#deleteLostPath.get(viewId, storePathHash);
    if (lost !== undefined) this.#expireUnusedHolding.run(lost.holdingId, createdAtMs);
  }

  readonly #touchPath: Query<never>;
  /** A push uses what it brings and what that needs. */
  #touch(chain: readonly number[], accepted: readonly AcceptedPath[]): void {
    const times = new Map<string, number>();
    for (const { path } of accepted) {
      for (const hash of [path.storePathHash, ...path.requiredReferences]) {
        times.set(hash, Math.max(times.get(hash) ?? path.createdAtMs, path.createdAtMs));
      }
    }
    for (const [hash, atMs] of times) {
      const viewId = this.#findFirst(chain, hash);
      if (viewId !== undefined) this.#touchPath.run(viewId, hash, atMs);
    }
  }
}

interface RunOptions {
  readonly behind: readonly number[];
  /** Who commits, as provenance knows them. */
  readonly principalId: number | undefined;
}

interface KnownPath extends Pick<
  NewPath,
  "narHash" | "signatures" | "references" | "deriver" | "ca" | "system"
> {
  readonly id: number;
}

/** Whether a path that is there says something else once it is committed again. */
function isChange(before: KnownPath, path: NewPath): boolean {
  const { deriver, ca, system, references } = path;
  return (
    before.deriver !== deriver ||
    before.ca !== ca ||
    before.system !== system ||
    before.references.join(" ") !== references.join(" ")
  );
}

interface AcceptedPath {
  readonly path: NewPath;
  readonly holding: HoldingRow;
  readonly existing: KnownPath | undefined;
}

interface CheckedPaths {
  readonly accepted: readonly AcceptedPath[];
  readonly conflicts: readonly { readonly storePathHash: string; readonly narHash: string }[];
  readonly missingNars: readonly string[];
  readonly missingReferences: readonly {
    readonly storePathHash: string;
    readonly reference: string;
  }[];
}
