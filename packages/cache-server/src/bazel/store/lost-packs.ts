import { setImmediate as nextTurn } from "node:timers/promises";

import type { TenantState } from "./tenant-state.ts";

/** Below a millisecond of reading, then others have their turn. */
const IDS_PER_LOOK = 1000;
const ROWS_PER_LOOK = 1000;
const REASON = "gone from its pack";

/**
 * Whether a pack is missing, as after damage: every small object before the last pack lies in one, and those behind it
 * move in order, so that the first between two packs, or behind all, tells.
 *
 * Costs one look into the index for each pack.
 */
export function lacksPack({ packs, index }: TenantState): boolean {
  let from = 1;
  for (const { first, last } of packs.ranges) {
    if (!index.packing.beginsInline(from, first - 1)) return true;
    from = last + 1;
  }
  return !index.packing.beginsInline(from, index.packing.lastGivenId());
}

/** Makes absent what should lie in a pack and does not. Goes through everything, in slices. */
export async function loseUnpacked(state: TenantState, signal: AbortSignal): Promise<void> {
  const gone = await findUnpacked(state, signal);
  if (gone.size === 0) return;
  await loseBlobs(state, gone, signal);
  await loseValues(state, gone, signal);
}

async function findUnpacked(
  { packs, index }: TenantState,
  signal: AbortSignal,
): Promise<ReadonlySet<number>> {
  const gone = new Set<number>();
  const end = index.packing.lastGivenId();
  for (let id = 1; id <= end; id += IDS_PER_LOOK) {
    await nextTurn();
    if (signal.aborted) break;
    for (const bare of index.packing.withoutBytes(id, id + IDS_PER_LOOK - 1)) {
      if (!packs.has(bare)) gone.add(bare);
    }
  }
  return gone;
}

async function loseBlobs(
  state: TenantState,
  gone: ReadonlySet<number>,
  signal: AbortSignal,
): Promise<void> {
  for (let after: Uint8Array = new Uint8Array(); ;) {
    await nextTurn();
    const page = signal.aborted ? [] : state.index.objects.blobs(after, ROWS_PER_LOOK);
    const lost = page.filter(({ id }) => gone.has(id));
    // Together: their writes then share commits.
    await Promise.all(lost.map(({ hash }) => state.lose(hash, REASON)));
    const last = page.at(-1);
    if (last === undefined) return;
    after = last.hash;
  }
}

async function loseValues(
  state: TenantState,
  gone: ReadonlySet<number>,
  signal: AbortSignal,
): Promise<void> {
  for (let after = { scopeId: 0, key: "" }; ;) {
    await nextTurn();
    const page = signal.aborted ? [] : state.index.objects.values(after, ROWS_PER_LOOK);
    const lost = page.filter(({ id }) => gone.has(id));
    await Promise.all(lost.map(({ scopeId, key }) => state.loseValue(scopeId, key, REASON)));
    const last = page.at(-1);
    if (last === undefined) return;
    after = last;
  }
}
