import { setImmediate as nextTurn } from "node:timers/promises";

import type { EvictableTable, OldRow, ScopeRow } from "./bazel-index.ts";
import type { EvictionResult } from "./bazel-store.ts";
import type { Slots } from "./key-table.ts";
import { wordsOf } from "./packed-digests.ts";
import type { TenantState } from "./tenant-state.ts";
import { periodOf, PERIOD_MS } from "./touches.ts";

/** A view's part of a tenant's room. */
export interface ViewLimit {
  readonly maxBytes: number | undefined;
  /** What it holds goes before anything of other views, and never pushes any of that out. */
  readonly isOverlay?: boolean;
}

export interface EvictionOptions {
  readonly state: TenantState;
  readonly views: ReadonlyMap<number, ViewLimit>;
  /** Of the whole tenant. */
  readonly maxBytes: number;
  /** How long clients may count on what they were told is there. */
  readonly ttlMs: number;
  readonly nowMs: number;
  /** Room to make beyond the limit. */
  readonly spareBytes: number;
  /** The room is for an overlay: only overlays make it. */
  readonly isForOverlay?: boolean;
}

export interface Eviction extends EvictionResult {
  /** Views whose limit is exceeded by what is too fresh to go. */
  readonly fullViews: ReadonlySet<number>;
}

const ROWS_PER_SLICE = 500;
/** Scopes that are looked into before others get their turn. */
const SCOPES_PER_TURN = 100;
/** Later than every period. */
const EVERYTHING = 2 ** 31;
/** The order in which what was used in one period goes: ActionResults before what they need. */
const TABLES: readonly EvictableTable[] = ["actions", "keyed_values", "blobs"];

/** Makes room in one tenant, in slices, while it serves. */
export async function evict(options: EvictionOptions): Promise<Eviction> {
  const { state, views, maxBytes, ttlMs, nowMs, spareBytes } = options;
  const counts = { actions: 0, blobs: 0, keyedValues: 0 };
  const bytesBefore = state.storedBytes;
  await state.flush();

  const deleteSlice = async (scopeId: number, usedBefore: number): Promise<boolean> => {
    const found = findSlice(state, scopeId, usedBefore);
    if (found === undefined) return false;
    const { table, rows } = found;
    const deleted = await deleteRows(state, { table, scopeId, rows, usedBefore });
    if (table === "actions") counts.actions += deleted;
    else if (table === "blobs") counts.blobs += deleted;
    else counts.keyedValues += deleted;
    return deleted > 0;
  };

  for (const scope of state.index.scopes()) {
    if (views.has(scope.viewId)) continue;
    while (await deleteSlice(scope.id, EVERYTHING)) continue;
    if (await state.write("deleteScope", scope.id)) {
      state.forgetScope(scope.viewId, scope.instance);
    }
  }

  // A period may have begun when it was noted and not be over yet.
  const usedBefore = periodOf(nowMs - ttlMs - PERIOD_MS);
  const ordered = (scopes: readonly ScopeRow[], before = usedBefore): Promise<OldestFirst> =>
    OldestFirst.of(state, scopes, { usedBefore: before, deleteSlice });

  const fullViews = new Set<number>();
  for (const [viewId, { maxBytes: viewBytes }] of views) {
    if (viewBytes === undefined) continue;
    const isOver = (): boolean => state.index.usage(viewId, undefined).storedBytes > viewBytes;
    if (!isOver()) continue;
    const scopes = state.index.scopes().filter((scope) => scope.viewId === viewId);
    const oldest = await ordered(scopes);
    while (isOver()) {
      if (await oldest.deleteSome()) continue;
      fullViews.add(viewId);
      break;
    }
  }
  const isFull = (): boolean => state.storedBytes + state.reservedBytes + spareBytes > maxBytes;
  const isOfOverlay = ({ viewId }: ScopeRow): boolean => views.get(viewId)?.isOverlay === true;
  const steps = [
    { wanted: isOfOverlay, before: usedBefore },
    // However fresh: what nobody vouches for must not keep what somebody does from staying.
    { wanted: isOfOverlay, before: EVERYTHING },
    { wanted: (scope: ScopeRow) => !isOfOverlay(scope), before: usedBefore },
  ];
  for (const { wanted, before } of options.isForOverlay === true ? steps.slice(0, 1) : steps) {
    if (!isFull()) break;
    const oldest = await ordered(state.index.scopes().filter(wanted), before);
    while (isFull() && (await oldest.deleteSome())) continue;
  }
  return { ...counts, freedBytes: Math.max(0, bytesBefore - state.storedBytes), fullViews };
}

type DeleteSlice = (scopeId: number, usedBefore: number) => Promise<boolean>;

/** Scopes in the order of what each holds that was used first: there may be thousands. */
class OldestFirst {
  readonly #state: TenantState;
  readonly #usedBefore: number;
  readonly #deleteSlice: DeleteSlice;
  /** The one whose turn it is comes last. */
  readonly #scopes: { readonly id: number; readonly accessed: number }[] = [];

  private constructor(
    state: TenantState,
    options: { readonly usedBefore: number; readonly deleteSlice: DeleteSlice },
  ) {
    this.#state = state;
    this.#usedBefore = options.usedBefore;
    this.#deleteSlice = options.deleteSlice;
  }

  static async of(
    state: TenantState,
    scopes: readonly ScopeRow[],
    options: { readonly usedBefore: number; readonly deleteSlice: DeleteSlice },
  ): Promise<OldestFirst> {
    const oldest = new OldestFirst(state, options);
    for (const [at, { id }] of scopes.entries()) {
      if (at % SCOPES_PER_TURN === SCOPES_PER_TURN - 1) await nextTurn();
      const accessed = oldest.#oldestUseIn(id);
      if (accessed !== undefined) oldest.#scopes.push({ id, accessed });
    }
    oldest.#scopes.sort((one, other) => other.accessed - one.accessed);
    return oldest;
  }

  /** Deletes a slice of what was used first; false when all of it is too fresh. */
  async deleteSome(): Promise<boolean> {
    for (;;) {
      const first = this.#scopes.pop();
      if (first === undefined) return false;
      const isDeleted = await this.#deleteSlice(first.id, this.#usedBefore);
      // All of the slice was used since the index was told.
      if (!isDeleted) await this.#state.flush();
      const accessed = this.#oldestUseIn(first.id);
      if (accessed !== undefined) this.#insert({ id: first.id, accessed });
      if (isDeleted) return true;
    }
  }

  #oldestUseIn(scopeId: number): number | undefined {
    return findSlice(this.#state, scopeId, this.#usedBefore, 1)?.accessed;
  }

  #insert(scope: { readonly id: number; readonly accessed: number }): void {
    let [from, to] = [0, this.#scopes.length];
    while (from < to) {
      const middle = (from + to) >> 1;
      if ((this.#scopes[middle]?.accessed ?? 0) > scope.accessed) from = middle + 1;
      else to = middle;
    }
    this.#scopes.splice(from, 0, scope);
  }
}

/** The rows of a scope that go first. */
function findSlice(
  { index }: TenantState,
  scopeId: number,
  usedBefore: number,
  limit: number = ROWS_PER_SLICE,
):
  | { readonly table: EvictableTable; readonly rows: readonly OldRow[]; readonly accessed: number }
  | undefined {
  let first: { table: EvictableTable; rows: readonly OldRow[]; accessed: number } | undefined;
  for (const table of TABLES) {
    const rows = index.oldest(table, scopeId, usedBefore, limit);
    const accessed = rows[0]?.accessed;
    if (accessed === undefined || (first !== undefined && first.accessed <= accessed)) continue;
    first = { table, rows, accessed };
  }
  if (first === undefined) return undefined;
  // A blob may be needed by an ActionResult of its own period or a later one, never of an earlier one only.
  const { accessed } = first;
  return { ...first, rows: first.rows.filter((row) => row.accessed === accessed) };
}

async function deleteRows(
  state: TenantState,
  slice: {
    readonly table: EvictableTable;
    readonly scopeId: number;
    readonly rows: readonly OldRow[];
    readonly usedBefore: number;
  },
): Promise<number> {
  const { table, scopeId, usedBefore } = slice;
  // What was used since the index was told is no longer old.
  const rows = slice.rows.filter(({ name }) => lastUse(state, table, scopeId, name) < usedBefore);
  if (rows.length === 0) return 0;
  const names = rows.map(({ name }) =>
    typeof name === "string" ? name : Buffer.from(name).toString("hex"),
  );
  using _going = state.letGo(table, scopeId, names);
  for (const { name } of rows) forget(state, table, scopeId, name);
  if (table === "keyed_values") {
    const change = await state.write("deleteValues", scopeId, names, usedBefore);
    await state.settle(change);
    return change.deleted;
  }
  const hashes = rows.flatMap(({ name }) => (typeof name === "string" ? [] : [name]));
  const method = table === "actions" ? "deleteActions" : "deleteBlobs";
  await state.settle(await state.write(method, scopeId, hashes, usedBefore));
  return rows.length;
}

function lastUse(
  state: TenantState,
  table: EvictableTable,
  scopeId: number,
  name: Uint8Array | string,
): number {
  if (typeof name === "string") return state.valueTouchedAt(scopeId, name);
  const memory: Slots = table === "actions" ? state.actions.table : state.blobs;
  const slot = memory.find(scopeId, wordsOf(name));
  return slot === 0 ? 0 : memory.touchedOf(slot);
}

function forget(
  state: TenantState,
  table: EvictableTable,
  scopeId: number,
  name: Uint8Array | string,
): void {
  if (typeof name === "string") return;
  const memory: Slots = table === "actions" ? state.actions.table : state.blobs;
  if (table === "actions") state.evictedActions.add(scopeId, wordsOf(name));
  const slot = memory.find(scopeId, wordsOf(name));
  if (slot !== 0) memory.remove(slot);
}
