import type { DatabaseSync } from "node:sqlite";
import { Worker } from "node:worker_threads";

import { CacheError, type Logger } from "@glorious/core";

import {
  createBatchRunner,
  type CreateWriters,
  type WriteOperation,
  type WriteOutcome,
} from "./sqlite-batch.ts";
import type { Synchronous } from "./sqlite-connection.ts";
import { type Failure, fromFailure } from "./sqlite-errors.ts";

/** Runs batches of writes, one at a time. */
export interface SqliteWriter extends AsyncDisposable {
  runBatch(operations: readonly WriteOperation[]): Promise<readonly WriteOutcome[]>;
}

/** What the writer thread is started with. */
export interface WriterThreadData {
  readonly file: string;
  readonly synchronous: Synchronous;
  /** Pages that its connection remembers, in bytes; 32 MiB by default. */
  readonly cacheBytes?: number;
  /** Address of the module whose `createWriters` makes the writers; see {@link moduleBeside}. */
  readonly writers: string;
}

/** What the writer thread says: once that it is ready or why it is not, then one answer per batch. */
export type WriterThreadMessage =
  | { readonly kind: "ready" }
  | { readonly kind: "failed"; readonly failure: Failure }
  | { readonly kind: "batch"; readonly outcomes: readonly WriteOutcome[] };

/** A writer on a connection that reads use as well; the only kind that a database in memory can have. */
export function createLocalWriter(
  database: DatabaseSync,
  file: string,
  createWriters: CreateWriters,
): SqliteWriter {
  const runBatch = createBatchRunner(database, file, createWriters);
  return {
    runBatch: async (operations) => runBatch(operations),
    [Symbol.asyncDispose]: async () => {},
  };
}

/**
 * A batch comes and goes: its garbage is collected when it has half of this. What SQLite takes is apart from it.
 */
const LIMITS = { maxOldGenerationSizeMb: 64, maxYoungGenerationSizeMb: 6 };

/**
 * A writer on a thread of its own, so that nobody waits for the disk but who writes: a commit takes as long
 * as the disk needs, and SQLite blocks its thread for that time.
 */
export async function startThreadWriter(
  data: WriterThreadData,
  logger: Logger,
): Promise<SqliteWriter> {
  const thread = new WriterThread(data, logger);
  await thread.ready;
  return thread;
}

class WriterThread implements SqliteWriter {
  readonly ready: Promise<void>;
  readonly #worker: Worker;
  #waiting: PromiseWithResolvers<readonly WriteOutcome[]> | undefined;
  #dead: CacheError | undefined;

  constructor(data: WriterThreadData, logger: Logger) {
    const ready = Promise.withResolvers<void>();
    this.ready = ready.promise;
    this.#worker = startWorker(data);
    this.#worker.on("message", (message: WriterThreadMessage) => {
      if (message.kind === "ready") ready.resolve();
      else if (message.kind === "failed") ready.reject(fromFailure(message.failure));
      else this.#takeWaiting()?.resolve(message.outcomes);
    });
    const die = (cause: unknown): void => {
      this.#dead ??= new CacheError(
        "UNAVAILABLE",
        `The writer of the index ${data.file} has ended`,
        {
          hint: "Restart the server; its log has the reason.",
          cause,
        },
      );
      ready.reject(this.#dead);
      this.#takeWaiting()?.reject(this.#dead);
    };
    this.#worker.on("error", (error) => {
      logger.error("The index's writer thread failed", { file: data.file, error });
      die(error);
    });
    this.#worker.on("exit", die);
  }

  runBatch(operations: readonly WriteOperation[]): Promise<readonly WriteOutcome[]> {
    if (this.#dead !== undefined) return Promise.reject(this.#dead);
    if (this.#waiting !== undefined) throw new Error("The writer is running a batch already");
    // First, because it throws for what cannot cross to the thread.
    this.#worker.postMessage(
      operations,
      operations.flatMap(({ handedOver }) => handedOver ?? []),
    );
    this.#waiting = Promise.withResolvers();
    return this.#waiting.promise;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#dead !== undefined) return;
    const exited = new Promise((resolve) => this.#worker.once("exit", resolve));
    this.#worker.postMessage("close", []);
    await exited;
  }

  #takeWaiting(): PromiseWithResolvers<readonly WriteOutcome[]> | undefined {
    const waiting = this.#waiting;
    this.#waiting = undefined;
    return waiting;
  }
}

/**
 * The address of the module `name` beside the one that asks, for a thread to import: a source in the
 * workspace, which runs its sources, and built in a published package.
 */
export function moduleBeside(name: string, importMetaUrl: string): string {
  return new URL(`./${name}${isSource(importMetaUrl) ? ".ts" : ".js"}`, importMetaUrl).href;
}

function isSource(url: string): boolean {
  return url.endsWith(".ts");
}

function startWorker(workerData: WriterThreadData): Worker {
  // Packages resolve by a condition that a thread does not inherit from every parent: a test runner has its
  // own loader.
  return isSource(import.meta.url)
    ? new Worker(new URL("./sqlite-writer-thread.ts", import.meta.url), {
        workerData,
        resourceLimits: LIMITS,
        execArgv: ["--conditions=source"],
      })
    : new Worker(new URL("./sqlite-writer-thread.js", import.meta.url), {
        workerData,
        resourceLimits: LIMITS,
      });
}
