import type { DatabaseSync } from "node:sqlite";

import { parsePrincipalFacts } from "../../index/principal-text.ts";
import type {
  EntryProvenance,
  PrincipalFacts,
  RevocationEffect,
  RevocationSelection,
} from "../../index/provenance-index.ts";
import { prepareQuery, type Query } from "../../index/sqlite-connection.ts";
import { ACTION, SELECTED_WRITES, toSelection, VALUE } from "./provenance-writes.ts";

/** A row by what names it, and the write it came with. */
export interface WrittenBlob {
  readonly hash: Uint8Array;
  readonly scopeId: number;
  readonly writeId: number;
}

export interface WrittenValue {
  readonly scopeId: number;
  readonly key: string;
  readonly writeId: number;
}

interface ScopeName {
  readonly id: number;
  readonly instance: string;
}

interface StateRow {
  readonly writeId: number;
  readonly isRevoked: number;
}

/** Numbers as one parameter. */
const IDS = "(SELECT value FROM json_each(?1))";
/** The same writes, and those that they took over. */
const WITH_ADOPTED = `(SELECT value FROM json_each(?1)
  UNION SELECT adopts FROM writes WHERE id IN ${IDS} AND adopts IS NOT NULL)`;

/** Who wrote and read what, as one tenant's Bazel index has it. */
export class ProvenanceReads {
  readonly #read: <Value>(read: () => Value) => Value;
  readonly #lastWrite: Query<{ readonly id: number }>;
  readonly #revokedWrites: Query<{ readonly id: number }>;
  readonly #selectWrites: Query<{ readonly id: number }>;
  readonly #offeredWrites: Query<{ readonly id: number }>;
  readonly #actionsOf: Query<WrittenBlob>;
  readonly #blobsAfter: Query<WrittenBlob>;
  readonly #valuesAfter: Query<WrittenValue>;
  readonly #instanceOf: Query<{ readonly instance: string }>;
  readonly #writersOf: Query<{ readonly facts: string }>;
  readonly #consumersOf: Query<{
    readonly facts: string;
    readonly entries: number;
    readonly lastAtMs: number;
  }>;
  readonly #scopesOf: Readonly<Record<"action" | "blob" | "value", Query<ScopeName>>>;
  readonly #stateOf: Readonly<Record<"action" | "blob" | "value", Query<StateRow>>>;
  readonly #writersOfEntry: Query<{ readonly facts: string; readonly atMs: number }>;
  readonly #readersOfEntry: Query<{
    readonly facts: string;
    readonly firstAtMs: number;
    readonly lastAtMs: number;
  }>;
  readonly #trustOf: Query<{ readonly facts: string }>;

  constructor(database: DatabaseSync, read: <Value>(read: () => Value) => Value) {
    this.#read = read;
    const prepare = <Row>(sql: string): Query<Row> => prepareQuery<Row>(database, sql);
    this.#lastWrite = prepare(`SELECT coalesce(max(id), 0) AS id FROM writes`);
    this.#revokedWrites = prepare(`SELECT id FROM writes WHERE revocation_id IS NOT NULL`);
    this.#selectWrites = prepare(`SELECT DISTINCT w.id ${SELECTED_WRITES}`);
    this.#offeredWrites = prepare(`
      SELECT w.id FROM actors AS a JOIN writes AS w ON w.actor_id = a.id
      WHERE a.offers = ?1 AND w.revocation_id IS NULL AND w.adopts IS NULL ORDER BY w.id`);
    this.#actionsOf = prepare(`
      SELECT hash, scope_id AS scopeId, write_id AS writeId FROM actions
      WHERE write_id > 0 AND write_id IN ${IDS}`);
    this.#blobsAfter = prepare(`
      SELECT hash, scope_id AS scopeId, write_id AS writeId FROM blobs
      WHERE (hash, scope_id) > (?1, ?2) ORDER BY hash, scope_id LIMIT ?3`);
    this.#valuesAfter = prepare(`
      SELECT scope_id AS scopeId, key, write_id AS writeId FROM keyed_values
      WHERE (scope_id, key) > (?1, ?2) ORDER BY scope_id, key LIMIT ?3`);
    this.#instanceOf = prepare(`SELECT instance FROM scopes WHERE id = ?1`);
    this.#writersOf = prepare(`
      SELECT facts FROM actors WHERE id IN (SELECT actor_id FROM writes WHERE id IN ${WITH_ADOPTED})
      ORDER BY id DESC LIMIT ?2`);
    this.#consumersOf = prepare(`
      SELECT a.facts, sum(c.entries) AS entries, max(c.last_at_ms) AS lastAtMs
      FROM consumers AS c JOIN actors AS a ON a.id = c.actor_id
      WHERE c.write_id IN ${IDS}
        AND c.actor_id NOT IN (SELECT actor_id FROM writes WHERE id IN ${IDS})
      GROUP BY a.id ORDER BY lastAtMs DESC LIMIT ?2`);
    const seen = (kind: number): string =>
      `SELECT scope_id FROM reads WHERE name = CAST(?1 AS BLOB) AND kind = ${kind}`;
    const scopes = (ids: string): Query<ScopeName> =>
      prepare(`SELECT id, instance FROM scopes WHERE id IN (${ids}) ORDER BY instance`);
    this.#scopesOf = {
      action: scopes(`SELECT scope_id FROM actions WHERE hash = ?1 UNION
        SELECT scope_id FROM superseded WHERE hash = ?1 UNION ${seen(ACTION)}`),
      blob: scopes(`SELECT scope_id FROM blobs WHERE hash = ?1`),
      value: scopes(`SELECT scope_id FROM keyed_values WHERE key = ?1 UNION ${seen(VALUE)}`),
    };
    const state = (from: string): Query<StateRow> =>
      prepare(`
        SELECT write_id AS writeId, EXISTS (SELECT 1 FROM writes AS w
          WHERE w.id = write_id AND w.revocation_id IS NOT NULL) AS isRevoked FROM ${from}`);
    this.#stateOf = {
      action: state(`actions WHERE hash = ?1 AND scope_id = ?2`),
      blob: state(`blobs WHERE hash = ?1 AND scope_id = ?2`),
      value: state(`keyed_values WHERE scope_id = ?2 AND key = ?1`),
    };
    this.#writersOfEntry = prepare(`
      SELECT a.facts, max(w.started_ms) AS atMs FROM writes AS w JOIN actors AS a ON a.id = w.actor_id
      WHERE w.id IN (
        SELECT ?2 UNION SELECT adopts FROM writes WHERE id = ?2 UNION SELECT write_id FROM superseded WHERE ?4 = ${ACTION} AND hash = ?1 AND scope_id = ?3
        UNION SELECT write_id FROM reads WHERE name = CAST(?1 AS BLOB) AND scope_id = ?3 AND kind = ?4)
      GROUP BY a.id ORDER BY max(w.id) DESC LIMIT ?5`);
    this.#readersOfEntry = prepare(`
      SELECT a.facts, min(r.first_at_ms) AS firstAtMs, max(r.last_at_ms) AS lastAtMs
      FROM reads AS r JOIN actors AS a ON a.id = r.actor_id
      WHERE r.name = CAST(?1 AS BLOB) AND r.scope_id = ?2 AND r.kind = ?3
      GROUP BY a.id ORDER BY lastAtMs DESC LIMIT ?4`);
    this.#trustOf = prepare(`
      SELECT a.facts FROM writes AS w JOIN actors AS a ON a.id = w.actor_id WHERE w.id = ?1`);
  }

  /** What a `WriteBook` begins with. */
  knownWrites(): { readonly lastId: number; readonly revoked: readonly number[] } {
    return this.#read(() => ({
      lastId: this.#lastWrite.get()?.id ?? 0,
      revoked: this.#revokedWrites.all().map(({ id }) => id),
    }));
  }

  /** The writes that a selection means, without those that are revoked. */
  selectWrites(selection: RevocationSelection): number[] {
    return this.#read(() => this.#selectWrites.all(...toSelection(selection)).map(({ id }) => id));
  }

  /** The writes of those who offer what they write under a key, without those that are revoked. */
  offeredWrites(key: string): number[] {
    return this.#read(() => this.#offeredWrites.all(key).map(({ id }) => id));
  }

  actionsOf(writeIds: readonly number[]): WrittenBlob[] {
    return this.#read(() => this.#actionsOf.all(JSON.stringify(writeIds)));
  }

  /** Blobs in order of hash and scope, beginning behind one. */
  blobsAfter(
    last: Pick<WrittenBlob, "hash" | "scopeId"> | undefined,
    limit: number,
  ): WrittenBlob[] {
    const { hash, scopeId } = last ?? { hash: new Uint8Array(), scopeId: 0 };
    return this.#read(() => this.#blobsAfter.all(hash, scopeId, limit));
  }

  /** Values in order of scope and key, beginning behind one. */
  valuesAfter(
    last: Pick<WrittenValue, "key" | "scopeId"> | undefined,
    limit: number,
  ): WrittenValue[] {
    const { scopeId, key } = last ?? { scopeId: 0, key: "" };
    return this.#read(() => this.#valuesAfter.all(scopeId, key, limit));
  }

  instanceOf(scopeId: number): string | undefined {
    return this.#read(() => this.#instanceOf.get(scopeId)?.instance);
  }

  /** Who is behind writes, and who else was given anything of them. */
  peopleOf(
    writeIds: readonly number[],
    limit: number,
  ): Pick<RevocationEffect, "consumers" | "writers"> {
    const ids = JSON.stringify(writeIds);
    return this.#read(() => ({
      writers: this.#writersOf.all(ids, limit).map(({ facts }) => parsePrincipalFacts(facts)),
      consumers: this.#consumersOf
        .all(ids, limit)
        .map(({ facts, ...row }) => ({ ...parsePrincipalFacts(facts), ...row })),
    }));
  }

  /** Who wrote and read an entry, by instance name. */
  provenanceOf(
    kind: "action" | "blob" | "value",
    name: Uint8Array | string,
    limit: number,
  ): EntryProvenance[] {
    const readKind = kind === "value" ? VALUE : ACTION;
    return this.#read(() =>
      this.#scopesOf[kind].all(name).map(({ id, instance }) => {
        const state = this.#stateOf[kind].get(name, id);
        const writers = this.#writersOfEntry
          .all(name, state?.writeId ?? 0, id, kind === "blob" ? -1 : readKind, limit)
          .map(({ facts, ...row }) => ({ ...parsePrincipalFacts(facts), ...row }));
        const readers = kind === "blob" ? [] : this.#readersOfEntry.all(name, id, readKind, limit);
        return {
          view: instance,
          state: state === undefined ? "gone" : state.isRevoked === 1 ? "hidden" : "present",
          writers,
          readers: readers.map(({ facts, ...row }) => ({ ...parsePrincipalFacts(facts), ...row })),
        };
      }),
    );
  }

  /** Who wrote with a number; `undefined` when nobody in particular did. */
  writerOf(writeId: number): PrincipalFacts | undefined {
    const row = this.#read(() => this.#trustOf.get(writeId));
    return row && parsePrincipalFacts(row.facts);
  }
}
