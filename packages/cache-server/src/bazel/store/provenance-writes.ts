import type { DatabaseSync } from "node:sqlite";

import { CacheError } from "@glorious/core";

import type { RevocationSelection } from "../../index/provenance-index.ts";
import { prepareQuery, type Query } from "../../index/sqlite-connection.ts";
import { WRITE_MS, type WriteOrigin } from "./write-book.ts";

/** Reads that are kept one by one; of those before only who read something of which write. */
const MAX_READS = 1_000_000;
export const ACTION = 0;
export const VALUE = 1;

type Selection = [string | null, string | null, string | null, number | null];

/**
 * The writes that a selection means and that are not revoked. Parameters: principal, run, token id, since; a write that
 * goes on after that counts.
 */
export const SELECTED_WRITES: string = `
  FROM actors AS a JOIN writes AS o ON o.actor_id = a.id JOIN writes AS w ON w.id = o.id OR w.adopts = o.id
  WHERE (?1 IS NULL OR a.principal = ?1) AND (?2 IS NULL OR a.run = ?2) AND (?3 IS NULL OR a.jti = ?3)
    AND w.started_ms + ${WRITE_MS} > coalesce(?4, 0) AND w.revocation_id IS NULL`;

/** The parameters of {@link SELECTED_WRITES}. */
export function toSelection({ principal, run, jti, sinceMs }: RevocationSelection): Selection {
  return [principal ?? null, run ?? null, jti ?? null, sinceMs ?? null];
}

/** The writes of a tenant's Bazel index that tell who did what. */
export class ProvenanceWrites {
  readonly #insertActor: Query<never>;
  readonly #findActor: Query<{ readonly id: number }>;
  readonly #insertWrite: Query<never>;
  readonly #isWriteRevoked: Query<unknown>;
  readonly #findActionWrite: Query<{ readonly writeId: number }>;
  readonly #findValueWrite: Query<{ readonly writeId: number }>;
  readonly #insertRead: Query<never>;
  readonly #touchRead: Query<never>;
  readonly #countRead: Query<never>;
  readonly #readIds: Query<{ readonly first: number | null; readonly last: number | null }>;
  readonly #dropReads: Query<never>;
  readonly #isApplied: Query<unknown>;
  readonly #noteApplied: Query<never>;
  readonly #revoke: Query<{ readonly id: number }>;
  readonly #revokedBy: Query<{ readonly id: number }>;
  readonly #lift: Query<{ readonly id: number }>;
  readonly #forgetReads: Query<never>;
  readonly #forgetConsumers: Query<never>;
  readonly #forgetSuperseded: Query<never>;

  constructor(database: DatabaseSync) {
    const prepare = <Row>(sql: string): Query<Row> => prepareQuery<Row>(database, sql);
    this.#insertActor = prepare(`
      INSERT INTO actors (facts, principal, run, jti, offers) VALUES (?1, ?2, ?3, ?4, ?5)
      ON CONFLICT DO NOTHING`);
    this.#findActor = prepare(`SELECT id FROM actors WHERE facts = ?1`);
    this.#insertWrite = prepare(`
      INSERT INTO writes (id, actor_id, started_ms, adopts) VALUES (?1, ?2, ?3, ?4)
      ON CONFLICT DO NOTHING`);
    this.#isWriteRevoked = prepare(
      `SELECT 1 FROM writes WHERE id = ?1 AND revocation_id IS NOT NULL`,
    );
    this.#findActionWrite = prepare(
      `SELECT write_id AS writeId FROM actions WHERE hash = ?1 AND scope_id = ?2`,
    );
    this.#findValueWrite = prepare(
      `SELECT write_id AS writeId FROM keyed_values WHERE scope_id = ?2 AND key = CAST(?1 AS TEXT)`,
    );
    this.#insertRead = prepare(`
      INSERT INTO reads (kind, name, scope_id, write_id, actor_id, first_at_ms, last_at_ms)
      VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6) ON CONFLICT DO NOTHING`);
    this.#touchRead = prepare(`
      UPDATE reads SET last_at_ms = max(last_at_ms, ?6)
      WHERE name = ?2 AND scope_id = ?3 AND kind = ?1 AND write_id = ?4 AND actor_id = ?5`);
    this.#countRead = prepare(`
      INSERT INTO consumers (write_id, actor_id, entries, last_at_ms) VALUES (?1, ?2, ?3, ?4)
      ON CONFLICT DO UPDATE SET entries = entries + excluded.entries,
        last_at_ms = max(last_at_ms, excluded.last_at_ms)`);
    this.#readIds = prepare(`
      SELECT (SELECT min(id) FROM reads) AS first, (SELECT max(id) FROM reads) AS last`);
    this.#dropReads = prepare(`DELETE FROM reads WHERE id BETWEEN ?1 AND ?2`);
    this.#isApplied = prepare(`SELECT 1 FROM applied_revocations WHERE id = ?1`);
    this.#noteApplied = prepare(`INSERT INTO applied_revocations (id) VALUES (?1)`);
    this.#revoke = prepare(`
      UPDATE writes SET revocation_id = ?5
      WHERE id IN (SELECT w.id ${SELECTED_WRITES} AND w.started_ms <= ?6) RETURNING id`);
    this.#revokedBy = prepare(`SELECT id FROM writes WHERE revocation_id = ?1`);
    this.#lift = prepare(`
      UPDATE writes SET revocation_id = NULL WHERE revocation_id = ?1 RETURNING id`);
    this.#forgetReads = prepare(`
      DELETE FROM reads WHERE id IN (SELECT id FROM (SELECT id, last_at_ms FROM reads ORDER BY id LIMIT ?2)
        WHERE last_at_ms < ?1)`);
    this.#forgetConsumers = prepare(`
      DELETE FROM consumers WHERE (write_id, actor_id) IN (
        SELECT write_id, actor_id FROM consumers WHERE last_at_ms < ?1 LIMIT ?2)`);
    this.#forgetSuperseded = prepare(`
      DELETE FROM superseded WHERE (hash, scope_id, write_id) IN (
        SELECT hash, scope_id, write_id FROM superseded WHERE at_ms < ?1 LIMIT ?2)`);
  }

  /**
   * Makes sure that a write is known before anything is written with it.
   *
   * @returns Its number.
   * @throws {CacheError} `FORBIDDEN` when what it takes over was revoked meanwhile.
   */
  announce({ id, announced }: WriteOrigin): number {
    if (announced === undefined) return id;
    const { startedMs, adopts, ...actor } = announced;
    if (adopts !== undefined && this.#isWriteRevoked.get(adopts) !== undefined) {
      throw new CacheError("FORBIDDEN", "What was to be taken over was revoked meanwhile");
    }
    this.#insertWrite.run(id, this.#actorId(actor), startedMs, adopts ?? null);
    return id;
  }

  /** Records who was given what. */
  recordReads(
    actor: Omit<NonNullable<WriteOrigin["announced"]>, "startedMs" | "adopts">,
    scopeId: number,
    reads: { readonly hashes: Uint8Array; readonly keys: readonly string[]; readonly atMs: number },
  ): void {
    const actorId = this.#actorId(actor);
    const counts = new Map<number, number>();
    const record = (kind: number, name: Uint8Array, writeId: number | undefined): void => {
      // It was evicted meanwhile, and so was who wrote it.
      if (writeId === undefined) return;
      const isNew = this.#insertRead.run(kind, name, scopeId, writeId, actorId, reads.atMs) > 0;
      if (!isNew) this.#touchRead.run(kind, name, scopeId, writeId, actorId, reads.atMs);
      counts.set(writeId, (counts.get(writeId) ?? 0) + (isNew ? 1 : 0));
    };
    for (let at = 0; at < reads.hashes.length; at += 32) {
      const hash = reads.hashes.subarray(at, at + 32);
      record(ACTION, hash, this.#findActionWrite.get(hash, scopeId)?.writeId);
    }
    for (const key of reads.keys) {
      const name = Buffer.from(key);
      record(VALUE, name, this.#findValueWrite.get(name, scopeId)?.writeId);
    }
    for (const [writeId, entries] of counts) {
      if (writeId > 0) this.#countRead.run(writeId, actorId, entries, reads.atMs);
    }
    const { first, last } = this.#readIds.get() ?? {};
    if (first == null || last == null || last - first < MAX_READS) return;
    this.#dropReads.run(first, last - MAX_READS);
  }

  /**
   * Revokes what was written until a moment; once for a revocation.
   *
   * @returns The writes it hides.
   */
  revokeWrites(
    revocation: RevocationSelection & { readonly id: number; readonly createdAtMs: number },
  ): number[] {
    const { id, createdAtMs } = revocation;
    if (this.#isApplied.get(id) !== undefined) return this.#revokedBy.all(id).map((row) => row.id);
    this.#noteApplied.run(id);
    return this.#revoke.all(...toSelection(revocation), id, createdAtMs).map((row) => row.id);
  }

  liftWrites(id: number): number[] {
    return this.#lift.all(id).map((row) => row.id);
  }

  /** Forgets what is older, at most so many of each. */
  forgetProvenance(beforeMs: number, limit: number): number {
    return (
      this.#forgetReads.run(beforeMs, limit) +
      this.#forgetConsumers.run(beforeMs, limit) +
      this.#forgetSuperseded.run(beforeMs, limit)
    );
  }

  #actorId(actor: Omit<NonNullable<WriteOrigin["announced"]>, "startedMs" | "adopts">): number {
    const { facts, principal, run, jti, offers } = actor;
    this.#insertActor.run(facts, principal, run ?? null, jti ?? null, offers ?? null);
    const found = this.#findActor.get(facts);
    if (found === undefined) throw new Error("An actor was neither made nor found");
    return found.id;
  }
}
