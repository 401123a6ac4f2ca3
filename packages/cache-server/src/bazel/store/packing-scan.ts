import type { DatabaseSync } from "node:sqlite";

import { prepareQuery, type Query } from "../../index/sqlite-connection.ts";

/** The bytes of a small object. */
export interface InlineObject {
  readonly id: number;
  readonly data: Uint8Array;
}

interface Sums {
  readonly objects: number;
  readonly bytes: number | null;
}

/** What the index knows of small objects, for who moves them into packs. */
export class PackingScan {
  readonly #inline: Query<InlineObject>;
  readonly #firstInline: Query<{ readonly id: number | null }>;
  readonly #lastGiven: Query<{ readonly id: number }>;
  readonly #live: Query<Sums>;
  readonly #liveIds: Query<{ readonly id: number }>;
  readonly #bare: Query<{ readonly id: number }>;
  readonly #firstOf: Query<{ readonly id: number; readonly isInline: 0 | 1 }>;

  constructor(database: DatabaseSync) {
    const prepare = <Row>(sql: string): Query<Row> => prepareQuery<Row>(database, sql);
    this.#inline = prepare(`
      SELECT object_id AS id, data FROM contents WHERE object_id > ?1 ORDER BY object_id LIMIT ?2`);
    this.#firstInline = prepare(`SELECT min(object_id) AS id FROM contents`);
    this.#lastGiven = prepare(`SELECT seq AS id FROM sqlite_sequence WHERE name = 'objects'`);
    this.#live = prepare(`
      SELECT count(*) AS objects, sum(stored_bytes) AS bytes FROM objects
      WHERE id BETWEEN ?1 AND ?2 AND file IS NULL`);
    this.#liveIds = prepare(`
      SELECT id FROM objects WHERE id BETWEEN ?1 AND ?2 AND file IS NULL ORDER BY id`);
    this.#bare = prepare(`
      SELECT id FROM objects AS o WHERE id BETWEEN ?1 AND ?2 AND file IS NULL
        AND NOT EXISTS (SELECT 1 FROM contents WHERE object_id = o.id)`);
    this.#firstOf = prepare(`
      SELECT id, EXISTS (SELECT 1 FROM contents WHERE object_id = o.id) AS isInline
      FROM objects AS o WHERE id BETWEEN ?1 AND ?2 AND file IS NULL ORDER BY id LIMIT 1`);
  }

  /** Objects whose bytes lie in the index, in order of their ids, beginning behind one. */
  inline(after: number, limit: number): InlineObject[] {
    return this.#inline.all(after, limit);
  }

  /** The first object whose bytes lie in the index. */
  firstInline(): number | undefined {
    return this.#firstInline.get()?.id ?? undefined;
  }

  /** The greatest id that an object was given, whether it is still here or not; 0 when there was none. */
  lastGivenId(): number {
    return this.#lastGiven.get()?.id ?? 0;
  }

  /** How many small objects of a range of ids there are, and their bytes. */
  live(first: number, last: number): { readonly objects: number; readonly bytes: number } {
    const { objects, bytes } = this.#live.get(first, last) ?? { objects: 0, bytes: 0 };
    return { objects, bytes: bytes ?? 0 };
  }

  /** Which they are, in order. */
  liveIds(first: number, last: number): number[] {
    return this.#liveIds.all(first, last).map(({ id }) => id);
  }

  /** Those of them whose bytes do not lie in the index. */
  withoutBytes(first: number, last: number): number[] {
    return this.#bare.all(first, last).map(({ id }) => id);
  }

  /** Whether the first small object of a range, when there is one, has its bytes in the index. */
  beginsInline(first: number, last: number): boolean {
    return this.#firstOf.get(first, last)?.isInline !== 0;
  }
}
