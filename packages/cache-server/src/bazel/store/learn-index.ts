import { setImmediate as nextTurn } from "node:timers/promises";

import { wordsOf } from "./packed-digests.ts";
import type { TenantState } from "./tenant-state.ts";

/** Below a millisecond of reading, before others get their turn. */
const ROWS_PER_SLICE = 2000;
const RESULTS_PER_SLICE = 200;
/** Longer ones are read when they are asked for. */
const MAX_RESULT_BYTES = 16 * 1024;

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
  await learnResults(state, signal);

  async function learn(name: "actions" | "blobs", count: number): Promise<void> {
    const table = name === "blobs" ? blobs : actions.table;
    // Some more will come meanwhile.
    if (!table.fits(count * 1.05)) return;
    table.reserve(count);
    const { losses } = table;
    let last: { readonly hash: Uint8Array; readonly scopeId: number } | undefined;
    do {
      await nextTurn();
      if (signal.aborted) return;
      const source = state.writes.isClean ? name : (`unrevoked ${name}` as const);
      const page = index.entriesAfter(source, last, ROWS_PER_SLICE);
      for (let row = 0; row < page.length; row += 1) {
        const scopeId = page.scopeId(row);
        // What is read and put into memory in one turn is there still, unless it is on its way out.
        if (state.isGoing(name, scopeId, page.hash(row))) continue;
        const entry = {
          sizeBytes: page.sizeBytes(row),
          accessed: page.accessed(row),
          place: page.objectId(row),
        };
        table.learn(scopeId, page.words, page.hashAt(row), entry);
      }
      const end = page.length - 1;
      last =
        page.length < ROWS_PER_SLICE
          ? undefined
          : { hash: page.hash(end), scopeId: page.scopeId(end) };
    } while (last !== undefined);
    table.isWhole = table.losses === losses;
  }
}

/** Reads the ActionResults themselves, the newest first, as far as there is memory for them. */
async function learnResults(state: TenantState, signal: AbortSignal): Promise<void> {
  const { index, actions } = state;
  let before = 2 ** 52;
  for (;;) {
    await nextTurn();
    if (signal.aborted) return;
    const page = index.resultsBefore(before, {
      maxBytes: MAX_RESULT_BYTES,
      limit: RESULTS_PER_SLICE,
    });
    if (page === undefined) return;
    before = page.first;
    for (const result of page.results) {
      const { scopeId, hash, accessed } = result;
      const slot = actions.table.peek(scopeId, wordsOf(hash));
      if (slot === 0 || state.isGoing("actions", scopeId, hash)) continue;
      // What others need and have asked for meanwhile must not go for what nobody may ask for.
      if (!actions.learn(slot, accessed, result)) return;
    }
  }
}
