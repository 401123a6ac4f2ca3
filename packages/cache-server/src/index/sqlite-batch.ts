import type { DatabaseSync } from "node:sqlite";

import { type Failure, fromSqliteError, toFailure } from "./sqlite-errors.ts";

/** One write as plain values, so that another thread can run it. */
export interface WriteOperation {
  /** The name of a method of one of the writers. */
  readonly method: string;
  readonly parameters: readonly unknown[];
  /** Memory of parameters that nobody else needs: a thread takes it over, and gives it back when the write is done. */
  readonly handedOver?: readonly ArrayBuffer[] | undefined;
}

/** Makes the objects whose methods are the writes of a database; each runs inside a savepoint of its own. */
export type CreateWriters = (database: DatabaseSync) => readonly object[];

/** What became of one write, as plain values. */
export type WriteOutcome =
  | { readonly kind: "done"; readonly value: unknown }
  | { readonly kind: "failed"; readonly failure: Failure };

/**
 * Runs batches of writes on the connection, one transaction each.
 *
 * Every operation has a savepoint of its own, so one that fails leaves its neighbours alone. When the
 * transaction itself fails, nothing of the batch is there and every outcome is that failure.
 */
export function createBatchRunner(
  database: DatabaseSync,
  file: string,
  createWriters: CreateWriters,
): (operations: readonly WriteOperation[]) => WriteOutcome[] {
  const writers = createWriters(database);
  // An immediate transaction waits for other processes at its start, where nothing is lost by waiting;
  // one that begins as a reader fails in the middle when another process wrote meanwhile.
  const begin = database.prepare("BEGIN IMMEDIATE");
  const commit = database.prepare("COMMIT");
  const save = database.prepare("SAVEPOINT operation");
  const keep = database.prepare("RELEASE operation");
  const undo = database.prepare("ROLLBACK TO operation");

  const runOne = (operation: WriteOperation): WriteOutcome => {
    save.run();
    try {
      const value = call(writers, operation);
      keep.run();
      return { kind: "done", value };
    } catch (error) {
      // A full disk or an I/O error takes the whole transaction back by itself.
      if (!database.isTransaction) throw error;
      undo.run();
      keep.run();
      return { kind: "failed", failure: toFailure(fromSqliteError(error, file)) };
    }
  };

  return (operations) => {
    try {
      begin.run();
      const outcomes = operations.map(runOne);
      commit.run();
      return outcomes;
    } catch (error) {
      if (database.isTransaction) database.exec("ROLLBACK");
      const failure = toFailure(fromSqliteError(error, file));
      return operations.map(() => ({ kind: "failed", failure }));
    }
  };
}

function call(writers: readonly object[], { method, parameters }: WriteOperation): unknown {
  const writer = writers.find((candidate) => method in candidate);
  if (writer === undefined) throw new Error(`There is no write ${method}`);
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the index pairs them, and it has their types
  const run = Reflect.get(writer, method) as (this: object, ...args: readonly unknown[]) => unknown;
  return run.call(writer, ...parameters);
}
