import { setImmediate as nextTurn } from "node:timers/promises";

import type { EntryRow } from "./bazel-index.ts";
import { wordsOf } from "./packed-digests.ts";
import type { TenantState } from "./tenant-state.ts";

/** Below a millisecond of reading, before others get their turn. */
const ROWS_PER_SLICE = 1000;

/**
 * Reads into memory what the index has, in slices, while the tenant is served. From then on what memory does not
 * have is absent, without a look into the index: nobody but this process writes it.
 *
 * A tenant with more than fits into memory goes on asking the index.
 */
export async function learnIndex(state: TenantState, signal: AbortSignal): Promise<void> {
  const { index, blobs, actions } = state;
  const counts = index.counts();
  await learn("actions", counts.actions);
  await learn("blobs", counts.blobs);

  async function learn(name: "actions" | "blobs", count: number): Promise<void> {
    const table = name === "blobs" ? blobs : actions.table;
    // Some more will come meanwhile.
    if (count * 1.05 > table.maxEntries) return;
    table.reserve(count);
    const { losses } = table;
    let last: EntryRow | undefined;
    do {
      await nextTurn();
      if (signal.aborted) return;
      const rows = index.entriesAfter(name, last, ROWS_PER_SLICE);
      for (const row of rows) {
        // What is read and put into memory in one turn is there still, unless it is on its way out.
        if (state.isGoing(name, row.scopeId, row.hash)) continue;
        table.learn(row.scopeId, wordsOf(row.hash), row);
      }
      last = rows.length < ROWS_PER_SLICE ? undefined : rows.at(-1);
    } while (last !== undefined);
    table.isWhole = table.losses === losses;
  }
}
