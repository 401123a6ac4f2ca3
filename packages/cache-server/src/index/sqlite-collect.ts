import type { DatabaseSync } from "node:sqlite";

import type { CollectCandidate, CollectResult } from "./housekeeping-index.ts";
import { prepareQuery, type Query } from "./sqlite-connection.ts";
import { EXPIRE_UNUSED_HOLDING, viewIsThere } from "./sqlite-rows.ts";

interface CandidateRow {
  readonly id: number;
  readonly holdingId: number;
  readonly isFree: number;
}

/** A candidate that nobody used or pinned. */
interface Doomed {
  readonly id: number;
  readonly holdingId: number;
  readonly storePathHash: string;
  /** Those among the doomed that it refers to, as far as the look for referrers found out. */
  readonly targets: Doomed[];
  isKept: boolean;
}

/**
 * Deletes the largest closed part of some paths. Runs inside a transaction that holds the write lock, so no path
 * gains a referrer between the look and the deletion.
 */
export class SqliteCollect {
  readonly #database: DatabaseSync;

  constructor(database: DatabaseSync) {
    this.#database = database;
    this.#findCandidate = this.#prepare(`
      SELECT p.id, p.holding_id AS holdingId, a.accessed_at_ms = ?3 AND NOT EXISTS (
          SELECT 1 FROM pins WHERE view_id = ?1 AND store_path_hash = ?2) AS isFree
      FROM paths AS p JOIN path_accesses AS a ON a.path_id = p.id
      WHERE p.view_id = ?1 AND p.store_path_hash = ?2 AND ${viewIsThere("?1")}`);
    this.#listReferrers = this.#prepare(
      `SELECT path_id AS id FROM path_references WHERE view_id = ?1 AND reference_hash = ?2`,
    );
    this.#deletePath = this.#prepare(`DELETE FROM paths WHERE id = ?1`);
    this.#expireUnusedHolding = this.#prepare(EXPIRE_UNUSED_HOLDING);
  }

  #prepare<Row>(sql: string): Query<Row> {
    return prepareQuery<Row>(this.#database, sql);
  }

  readonly #findCandidate: Query<CandidateRow>;
  readonly #deletePath: Query<never>;
  readonly #expireUnusedHolding: Query<never>;
  run(
    viewId: number,
    candidates: readonly CollectCandidate[],
    narExpiresAtMs: number,
  ): CollectResult {
    const doomed = new Map<number, Doomed>();
    const present = new Map<string, Doomed | undefined>();
    for (const { storePathHash, accessedAtMs } of candidates) {
      if (present.has(storePathHash)) continue;
      const row = this.#findCandidate.get(viewId, storePathHash, accessedAtMs);
      if (row === undefined) continue;
      const { id, holdingId, isFree } = row;
      const path =
        isFree === 1 ? { id, holdingId, storePathHash, targets: [], isKept: false } : undefined;
      present.set(storePathHash, path);
      if (path !== undefined) doomed.set(id, path);
    }
    this.#spareReferred(viewId, doomed);
    for (const { id, holdingId, isKept } of doomed.values()) {
      if (isKept) continue;
      this.#deletePath.run(id);
      this.#expireUnusedHolding.run(holdingId, narExpiresAtMs);
    }
    const isDeleted = (hash: string): boolean => present.get(hash)?.isKept === false;
    const hashes = [...present.keys()];
    return {
      deleted: hashes.filter(isDeleted),
      kept: hashes.filter((hash) => !isDeleted(hash)),
    };
  }

  /** Keeps what something that stays refers to, and what that refers to, and so on. */
  #spareReferred(viewId: number, doomed: ReadonlyMap<number, Doomed>): void {
    const kept = [...doomed.values()].filter((path) => this.#isReferred(viewId, path, doomed));
    for (const path of kept) path.isKept = true;
    for (let path = kept.pop(); path !== undefined; path = kept.pop()) {
      for (const target of path.targets) {
        if (target.isKept) continue;
        target.isKept = true;
        kept.push(target);
      }
    }
  }

  readonly #listReferrers: Query<{ readonly id: number }>;
  /** Whether a path has a referrer that stays in any case. Notes those that may go on the way to the first one. */
  #isReferred(viewId: number, path: Doomed, doomed: ReadonlyMap<number, Doomed>): boolean {
    // One by one: what half the view refers to has a referrer that stays among the first.
    for (const { id } of this.#listReferrers.iterate(viewId, path.storePathHash)) {
      const referrer = doomed.get(id);
      if (referrer === undefined) return true;
      referrer.targets.push(path);
    }
    return false;
  }
}
