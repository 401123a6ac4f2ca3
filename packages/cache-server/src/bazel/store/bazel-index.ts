import type { DatabaseSync } from "node:sqlite";

import { CacheError, type Logger } from "@glorious/core";

import type { WriteOperation, WriteOutcome } from "../../index/sqlite-batch.ts";
import { prepareQuery, type Query, type Synchronous } from "../../index/sqlite-connection.ts";
import { fromFailure, fromSqliteError } from "../../index/sqlite-errors.ts";
import { openDatabase } from "../../index/sqlite-open.ts";
import { type SqliteWriter, startThreadWriter } from "../../index/sqlite-writer.ts";
import { WriteQueue } from "../../index/write-queue.ts";
import type { ScopeUsage } from "./bazel-store.ts";
import { BAZEL_WRITERS, type IndexWrites } from "./bazel-writers.ts";
import { ENTRY_HEX, EntryPage } from "./entry-page.ts";
import { ObjectScan } from "./object-scan.ts";
import { PackingScan } from "./packing-scan.ts";
import { ProvenanceReads } from "./provenance-reads.ts";
import { type PagedResult, readResultPage, RESULT_HEX } from "./result-page.ts";
import { BAZEL_SCHEMA_STEPS } from "./schema.ts";

/** A row of a scope, by what it is found. */
export interface BlobRow {
  readonly sizeBytes: number;
  readonly accessed: number;
  readonly writeId: number;
  readonly objectId: number;
}

export interface ObjectRow {
  readonly objectId: number;
  readonly sizeBytes: number;
  readonly accessed: number;
  readonly form: 0 | 1;
  readonly storedBytes: number;
  readonly file: string | null;
  readonly data: Uint8Array | null;
}

export interface ValueRow extends ObjectRow {
  readonly sha256: Uint8Array;
  readonly writeId: number;
}

/** Where a blob's bytes are that lie in a file. */
export interface FileRow {
  readonly file: string;
  readonly storedBytes: number;
}

export interface ActionRow {
  readonly result: Uint8Array;
  readonly refersTo: Uint8Array | null;
  readonly accessed: number;
}

/** The same with the write that it came with. */
export interface WrittenActionRow extends ActionRow {
  readonly writeId: number;
}

export interface ScopeRow {
  readonly id: number;
  readonly viewId: number;
  readonly instance: string;
  readonly storedBytes: number;
}

/** Rows that may be evicted. */
export interface OldRow {
  readonly name: Uint8Array | string;
  readonly accessed: number;
}

/** The tables whose rows come and go by their use, with the column that names a row within its scope. */
export const EVICTABLE = {
  actions: "hash",
  keyed_values: "key",
  blobs: "hash",
} as const;

export type EvictableTable = keyof typeof EVICTABLE;

/** Rows to go through: all, or without those that a revocation hides. */
export type EntrySource = "actions" | "blobs" | "unrevoked actions" | "unrevoked blobs";

const USAGE_SUMS = [
  "coalesce(sum(blobs), 0) AS blobs",
  "coalesce(sum(actions), 0) AS actions",
  "coalesce(sum(keyed_values), 0) AS keyedValues",
  "coalesce(sum(logical_bytes), 0) AS logicalBytes",
  "coalesce(sum(stored_bytes), 0) AS storedBytes",
].join(", ");

/** Of each of a tenant's two connections, where there may be many tenants. */
const CACHE_BYTES = 8 * 2 ** 20;

/** Opens a tenant's Bazel index, made when absent. */
export async function openBazelIndex(options: {
  readonly file: string;
  readonly synchronous: Synchronous;
  readonly logger: Logger;
}): Promise<BazelIndex> {
  const { file, synchronous, logger } = options;
  try {
    const database = await openDatabase({
      file,
      synchronous,
      cacheBytes: CACHE_BYTES,
      logger,
      migrations: BAZEL_SCHEMA_STEPS,
    });
    try {
      const writers = BAZEL_WRITERS;
      const cacheBytes = CACHE_BYTES;
      const writer = await startThreadWriter({ file, synchronous, cacheBytes, writers }, logger);
      return new BazelIndex(file, database, writer);
    } catch (error) {
      database.close();
      throw error;
    }
  } catch (error) {
    throw fromSqliteError(error, file);
  }
}

/** The index of one tenant's Bazel data: reads at once, writes in batches on a thread of its own. */
export class BazelIndex implements AsyncDisposable {
  readonly #file: string;
  readonly #database: DatabaseSync;
  readonly #writer: SqliteWriter;
  readonly #queue: WriteQueue<WriteOperation, WriteOutcome>;
  /** For who goes through everything. */
  readonly objects: ObjectScan;
  readonly provenance: ProvenanceReads;
  readonly packing: PackingScan;
  readonly #findBlob: Query<BlobRow>;
  readonly #readBlob: Query<ObjectRow>;
  readonly #findFile: Query<FileRow>;
  readonly #findAction: Query<WrittenActionRow>;
  readonly #readValue: Query<ValueRow>;
  readonly #findLayout: Query<{ readonly chunks: Uint8Array }>;
  readonly #entries: Record<EntrySource, Query<{ readonly hex: string | null }>>;
  readonly #results: Query<{ readonly first: number | null; readonly hex: string | null }>;
  readonly #counts: Query<{ readonly blobs: number; readonly actions: number }>;
  readonly #oldest: Record<EvictableTable, Query<OldRow>>;
  readonly #usage: Query<ScopeUsage>;
  readonly #begin: Query<never>;
  readonly #commit: Query<never>;
  #readsInTurn = 0;
  #closing: Promise<void> | undefined;

  constructor(file: string, database: DatabaseSync, writer: SqliteWriter) {
    this.#file = file;
    this.#database = database;
    this.#writer = writer;
    this.#queue = new WriteQueue((operations) => writer.runBatch(operations));
    const prepare = <Row>(sql: string): Query<Row> => prepareQuery<Row>(database, sql);
    this.#begin = prepare("BEGIN");
    this.#commit = prepare("COMMIT");
    this.objects = new ObjectScan(database);
    this.packing = new PackingScan(database);
    this.#findBlob = prepare(`
      SELECT size_bytes AS sizeBytes, accessed, object_id AS objectId, write_id AS writeId
      FROM blobs WHERE hash = ?1 AND scope_id = ?2`);
    const object = `o.id AS objectId, o.size_bytes AS sizeBytes, o.form, o.stored_bytes AS storedBytes, o.file, c.data`;
    const from = `JOIN objects AS o ON o.id = r.object_id LEFT JOIN contents AS c ON c.object_id = o.id`;
    this.#readBlob = prepare(`
      SELECT r.accessed, ${object} FROM blobs AS r ${from} WHERE r.hash = ?1 AND r.scope_id = ?2`);
    this.#findFile = prepare(`
      SELECT o.file, o.stored_bytes AS storedBytes FROM blobs AS r
      JOIN objects AS o ON o.id = r.object_id
      WHERE r.hash = ?1 AND r.scope_id = ?2 AND o.file IS NOT NULL`);
    this.#readValue = prepare(`
      SELECT r.accessed, r.sha256, r.write_id AS writeId, ${object} FROM keyed_values AS r ${from}
      WHERE r.scope_id = ?1 AND r.key = ?2`);
    this.#findAction = prepare(`
      SELECT result, refers_to AS refersTo, accessed, write_id AS writeId FROM actions
      WHERE hash = ?1 AND scope_id = ?2`);
    this.#findLayout = prepare(`SELECT chunks FROM layouts WHERE hash = ?1 AND scope_id = ?2`);
    const entries = (rows: string, filter = ""): Query<{ readonly hex: string | null }> =>
      prepare(`
        SELECT group_concat(${ENTRY_HEX}, '') AS hex FROM (
          SELECT hash, scope_id, ${rows}
          WHERE (hash, scope_id) > (?1, ?2) ${filter} ORDER BY hash, scope_id LIMIT ?3)`);
    // From the index alone: rows of ActionResults are long, and their last use is read with the first of them.
    const actions = "0 AS size_bytes, 0 AS accessed, 0 AS object_id FROM actions";
    const blobs = "size_bytes, accessed, object_id FROM blobs";
    this.#entries = {
      actions: entries(actions),
      blobs: entries(blobs),
      "unrevoked actions": entries(
        actions,
        `AND id NOT IN (SELECT a.id FROM writes AS w JOIN actions AS a ON a.write_id = w.id
          WHERE w.revocation_id IS NOT NULL AND a.write_id > 0)`,
      ),
      "unrevoked blobs": entries(
        blobs,
        `AND write_id NOT IN (SELECT id FROM writes WHERE revocation_id IS NOT NULL)`,
      ),
    };
    this.#results = prepare(`
      SELECT min(id) AS first, group_concat(${RESULT_HEX}, '') AS hex FROM (
        SELECT * FROM actions WHERE id < ?1 AND length(result) + coalesce(length(refers_to), 0) <= ?2
        ORDER BY id DESC LIMIT ?3)`);
    this.provenance = new ProvenanceReads(database, (read) => this.#read(read));
    this.#counts = prepare(`
      SELECT coalesce(sum(blobs), 0) AS blobs, coalesce(sum(actions), 0) AS actions FROM scopes`);
    const oldest = (table: EvictableTable): Query<OldRow> =>
      prepare(`
        SELECT ${EVICTABLE[table]} AS name, accessed FROM ${table}
        WHERE scope_id = ?1 AND accessed < ?2 ORDER BY accessed LIMIT ?3`);
    this.#oldest = {
      actions: oldest("actions"),
      keyed_values: oldest("keyed_values"),
      blobs: oldest("blobs"),
    };
    this.#usage = prepare(`
      SELECT count(*) AS instances, ${USAGE_SUMS} FROM scopes WHERE view_id = ?1
        AND (?2 IS NULL OR instance = ?2)`);
  }

  findBlob(scopeId: number, hash: Uint8Array): BlobRow | undefined {
    return this.#read(() => this.#findBlob.get(hash, scopeId));
  }

  /** A blob with where its bytes are; with the bytes themselves when they are in the index. Without a file they are, or in a pack. */
  readBlob(scopeId: number, hash: Uint8Array): ObjectRow | undefined {
    return this.#read(() => this.#readBlob.get(hash, scopeId));
  }

  findFile(scopeId: number, hash: Uint8Array): FileRow | undefined {
    return this.#read(() => this.#findFile.get(hash, scopeId));
  }

  findAction(scopeId: number, hash: Uint8Array): WrittenActionRow | undefined {
    return this.#read(() => this.#findAction.get(hash, scopeId));
  }

  readValue(scopeId: number, key: string): ValueRow | undefined {
    return this.#read(() => this.#readValue.get(scopeId, key));
  }

  findLayout(scopeId: number, hash: Uint8Array): Uint8Array | undefined {
    return this.#read(() => this.#findLayout.get(hash, scopeId)?.chunks);
  }

  /** Rows in the order of their hashes, those after one; `undefined` is the beginning. */
  entriesAfter(
    source: EntrySource,
    last: { readonly hash: Uint8Array; readonly scopeId: number } | undefined,
    limit: number,
  ): EntryPage {
    const { hash, scopeId } = last ?? { hash: new Uint8Array(), scopeId: 0 };
    return new EntryPage(
      this.#read(() => this.#entries[source].get(hash, scopeId, limit)?.hex) ?? "",
    );
  }

  /** ActionResults of so many bytes at most, with what they need, the newest rows first; those before one. */
  resultsBefore(
    id: number,
    { maxBytes, limit }: { readonly maxBytes: number; readonly limit: number },
  ): { readonly first: number; readonly results: Iterable<PagedResult> } | undefined {
    const page = this.#read(() => this.#results.get(id, maxBytes, limit));
    if (page === undefined || page.first === null) return undefined;
    return { first: page.first, results: readResultPage(page.hex ?? "") };
  }

  /** How many rows there are in all scopes. */
  counts(): { readonly blobs: number; readonly actions: number } {
    return this.#read(() => this.#counts.get()) ?? { blobs: 0, actions: 0 };
  }

  /** Rows of a scope that were not used in this period or later, those used first first. */
  oldest(table: EvictableTable, scopeId: number, usedBefore: number, limit: number): OldRow[] {
    return this.#read(() => this.#oldest[table].all(scopeId, usedBefore, limit));
  }

  scopes(): ScopeRow[] {
    return this.#read(() =>
      prepareQuery<ScopeRow>(
        this.#database,
        `SELECT id, view_id AS viewId, instance, stored_bytes AS storedBytes FROM scopes`,
      ).all(),
    );
  }

  /** What a view's instance name holds, or all of them together. */
  usage(viewId: number, instance: string | undefined): ScopeUsage {
    const usage = this.#read(() => this.#usage.get(viewId, instance ?? null));
    if (usage === undefined) throw new Error("A sum over no rows is a row all the same");
    return usage;
  }

  storedBytes(): number {
    return this.#read(
      () =>
        prepareQuery<{ readonly bytes: number }>(
          this.#database,
          `SELECT stored_bytes AS bytes FROM totals`,
        ).get()?.bytes ?? 0,
    );
  }

  /** Every file that something refers to. */
  hasFile(file: string): boolean {
    return this.#read(
      () =>
        prepareQuery(this.#database, `SELECT 1 FROM objects WHERE file = ?1`).get(file) !==
        undefined,
    );
  }

  async write<Method extends keyof IndexWrites>(
    method: Method,
    ...parameters: Parameters<IndexWrites[Method]>
  ): Promise<ReturnType<IndexWrites[Method]>> {
    return await this.#write({ method, parameters });
  }

  /** As `write`, with memory of the parameters that is gone then. */
  async writeHandingOver<Method extends keyof IndexWrites>(
    handedOver: readonly ArrayBuffer[],
    method: Method,
    ...parameters: Parameters<IndexWrites[Method]>
  ): Promise<ReturnType<IndexWrites[Method]>> {
    return await this.#write({ method, parameters, handedOver });
  }

  async #write<Method extends keyof IndexWrites>(
    operation: WriteOperation & { readonly method: Method },
  ): Promise<ReturnType<IndexWrites[Method]>> {
    this.#requireOpen();
    const outcome = await this.#queue.run(operation);
    if (outcome.kind === "failed") throw fromFailure(outcome.failure);
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- it comes from that very method
    return outcome.value as ReturnType<IndexWrites[Method]>;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing ??= (async () => {
      await this.#queue.idle();
      await this.#writer[Symbol.asyncDispose]();
      this.#database.close();
    })();
    await this.#closing;
  }

  #read<Value>(read: () => Value): Value {
    this.#requireOpen();
    try {
      this.#joinTurn();
      return read();
    } catch (error) {
      throw fromSqliteError(error, this.#file);
    }
  }

  /**
   * Lets the reads of one turn, from the second on, see one state of the index: SQLite then takes its locks once,
   * and does not look before each whether pages in memory are still true, which they seldom are while others write.
   */
  #joinTurn(): void {
    this.#readsInTurn += 1;
    if (this.#readsInTurn === 1) queueMicrotask(this.#endTurn);
    else if (this.#readsInTurn === 2) this.#begin.run();
  }

  readonly #endTurn = (): void => {
    this.#readsInTurn = 0;
    if (this.#database.isOpen && this.#database.isTransaction) this.#commit.run();
  };

  #requireOpen(): void {
    if (this.#closing !== undefined) {
      throw new CacheError("UNAVAILABLE", `The index ${this.#file} is closed`);
    }
  }
}
