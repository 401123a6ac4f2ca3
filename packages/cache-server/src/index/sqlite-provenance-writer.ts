import type { DatabaseSync } from "node:sqlite";

import { CacheError } from "@glorious/core";

import { formatPrincipalFacts } from "./principal-text.ts";
import type { EntryKind, PrincipalFacts, RevocationTarget } from "./provenance-index.ts";
import { prepareQuery, type Query } from "./sqlite-connection.ts";
import { required } from "./sqlite-rows.ts";

/** Finds a revocation of a caller. Parameters: principal, run, token id. */
export const FIND_REVOCATION: string = `
  SELECT 1 AS found FROM revocations WHERE lifted_at_ms IS NULL
    AND principal = ?1 AND (run IS NULL OR run = ?2) AND (jti IS NULL OR jti = ?3)
  UNION ALL SELECT 1 FROM revocations WHERE lifted_at_ms IS NULL
    AND principal IS NULL AND run = ?2 AND (jti IS NULL OR jti = ?3)
  UNION ALL SELECT 1 FROM revocations WHERE lifted_at_ms IS NULL
    AND principal IS NULL AND run IS NULL AND jti = ?3
  LIMIT 1`;

/** The parameters of {@link FIND_REVOCATION}. */
export function toTargetParameters({
  principal,
  run,
  jti,
}: RevocationTarget): [string, string | null, string | null] {
  return [principal, run ?? null, jti ?? null];
}

/** Records who writes, inside the transaction that writes. */
export class SqliteProvenanceWriter {
  constructor(database: DatabaseSync) {
    this.#findRevocation = prepareQuery(database, FIND_REVOCATION);
    this.#insertPrincipal = prepareQuery(
      database,
      `INSERT INTO principals (facts, principal, run, jti, offers) VALUES (?1, ?2, ?3, ?4, ?5)
       ON CONFLICT (facts) DO NOTHING`,
    );
    this.#findPrincipal = prepareQuery(database, `SELECT id FROM principals WHERE facts = ?1`);
    this.#putEntry = prepareQuery(
      database,
      `INSERT INTO entries (kind, name, view_id, principal_id, written_at_ms) VALUES (?1, ?2, ?3, ?4, ?5)
       ON CONFLICT DO UPDATE SET written_at_ms = max(written_at_ms, excluded.written_at_ms)`,
    );
  }

  readonly #insertPrincipal: Query<never>;
  readonly #findPrincipal: Query<{ readonly id: number }>;
  /** The number of a principal with just these facts. */
  principalId(facts: PrincipalFacts): number {
    const { principal, run, jti, offers } = facts;
    const text = formatPrincipalFacts(facts);
    this.#insertPrincipal.run(text, principal, run ?? null, jti ?? null, offers ?? null);
    return required(this.#findPrincipal.get(text)).id;
  }

  readonly #findRevocation: Query<{ readonly found: number }>;
  /** The same for who is about to write. @throws {CacheError} `FORBIDDEN` when it was revoked. */
  requirePrincipal(writer: PrincipalFacts): number {
    const target = { principal: writer.principal, run: writer.run, jti: writer.jti };
    if (this.#findRevocation.get(...toTargetParameters(target)) !== undefined) {
      throw new CacheError("FORBIDDEN", "What this job writes was revoked meanwhile", {
        hint: "An operator takes that back with `flywheel unquarantine`.",
      });
    }
    return this.principalId(writer);
  }

  readonly #putEntry: Query<never>;
  addEntry(
    viewId: number,
    principalId: number,
    entry: { readonly kind: EntryKind; readonly name: string; readonly atMs: number },
  ): void {
    this.#putEntry.run(entry.kind, entry.name, viewId, principalId, entry.atMs);
  }
}
