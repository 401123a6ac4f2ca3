import { DatabaseSync } from "node:sqlite";

import { CacheError } from "@glorious/core";

/**
 * Tells whether an index may have changed.
 *
 * What was read from the index after a call of `version` may be served again for as long as `version` gives the
 * same number, however it was written: by this process or by another one.
 */
export interface IndexChanges {
  /**
   * Another number after every committed write, whoever made it; never a number it gave before one. Within one
   * turn it is the same: all requests of one read from a socket were sent before that read.
   */
  version(): number;
}

/** An {@link IndexChanges} that holds a resource. */
export interface OpenIndexChanges extends IndexChanges, Disposable {}

/**
 * Watches a SQLite index through a connection of its own, which writes nothing and holds no lock: SQLite changes
 * its `data_version` when any other connection has committed. Asking takes about 2 µs, once in a turn.
 *
 * @throws {CacheError} `UNAVAILABLE` when the file cannot be opened.
 */
export function openSqliteChanges(file: string): OpenIndexChanges {
  let database: DatabaseSync;
  try {
    database = new DatabaseSync(file, { readOnly: true });
  } catch (cause) {
    throw new CacheError("UNAVAILABLE", `The index ${file} cannot be watched for changes`, {
      cause,
    });
  }
  const statement = database.prepare("PRAGMA data_version");
  let known: unknown;
  // Not SQLite's own number: after an answer that failed, what was read before must not come back.
  let version = 0;
  let isAsked = false;
  const endTurn = (): void => {
    isAsked = false;
  };
  return {
    version() {
      if (isAsked) return version;
      isAsked = true;
      // Node runs microtasks after every callback: what a socket brings next finds the question open again.
      queueMicrotask(endTurn);
      let present: unknown;
      try {
        present = statement.get()?.["data_version"];
      } catch {
        present = undefined;
      }
      if (present === undefined || present !== known) version += 1;
      known = present;
      return version;
    },
    [Symbol.dispose]: () => database.close(),
  };
}
