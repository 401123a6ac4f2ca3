import { open } from "node:fs/promises";
import type { DatabaseSync } from "node:sqlite";
import { setTimeout as sleep } from "node:timers/promises";

import { CacheError, type Logger } from "@glorious/core";

import { migrate } from "./migrations.ts";
import { openConnection, type Synchronous } from "./sqlite-connection.ts";
import { isBusy } from "./sqlite-errors.ts";

/** How {@link openDatabase} opens a database. */
export interface OpenDatabaseOptions {
  /** Made when absent, readable by its owner only; or `:memory:`. */
  readonly file: string;
  readonly synchronous: Synchronous;
  /** Pages that the connection remembers, in bytes; 32 MiB by default. */
  readonly cacheBytes?: number | undefined;
  readonly migrations: readonly string[];
  readonly logger: Logger;
}

/**
 * Opens a database with its schema brought up to date, for reading on the caller's thread; one in memory for
 * writing as well.
 */
export async function openDatabase(options: OpenDatabaseOptions): Promise<DatabaseSync> {
  if (options.file !== ":memory:") await createPrivately(options.file);
  return await openMigrated(options);
}

/** The file may hold secrets. SQLite gives its log files the same mode. */
async function createPrivately(file: string): Promise<void> {
  try {
    await (await open(file, "a", 0o600)).close();
  } catch (cause) {
    throw new CacheError("UNAVAILABLE", `The index ${file} cannot be opened`, {
      hint: "Check that the directory exists and that the server may write to it.",
      cause,
    });
  }
}

async function openMigrated(options: OpenDatabaseOptions): Promise<DatabaseSync> {
  const { file, synchronous, migrations, logger } = options;
  const deadline = performance.now() + 10_000;
  while (true) {
    let database: DatabaseSync | undefined;
    try {
      database = openConnection(file, synchronous, options.cacheBytes);
      migrate(database, file, { migrations, logger });
      if (file !== ":memory:") database.exec("PRAGMA query_only = ON");
      return database;
    } catch (error) {
      database?.close();
      // Turning a new file's log on does not wait for another process that is doing the same.
      if (!isBusy(error) || performance.now() > deadline) throw error;
      await sleep(20);
    }
  }
}
