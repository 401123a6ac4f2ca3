import { setImmediate } from "node:timers/promises";

import { CacheError, isCacheError, type Logger } from "@glorious/core";

import type { CacheIndex, ViewRecord } from "../index/cache-index.ts";
import type { AccessRecorder } from "./access-recorder.ts";
import { orderByLastUse, type Pause, sortByReference, type Topology } from "./collection-order.ts";
import { PathGraph } from "./path-graph.ts";
import { chooseDoomed, NarLedger, sliceDoomed } from "./plan-collection.ts";

/** What a collection of one view did, or would do. */
export interface CollectionReport {
  /** The view's name; of an upstream, `upstream/` and its name. */
  readonly view: string;
  readonly isDryRun: boolean;
  /** Paths looked at; none of a view that may keep everything. */
  readonly examined: number;
  /** Pins whose path is there. */
  readonly roots: number;
  readonly deleted: number;
  /** Paths that were to go and stayed, because somebody used, pinned or referred to them meanwhile. */
  readonly spared: number;
  /** Stored bytes of NARs that no path of the view has any more; on the disk until their grace is over. */
  readonly freedBytes: number;
  /** Stored bytes of the NARs that its paths still have. */
  readonly remainingBytes: number;
  readonly durationMs: number;
}

/** What may be said about a collection. */
export interface CollectOptions {
  /** Finds out and deletes nothing. */
  readonly isDryRun: boolean;
}

/**
 * Deletes what a view need not keep: paths unused for longer than its retention, then the longest unused ones as long
 * as it is larger than it may be. Closures go as a whole; pins protect theirs.
 *
 * One collection at a time, in slices, while everything is served. It keeps nothing on the disk: what a crash
 * interrupts, the next one ends.
 */
export interface Collector {
  /**
   * Collects one view, after those asked for before.
   *
   * @throws {CacheError} `NOT_FOUND` when the view is gone, `CANCELLED` when the server stops.
   */
  collect(view: string, options: CollectOptions): Promise<CollectionReport>;
  /** The same of what was fetched from an upstream, by the upstream's name. */
  collectUpstream(name: string, options: CollectOptions): Promise<CollectionReport>;
  /**
   * All views, and what was fetched from each upstream, of which the longest unused goes as long as it is more than may
   * be kept; one after the other. Failures are logged, and thrown when all is done.
   */
  collectAll(options: CollectOptions): Promise<CollectionReport[]>;
  /** Begins to collect from time to time. */
  start(): void;
  /** Ends after the slice under way. */
  stop(): Promise<void>;
}

export interface CollectorOptions {
  readonly index: CacheIndex;
  readonly accesses: AccessRecorder;
  readonly logger: Logger;
  readonly now: () => number;
  /** For views that have none of their own; `undefined` keeps everything. */
  readonly defaultRetentionMs: number | undefined;
  /** What may be kept of an upstream that has no limit of its own. */
  readonly upstreamMaxSizeBytes: number;
  /** What quotas leave to a view; `Infinity` when there is none about it. */
  readonly capOf: (view: ViewRecord) => Promise<number>;
  /** How exact access times are. */
  readonly accessResolutionMs: number;
  /** How long a NAR stays readable when its last path is gone. */
  readonly narGraceMs: number;
  /** The same of one that an upstream has as well. */
  readonly fetchedNarGraceMs: number;
  readonly intervalMs: number;
  /** Told of every collection that was no dry run; `undefined` for one that failed. */
  readonly onCollected: (report: CollectionReport | undefined) => void;
}

/** A view, or the hidden one of an upstream. */
interface Collectable {
  readonly id: number;
  readonly name: string;
  /** `undefined`: everything may stay, however old. */
  readonly retentionMs: number | undefined;
  /** How long a NAR stays when its last path is gone. */
  readonly narGraceMs: number;
  /** What was used since this is not removed for want of room. */
  readonly evictsBefore: (nowMs: number) => number;
  /** How many bytes of NARs it may hold, of which it holds so many; `undefined`: any number. */
  readonly maxSizeOf: (fileBytes: number) => Promise<number | undefined>;
}

interface CollectedName {
  readonly kind: "view" | "upstream";
  readonly name: string;
}

const PATHS_PER_PAGE = 250;
const PATHS_PER_DELETION = 500;

export function createCollector(options: CollectorOptions): Collector {
  const { index, accesses, logger, now, narGraceMs, accessResolutionMs, onCollected } = options;
  const stopping = new AbortController();
  const pause: Pause = async () => {
    await setImmediate();
    stopping.signal.throwIfAborted();
  };

  /** What a quota leaves it for NARs, or its own limit, when that is less. */
  const maxSizeOf = async (view: ViewRecord, fileBytes: number): Promise<number | undefined> => {
    // Overlays have quotas that refuse, and a retention of their own.
    if (view.overlayOf !== undefined) return view.maxSizeBytes;
    const cap = await options.capOf(view);
    if (cap === Infinity) return view.maxSizeBytes;
    const otherBytes = (await index.viewBytes(view.id)) - fileBytes;
    return Math.min(view.maxSizeBytes ?? Infinity, Math.max(0, cap - otherBytes));
  };

  const retentionOf = ({ retentionSeconds }: ViewRecord): number | undefined => {
    const retentionMs =
      retentionSeconds === undefined ? options.defaultRetentionMs : retentionSeconds * 1000;
    return retentionMs === 0 ? undefined : retentionMs;
  };

  const findView = async (name: string): Promise<Collectable | undefined> => {
    const view = await index.findView(name);
    return (
      view && {
        id: view.id,
        name,
        retentionMs: retentionOf(view),
        narGraceMs,
        evictsBefore: (nowMs) => unusedSince(nowMs, 0),
        maxSizeOf: (fileBytes) => maxSizeOf(view, fileBytes),
      }
    );
  };

  const findUpstream = async (name: string): Promise<Collectable | undefined> => {
    const upstream = await index.findUpstream(name);
    if (upstream === undefined) return undefined;
    const { viewId, maxSizeBytes = options.upstreamMaxSizeBytes } = upstream;
    return {
      id: viewId,
      name: `upstream/${name}`,
      retentionMs: undefined,
      narGraceMs: Math.min(narGraceMs, options.fetchedNarGraceMs),
      // Who misses it has it again from where it came from: there is no need to wait for exact times.
      evictsBefore: (nowMs) => nowMs + 1,
      // Its documents count as well, and they go with the NARs or are small.
      maxSizeOf: async (fileBytes) =>
        Math.max(0, maxSizeBytes - ((await index.viewBytes(viewId)) - fileBytes)),
    };
  };

  /** The access time that the index has at least of what was used within a time, and within the resolution. */
  const unusedSince = (nowMs: number, ageMs: number): number =>
    // A use may have gone unrecorded because one before it, by less than the resolution, was not.
    nowMs - Math.max(ageMs, accessResolutionMs) - accessResolutionMs;

  const readGraph = async (view: Collectable, pathCount: number): Promise<PathGraph> => {
    const graph = new PathGraph(pathCount);
    let after = "";
    for (;;) {
      await pause();
      const page = await index.listGraph(view.id, { after, limit: PATHS_PER_PAGE });
      for (const node of page) graph.add(node);
      const last = page.at(-1);
      if (last === undefined) return graph;
      after = last.storePathHash;
    }
  };

  const deleteSlice = async (
    view: Collectable,
    graph: PathGraph,
    slice: Uint32Array,
  ): Promise<ReadonlySet<string>> => {
    const candidates = Array.from(slice, (id) => {
      return { storePathHash: graph.storePathHashOf(id), accessedAtMs: graph.accessedAtMs(id) };
    });
    const { deleted } = await accesses.guardDeletion(
      view.id,
      candidates.map(({ storePathHash }) => storePathHash),
      () => index.collectPaths(view.id, candidates, now() + view.narGraceMs),
    );
    return new Set(deleted);
  };

  const deleteDoomed = async (
    view: Collectable,
    graph: PathGraph,
    { component, order }: Topology,
    { doomed, isDryRun }: { readonly doomed: Uint32Array; readonly isDryRun: boolean },
  ): Promise<Pick<CollectionReport, "deleted" | "freedBytes" | "remainingBytes">> => {
    const ledger = await NarLedger.open(graph, order, pause);
    const { sizeBytes } = ledger;
    let deleted = 0;
    for (const slice of sliceDoomed(doomed, component, PATHS_PER_DELETION)) {
      await pause();
      const gone = isDryRun ? undefined : await deleteSlice(view, graph, slice);
      for (const id of slice) {
        if (gone !== undefined && !gone.has(graph.storePathHashOf(id))) continue;
        ledger.remove(id);
        deleted += 1;
      }
    }
    const remainingBytes = ledger.sizeBytes;
    return { deleted, freedBytes: sizeBytes - remainingBytes, remainingBytes };
  };

  const run = async (view: Collectable, isDryRun: boolean): Promise<CollectionReport> => {
    const begin = performance.now();
    const { retentionMs } = view;
    const nothing = { examined: 0, roots: 0, deleted: 0, spared: 0, freedBytes: 0 };
    const about = { view: view.name, isDryRun };
    const { fileBytes, paths } = await index.viewStats(view.id);
    const maxSizeBytes = await view.maxSizeOf(fileBytes);
    // A view holds at least the NARs of its paths.
    if (retentionMs === undefined && fileBytes <= (maxSizeBytes ?? Infinity)) {
      const durationMs = performance.now() - begin;
      return { ...about, ...nothing, remainingBytes: fileBytes, durationMs };
    }
    await accesses.flush();
    // Before the graph: who uses anything from now on is seen when it is to be deleted.
    const nowMs = now();
    const graph = await readGraph(view, paths);
    const pins = [];
    for (const { storePathHash } of await index.listPins(view.id)) {
      const id = graph.idOf(storePathHash);
      if (graph.isPresent(id)) pins.push(id);
    }
    const topology = await sortByReference(graph, pause);
    const lastUses = await orderByLastUse(graph, topology, { pins, pause });
    const doomed = await chooseDoomed(graph, lastUses, {
      pause,
      expiresBeforeMs: retentionMs === undefined ? undefined : unusedSince(nowMs, retentionMs),
      maxSizeBytes,
      evictsBeforeMs: view.evictsBefore(nowMs),
    });
    const done = await deleteDoomed(view, graph, topology, { doomed, isDryRun });
    return {
      ...about,
      examined: graph.pathCount,
      roots: pins.length,
      spared: doomed.length - done.deleted,
      ...done,
      durationMs: performance.now() - begin,
    };
  };

  const collectOne = async (
    { kind, name }: CollectedName,
    isDryRun: boolean,
  ): Promise<CollectionReport> => {
    stopping.signal.throwIfAborted();
    const view = await (kind === "view" ? findView(name) : findUpstream(name));
    if (view === undefined) throw new CacheError("NOT_FOUND", `The ${kind} ${name} is gone`);
    try {
      const report = await run(view, isDryRun);
      if (!isDryRun) onCollected(report);
      if (report.deleted > 0) logger.info("collected a view", { ...report });
      return report;
    } catch (error) {
      if (!isDryRun && !stopping.signal.aborted) onCollected(undefined);
      throw error;
    }
  };

  let tail: Promise<unknown> = Promise.resolve();
  /** Those that have not begun yet: who asks for the same may have their answer. */
  const waiting = new Map<string, Promise<CollectionReport>>();
  const collect = (
    what: CollectedName,
    { isDryRun }: CollectOptions,
  ): Promise<CollectionReport> => {
    const key = `${isDryRun} ${what.kind} ${what.name}`;
    const before = waiting.get(key);
    if (before !== undefined) return before;
    const mine = tail.then(() => {
      waiting.delete(key);
      return collectOne(what, isDryRun);
    });
    waiting.set(key, mine);
    tail = mine.catch(() => {});
    return mine;
  };

  const collectAll = async (given: CollectOptions): Promise<CollectionReport[]> => {
    const reports: CollectionReport[] = [];
    let failure: unknown;
    const views = (await index.listViews()).map(({ name }) => ({ kind: "view" as const, name }));
    const upstreams = (await index.listUpstreams()).map(({ name }) => {
      return { kind: "upstream" as const, name };
    });
    for (const what of [...views, ...upstreams]) {
      try {
        reports.push(await collect(what, given));
      } catch (error) {
        stopping.signal.throwIfAborted();
        // Destroyed since it was listed.
        if (isCacheError(error, "NOT_FOUND")) continue;
        logger.error("a collection failed", { [what.kind]: what.name, error });
        failure = error;
      }
    }
    if (failure !== undefined) throw failure;
    return reports;
  };

  let scheduled: Promise<unknown> = Promise.resolve();
  let timer: NodeJS.Timeout | undefined;
  /** Not all servers that were started together at the same moment. */
  const schedule = (delayMs: number): void => {
    timer = setTimeout(
      () => {
        scheduled = collectAll({ isDryRun: false }).catch((error: unknown) => {
          if (!stopping.signal.aborted) logger.error("collecting failed", { error });
        });
        void scheduled.then(() => {
          if (!stopping.signal.aborted) schedule(options.intervalMs);
        });
      },
      delayMs * (0.9 + 0.2 * Math.random()),
    );
    timer.unref();
  };

  return {
    collect: (name, given) => collect({ kind: "view", name }, given),
    collectUpstream: (name, given) => collect({ kind: "upstream", name }, given),
    collectAll,
    start() {
      // Soon: a server that never runs for a whole interval collects as well.
      schedule(options.intervalMs / 10);
    },
    async stop() {
      clearTimeout(timer);
      stopping.abort(new CacheError("CANCELLED", "The server is stopping"));
      await scheduled;
      await tail;
    },
  };
}
