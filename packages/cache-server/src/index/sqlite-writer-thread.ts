import type { DatabaseSync } from "node:sqlite";
import { parentPort, workerData } from "node:worker_threads";

import { createBatchRunner, type CreateWriters, type WriteOperation } from "./sqlite-batch.ts";
import { openConnection } from "./sqlite-connection.ts";
import { fromSqliteError, toFailure } from "./sqlite-errors.ts";
import type { WriterThreadData, WriterThreadMessage } from "./sqlite-writer.ts";

const data: WriterThreadData = workerData;
const { file, synchronous, cacheBytes, writers } = data;

try {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- whoever starts the thread names such a module
  const { createWriters } = (await import(writers)) as { readonly createWriters: CreateWriters };
  serve(openConnection(file, synchronous, cacheBytes), createWriters);
} catch (error) {
  answer({ kind: "failed", failure: toFailure(fromSqliteError(error, file)) });
}

function serve(database: DatabaseSync, createWriters: CreateWriters): void {
  const runBatch = createBatchRunner(database, file, createWriters);
  parentPort?.on("message", (message: readonly WriteOperation[] | "close") => {
    if (message === "close") {
      database.close();
      parentPort?.close();
      return;
    }
    answer({ kind: "batch", outcomes: runBatch(message) });
    // Else it would lie about until the collector comes by, which large memory outside of its heap hardly hurries.
    for (const { handedOver } of message) handedOver?.forEach((memory) => memory.transfer(0));
  });
  answer({ kind: "ready" });
}

function answer(message: WriterThreadMessage): void {
  parentPort?.postMessage(message, []);
}
