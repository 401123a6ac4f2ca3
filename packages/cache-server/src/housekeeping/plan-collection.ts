import { type CollectionOrder, type Pause, visitAll } from "./collection-order.ts";
import type { PathGraph } from "./path-graph.ts";

/** What a view may keep. */
export interface CollectionLimits {
  /** What was last used before this goes. `undefined`: nothing goes for its age. */
  readonly expiresBeforeMs: number | undefined;
  /** Stored bytes of the NARs of its paths, each NAR once. */
  readonly maxSizeBytes: number | undefined;
  /** What was used since stays, however large the view is. */
  readonly evictsBeforeMs: number;
}

const GROUPS_PER_TURN = 1024;

/** Counts what a view's NARs take while paths go. */
export class NarLedger {
  readonly #graph: PathGraph;
  readonly #uses: Uint32Array;
  #sizeBytes = 0;

  private constructor(graph: PathGraph) {
    this.#graph = graph;
    this.#uses = new Uint32Array(graph.narCount);
  }

  /** Counts what the paths with these ids have. */
  static async open(graph: PathGraph, ids: Uint32Array, pause: Pause): Promise<NarLedger> {
    const ledger = new NarLedger(graph);
    await visitAll(ids, pause, (id) => ledger.#add(id));
    return ledger;
  }

  #add(id: number): void {
    const nar = this.#graph.narOf(id);
    const uses = this.#uses[nar] ?? 0;
    if (uses === 0) this.#sizeBytes += this.#graph.narBytes(nar);
    this.#uses[nar] = uses + 1;
  }

  /** Stored bytes of the NARs that paths have. */
  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  /** Takes a path away. */
  remove(id: number): void {
    const nar = this.#graph.narOf(id);
    const uses = (this.#uses[nar] ?? 0) - 1;
    this.#uses[nar] = uses;
    if (uses === 0) this.#sizeBytes -= this.#graph.narBytes(nar);
  }
}

/**
 * Chooses what goes: everything past its time, then whole groups, the oldest first, until the rest is small enough.
 *
 * @returns Ids, those that refer before those referred to.
 */
export async function chooseDoomed(
  graph: PathGraph,
  { order, group, groupAccessedAtMs }: CollectionOrder,
  { pause, ...limits }: CollectionLimits & { readonly pause: Pause },
): Promise<Uint32Array> {
  const { expiresBeforeMs = -Infinity, maxSizeBytes = Infinity, evictsBeforeMs } = limits;
  const ledger = await NarLedger.open(graph, order, pause);
  let end = 0;
  for (let groups = 0; end < order.length; groups += 1) {
    if (groups % GROUPS_PER_TURN === 0) await pause();
    const oldest = group[order[end] ?? 0] ?? 0;
    if (oldest === 0) break;
    const accessedAtMs = groupAccessedAtMs(oldest);
    const isExpired = accessedAtMs < expiresBeforeMs;
    const isTooMuch = ledger.sizeBytes > maxSizeBytes && accessedAtMs < evictsBeforeMs;
    if (!isExpired && !isTooMuch) break;
    for (; end < order.length && group[order[end] ?? 0] === oldest; end += 1) {
      ledger.remove(order[end] ?? 0);
    }
  }
  return order.subarray(0, end);
}

/** Cuts doomed paths into slices of at least `size` that never separate a circle of references. */
export function* sliceDoomed(
  doomed: Uint32Array,
  component: Uint32Array,
  size: number,
): Generator<Uint32Array> {
  for (let begin = 0, end = 0; begin < doomed.length; begin = end) {
    end = Math.min(begin + size, doomed.length);
    const last = component[doomed[end - 1] ?? 0];
    while (end < doomed.length && component[doomed[end] ?? 0] === last) end += 1;
    yield doomed.subarray(begin, end);
  }
}
