import { DatabaseSync, type SQLInputValue, type StatementSync } from "node:sqlite";

import { CacheError } from "@glorious/core";

/** How long a connection waits for another process to finish writing. */
const BUSY_TIMEOUT_MS = 10_000;

/** `full`: a commit is on the disk when it returns. `off`: a power cut may lose it; for tests only. */
export type Synchronous = "full" | "off";

/** Pages that a connection remembers, in bytes. */
const DEFAULT_CACHE_BYTES = 32 * 2 ** 20;

/**
 * Opens a connection with the settings that every connection of the index has. Does not touch the schema.
 *
 * @param cacheBytes Pages that it remembers; what it has to read again lies in the operating system's memory.
 * @throws {CacheError} `CONFIG` when the file system does not carry SQLite's write-ahead log.
 */
export function openConnection(
  file: string,
  synchronous: Synchronous,
  cacheBytes: number = DEFAULT_CACHE_BYTES,
): DatabaseSync {
  const database = new DatabaseSync(file, {
    timeout: BUSY_TIMEOUT_MS,
    enableForeignKeyConstraints: true,
    enableDoubleQuotedStringLiterals: false,
  });
  try {
    // Before anything that writes: switching to WAL is itself a write.
    database.exec(`PRAGMA synchronous = ${synchronous === "full" ? "FULL" : "OFF"}`);
    const mode = database.prepare("PRAGMA journal_mode = WAL").get()?.["journal_mode"];
    if (mode !== "wal" && file !== ":memory:") {
      throw new CacheError("CONFIG", `The index ${file} cannot have a write-ahead log`, {
        hint: "Put it on a local file system, with its directory writable.",
      });
    }
    database.exec(`PRAGMA cache_size = ${-Math.ceil(cacheBytes / 1024)}`);
    // Mapped into memory, a large index is no faster, adds itself to the process for each connection, and turns
    // a read error into a crash.
    database.exec("PRAGMA mmap_size = 0");
    database.exec("PRAGMA temp_store = MEMORY");
    // A burst may make the log long; afterwards it shrinks back to this many bytes.
    database.exec(`PRAGMA journal_size_limit = ${64 * 2 ** 20}`);
  } catch (error) {
    database.close();
    throw error;
  }
  return database;
}

/** A prepared statement whose rows have a known shape. */
export interface Query<Row> {
  get(...parameters: readonly SQLInputValue[]): Row | undefined;
  all(...parameters: readonly SQLInputValue[]): Row[];
  /** Row by row; who stops early has read no more. */
  iterate(...parameters: readonly SQLInputValue[]): Iterable<Row>;
  /** Runs it and returns how many rows it changed itself, without cascades and triggers. */
  run(...parameters: readonly SQLInputValue[]): number;
}

interface TypedStatement<Row> {
  get(...parameters: readonly SQLInputValue[]): Row | undefined;
  all(...parameters: readonly SQLInputValue[]): Row[];
  iterate(...parameters: readonly SQLInputValue[]): Iterable<Row>;
}

/** Prepares a statement once. `Row` must be what its columns are: nothing checks that. */
export function prepareQuery<Row>(database: DatabaseSync, sql: string): Query<Row> {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- only the caller knows the columns
  const statement = database.prepare(sql) as TypedStatement<Row> & StatementSync;
  return {
    get: (...parameters) => statement.get(...parameters),
    all: (...parameters) => statement.all(...parameters),
    iterate: (...parameters) => statement.iterate(...parameters),
    run: (...parameters) => Number(statement.run(...parameters).changes),
  };
}
