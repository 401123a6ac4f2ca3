import type { PathGraph } from "./path-graph.ts";

/** Lets others have their turn; called every few thousand steps of a long computation. */
export type Pause = () => Promise<void>;

const STEPS_PER_TURN = 8192;
const RADIX = 65_536;

/** Visits all ids in their order, and lets others have their turn in between. */
export async function visitAll(
  ids: Uint32Array,
  pause: Pause,
  visit: (id: number, position: number) => void,
): Promise<void> {
  for (let begin = 0; begin < ids.length; begin += STEPS_PER_TURN) {
    const end = Math.min(begin + STEPS_PER_TURN, ids.length);
    for (let position = begin; position < end; position += 1) visit(ids[position] ?? 0, position);
    await pause();
  }
}

/** Present paths, those that refer before those referred to. */
export interface Topology {
  readonly order: Uint32Array;
  /** By id: paths that refer to one another in a circle share a number, and stand side by side. */
  readonly component: Uint32Array;
}

/** Sorts a view's paths so that references come after what refers to them. */
export async function sortByReference(graph: PathGraph, pause: Pause): Promise<Topology> {
  const search = new ComponentSearch(graph);
  let steps = 0;
  for (let root = 0; root < graph.idCount; root += 1) {
    search.begin(root);
    while (!search.isDone) {
      search.step();
      steps += 1;
      if (steps % STEPS_PER_TURN === 0) await pause();
    }
  }
  return search;
}

/** Tarjan's strongly connected components, without recursion: chains of references may be long. */
class ComponentSearch implements Topology {
  readonly order: Uint32Array;
  readonly component: Uint32Array;
  readonly #graph: PathGraph;
  /** When a path was entered, counted from 1. */
  readonly #entered: Uint32Array;
  /** The earliest entered that is known to be in the same circle. */
  readonly #low: Uint32Array;
  /** The reference to follow next. */
  readonly #next: Uint32Array;
  /** Entered paths whose component is not known yet. */
  readonly #open: Uint32Array;
  readonly #calls: Uint32Array;
  #openCount = 0;
  #callCount = 0;
  #entries = 0;
  #components = 0;
  /** Components come out with references first: the order is filled from its end. */
  #free: number;

  constructor(graph: PathGraph) {
    const { idCount, pathCount } = graph;
    this.#graph = graph;
    this.order = new Uint32Array(pathCount);
    this.component = new Uint32Array(idCount);
    this.#entered = new Uint32Array(idCount);
    this.#low = new Uint32Array(idCount);
    this.#next = new Uint32Array(idCount);
    this.#open = new Uint32Array(pathCount);
    this.#calls = new Uint32Array(pathCount);
    this.#free = pathCount;
  }

  get isDone(): boolean {
    return this.#callCount === 0;
  }

  /** Enters a path, unless it is absent or known already. */
  begin(id: number): void {
    if (this.#graph.isPresent(id) && this.#entered[id] === 0) this.#enter(id);
  }

  /** Follows one reference, or leaves a path that has no more of them. */
  step(): void {
    const id = this.#calls[this.#callCount - 1] ?? 0;
    const position = this.#next[id] ?? 0;
    if (position >= this.#graph.referencesEnd(id)) {
      this.#leave(id);
      return;
    }
    this.#next[id] = position + 1;
    const target = this.#graph.reference(position);
    if (!this.#graph.isPresent(target)) return;
    const entered = this.#entered[target] ?? 0;
    if (entered === 0) this.#enter(target);
    else if (this.component[target] === 0) this.#lower(id, entered);
  }

  #enter(id: number): void {
    this.#entries += 1;
    this.#entered[id] = this.#entries;
    this.#low[id] = this.#entries;
    this.#next[id] = this.#graph.referencesBegin(id);
    this.#open[this.#openCount] = id;
    this.#openCount += 1;
    this.#calls[this.#callCount] = id;
    this.#callCount += 1;
  }

  #leave(id: number): void {
    const low = this.#low[id] ?? 0;
    this.#callCount -= 1;
    if (this.#callCount > 0) this.#lower(this.#calls[this.#callCount - 1] ?? 0, low);
    if (low !== this.#entered[id]) return;
    this.#components += 1;
    let member: number;
    do {
      this.#openCount -= 1;
      member = this.#open[this.#openCount] ?? 0;
      this.component[member] = this.#components;
      this.#free -= 1;
      this.order[this.#free] = member;
    } while (member !== id);
  }

  #lower(id: number, to: number): void {
    if (to < (this.#low[id] ?? 0)) this.#low[id] = to;
  }
}

/** Present paths in the order in which they may go. */
export interface CollectionOrder {
  /** Ids. First what was used longest ago, and there those that refer before those referred to. */
  readonly order: Uint32Array;
  /** By id: who uses a path last, as a number; the larger the longer ago. 0: a pin. */
  readonly group: Uint32Array;
  /** When the users of a group used it. */
  readonly groupAccessedAtMs: (group: number) => number;
}

/**
 * Orders paths by the last use of anything that needs them, so that a closure lives as long as its newest user.
 *
 * A group is a path and what is needed by it and by nothing used later: groups go as a whole.
 */
export async function orderByLastUse(
  graph: PathGraph,
  topology: Topology,
  { pins, pause }: { readonly pins: Iterable<number>; readonly pause: Pause },
): Promise<CollectionOrder> {
  const newestFirst = await sortByAccess(graph, topology.order, pause);
  const group = new Uint32Array(graph.idCount);
  await visitAll(newestFirst, pause, (id, position) => {
    group[id] = position + 1;
  });
  for (const id of pins) group[id] = 0;
  await inherit(graph, topology, group, pause);
  return {
    order: await sortByGroup(topology.order, group, pause),
    group,
    groupAccessedAtMs: (number) => graph.accessedAtMs(newestFirst[number - 1] ?? 0),
  };
}

/** Ids by access time, the newest first; of equal ones in the order given. A stable radix sort. */
async function sortByAccess(
  graph: PathGraph,
  ids: Uint32Array,
  pause: Pause,
): Promise<Uint32Array> {
  let newest = -Infinity;
  let oldest = Infinity;
  await visitAll(ids, pause, (id) => {
    newest = Math.max(newest, graph.accessedAtMs(id));
    oldest = Math.min(oldest, graph.accessedAtMs(id));
  });
  let from = ids.slice();
  let to = new Uint32Array(ids.length);
  for (let unit = 1; unit <= newest - oldest; unit *= RADIX) {
    const digitOf = (id: number): number =>
      Math.floor((newest - graph.accessedAtMs(id)) / unit) % RADIX;
    const starts = new Uint32Array(RADIX + 1);
    await visitAll(from, pause, (id) => void count(starts, digitOf(id) + 1));
    for (let digit = 1; digit <= RADIX; digit += 1) {
      starts[digit] = (starts[digit] ?? 0) + (starts[digit - 1] ?? 0);
    }
    const sorted = to;
    await visitAll(from, pause, (id) => {
      sorted[count(starts, digitOf(id))] = id;
    });
    [from, to] = [sorted, from];
  }
  return from;
}

/** Gives each path the smallest group number among those that need it. */
async function inherit(
  graph: PathGraph,
  { order, component }: Topology,
  group: Uint32Array,
  pause: Pause,
): Promise<void> {
  let steps = 0;
  for (let begin = 0, end = 0; begin < order.length; begin = end) {
    let smallest = Infinity;
    const circle = component[order[begin] ?? 0];
    for (end = begin; end < order.length && component[order[end] ?? 0] === circle; end += 1) {
      smallest = Math.min(smallest, group[order[end] ?? 0] ?? 0);
    }
    for (let at = begin; at < end; at += 1) {
      const id = order[at] ?? 0;
      group[id] = smallest;
      for (let edge = graph.referencesBegin(id); edge < graph.referencesEnd(id); edge += 1) {
        const target = graph.reference(edge);
        if (smallest < (group[target] ?? 0)) group[target] = smallest;
      }
      steps += 1;
      if (steps % STEPS_PER_TURN === 0) await pause();
    }
  }
}

/** Ids by group, the largest first; within one in the order given. */
async function sortByGroup(
  ids: Uint32Array,
  group: Uint32Array,
  pause: Pause,
): Promise<Uint32Array> {
  const starts = new Uint32Array(ids.length + 2);
  await visitAll(ids, pause, (id) => void count(starts, ids.length - (group[id] ?? 0) + 1));
  let before = 0;
  await visitAll(starts, pause, (own, at) => {
    before += own;
    starts[at] = before;
  });
  const sorted = new Uint32Array(ids.length);
  await visitAll(ids, pause, (id) => {
    sorted[count(starts, ids.length - (group[id] ?? 0))] = id;
  });
  return sorted;
}

/** Adds one, and returns what was there before. */
function count(counts: Uint32Array, at: number): number {
  const before = counts[at] ?? 0;
  counts[at] = before + 1;
  return before;
}
