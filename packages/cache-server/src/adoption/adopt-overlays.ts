import { setImmediate } from "node:timers/promises";

import { describeError, isCacheError, type Logger } from "@glorious/core";

import type { BazelPlane } from "../bazel/bazel-plane.ts";
import { createActor } from "../bazel/store/actor.ts";
import type { PathCommitter, PathToCommit } from "../commit/path-committer.ts";
import type { Offer } from "../index/adoption-index.ts";
import type { CacheIndex, ViewRecord } from "../index/cache-index.ts";
import type { PrincipalFacts } from "../index/provenance-index.ts";
import { orderOffered, type OrderedPath, type OverlayPath } from "./order-offered.ts";

/** A trusted push that presents the commit of a merge queue's run. */
export interface AdoptionWish {
  /** The view it writes to. */
  readonly view: string;
  /** See `Adoption.key` of `@glorious/trust`. */
  readonly key: string;
  readonly adopter: PrincipalFacts;
  readonly subject: string;
}

/** What was taken over so far. */
export interface AdoptionReport {
  /** The overlays it came from. */
  readonly overlays: readonly string[];
  readonly entries: number;
  /** Entries that stay where they are: the view has them with other bytes. */
  readonly conflicts: number;
  /**
   * `running`: it goes on in the background; `full`: the view has no room for more; `failed`: the next exchange of the
   * same push goes on where this one stopped.
   */
  readonly state: "done" | "running" | "full" | "failed";
}

/** Takes over what merge queues built, without building again. */
export interface Adopter {
  /**
   * Begins, or joins who has begun with the same, and answers when it is done or a little time has passed. Nothing to
   * take over is no report. Never throws.
   */
  adopt(wish: AdoptionWish): Promise<AdoptionReport | undefined>;
  /** Ends after the step under way; the next exchange goes on. */
  stop(): Promise<void>;
}

export interface AdopterOptions {
  readonly index: Pick<
    CacheIndex,
    | "findView"
    | "findOffers"
    | "listOfferedPaths"
    | "listGraph"
    | "findMissingPaths"
    | "findPath"
    | "findHolding"
    | "viewStats"
    | "adoptDocuments"
  >;
  readonly committer: Pick<PathCommitter, "commit">;
  readonly bazel: Pick<BazelPlane, "adopt"> | undefined;
  readonly logger: Logger;
  readonly now: () => number;
  /** How much a view may take in until a quota of its tenant is used up. */
  readonly roomOf: (view: ViewRecord) => Promise<number>;
  /** How long an exchange waits for it. */
  readonly maxWaitMs: number;
  readonly onAdopted: (entries: number) => void;
}

const PATHS_PER_PAGE = 1000;
/** Others write in between. */
const PATHS_PER_SLICE = 100;
const DOCUMENTS_PER_SLICE = 50;

interface Run {
  readonly overlays: Set<string>;
  entries: number;
  conflicts: number;
  state: AdoptionReport["state"];
}

export function createAdopter(options: AdopterOptions): Adopter {
  const { logger, maxWaitMs } = options;
  const stopping = new AbortController();
  const running = new Map<string, { readonly run: Run; readonly ended: Promise<void> }>();

  const start = (wish: AdoptionWish): { readonly run: Run; readonly ended: Promise<void> } => {
    const run: Run = { overlays: new Set(), entries: 0, conflicts: 0, state: "running" };
    const { view, adopter } = wish;
    const facts = { view, principal: adopter.principal, run: adopter.run, commit: adopter.commit };
    const ended = adoptAll(wish, run, options, stopping.signal)
      .catch((error: unknown) => {
        run.state = "failed";
        logger.warn("taking over a merge queue's overlay failed", {
          ...facts,
          entries: run.entries,
          reason: describeError(error),
        });
      })
      .then(() => {
        if (run.overlays.size === 0) return;
        logger.info("took over what a merge queue built", {
          ...facts,
          overlays: [...run.overlays],
          entries: run.entries,
          conflicts: run.conflicts,
          state: run.state,
        });
      });
    return { run, ended };
  };

  return {
    async adopt(wish) {
      const name = `${wish.view}\n${wish.key}`;
      let entry = running.get(name);
      if (entry === undefined) {
        const started = start(wish);
        entry = started;
        running.set(name, started);
        void started.ended.then(() => running.delete(name));
      }
      await Promise.race([entry.ended, waitAtMost(maxWaitMs)]);
      const { overlays, ...report } = entry.run;
      return overlays.size === 0 ? undefined : { ...report, overlays: [...overlays] };
    },
    async stop() {
      stopping.abort(new Error("The server is stopping"));
      await Promise.all([...running.values()].map(({ ended }) => ended));
    },
  };
}

function waitAtMost(delayMs: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, delayMs).unref();
  });
}

/** Every slice is complete in itself: what is there stays there, and the next run finds only the rest. */
async function adoptAll(
  wish: AdoptionWish,
  run: Run,
  options: AdopterOptions,
  signal: AbortSignal,
): Promise<void> {
  const { index } = options;
  const view = await index.findView(wish.view);
  if (view === undefined) return;
  for (const offer of await index.findOffers(wish.key, view.id)) {
    run.overlays.add(offer.viewName);
    await adoptPaths({ view, offer, wish, run, options, signal });
    if (run.state === "full") return;
    await adoptDocuments({ view, offer, wish, run, options, signal });
  }
  await adoptBazel(view, wish, { run, options, signal });
  if (run.state === "full") return;
  run.state = "done";
}

async function adoptBazel(
  view: ViewRecord,
  { key, adopter }: AdoptionWish,
  { run, options, signal }: Pick<Work, "run" | "options" | "signal">,
): Promise<void> {
  if ((await options.roomOf(view)) === 0) return;
  try {
    await options.bazel?.adopt(view, {
      key,
      actor: createActor(adopter),
      signal,
      onAdopted(overlay, actions) {
        run.overlays.add(overlay);
        run.entries += actions;
        options.onAdopted(actions);
      },
    });
  } catch (error) {
    if (!isCacheError(error, "STORAGE_FULL")) throw error;
    run.state = "full";
  }
}

interface Work {
  readonly view: ViewRecord;
  readonly offer: Offer;
  readonly wish: AdoptionWish;
  readonly run: Run;
  readonly options: AdopterOptions;
  readonly signal: AbortSignal;
}

async function adoptPaths(work: Work): Promise<void> {
  const { view, run, options, signal } = work;
  const { index } = options;
  const ordered = await findOrder(work);
  for (let from = 0; from < ordered.length; from += PATHS_PER_SLICE) {
    signal.throwIfAborted();
    let paths = await readPaths(work, ordered.slice(from, from + PATHS_PER_SLICE));
    const { fileBytes } = await index.viewStats(view.id);
    const addedBytes = paths.reduce((sum, { object }) => sum + object.fileSize, 0);
    const ownRoom = (view.maxSizeBytes ?? Infinity) - fileBytes;
    if (addedBytes > Math.min(ownRoom, await options.roomOf(view))) {
      run.state = "full";
      return;
    }
    // Each time some are dropped, so that it ends.
    while (paths.length > 0) {
      paths = await commitSlice(work, paths);
    }
    await setImmediate();
  }
}

/** Commits what can be; returns what is to be tried again, without what was in its way. */
async function commitSlice(work: Work, paths: readonly PathToCommit[]): Promise<PathToCommit[]> {
  const { view, offer, wish, run, options } = work;
  const { adopter: writer, subject: createdBy } = wish;
  const result = await options.committer.commit(view, paths, {
    createdBy,
    writer,
    presence: [],
    adopts: offer,
  });
  if (result.kind === "committed") {
    run.entries += result.created.length;
    run.conflicts += result.conflicts.length;
    options.onAdopted(result.created.length);
    return [];
  }
  // Revoked, deleted or replaced since they were read.
  const nars = new Set(result.missingNars);
  const incomplete = new Set(result.missingReferences.map(({ storePathHash }) => storePathHash));
  const left = paths.filter(
    ({ manifest }) => !nars.has(manifest.narHash) && !incomplete.has(manifest.storePathHash),
  );
  return left.length < paths.length ? left : [];
}

/** What is to be taken over, in an order in which no slice lacks a reference. */
async function findOrder({ view, offer, run, options, signal }: Work): Promise<OrderedPath[]> {
  const { index } = options;
  const offered = new Set<string>();
  for (let after: string | undefined = ""; after !== undefined;) {
    const page = await index.listOfferedPaths(offer, { after, limit: PATHS_PER_PAGE });
    for (const hash of page) offered.add(hash);
    after = page.length < PATHS_PER_PAGE ? undefined : page.at(-1);
    signal.throwIfAborted();
    await setImmediate();
  }
  if (offered.size === 0) return [];
  const overlay: OverlayPath[] = [];
  const missing = new Set<string>();
  for (let after: string | undefined = ""; after !== undefined;) {
    const page = await index.listGraph(offer.viewId, { after, limit: PATHS_PER_PAGE });
    const hashes = page.map(({ storePathHash }) => storePathHash);
    for (const hash of await index.findMissingPaths(view.id, hashes)) missing.add(hash);
    for (const { storePathHash, references, narHash } of page) {
      overlay.push({ storePathHash, references });
      if (missing.has(storePathHash) || !offered.has(storePathHash)) continue;
      const own = await index.findPath([view.id], storePathHash);
      if (own !== undefined && own.narHash !== narHash) run.conflicts += 1;
    }
    after = page.length < PATHS_PER_PAGE ? undefined : hashes.at(-1);
    signal.throwIfAborted();
    await setImmediate();
  }
  return orderOffered(overlay, offered, (hash) => !missing.has(hash));
}

async function readPaths(
  { view, offer, options }: Work,
  ordered: readonly OrderedPath[],
): Promise<PathToCommit[]> {
  const { index } = options;
  const paths: PathToCommit[] = [];
  for (const { storePathHash, requiredReferences } of ordered) {
    const manifest = await index.findPath([offer.viewId], storePathHash);
    if (manifest === undefined) continue;
    // A view has each NAR as one object.
    const object = (await index.findHolding(view.id, manifest.narHash)) ?? manifest;
    paths.push({ manifest, object, requiredReferences });
  }
  return paths;
}

async function adoptDocuments({ view, offer, wish, run, options, signal }: Work): Promise<void> {
  const { index, now, onAdopted } = options;
  for (;;) {
    signal.throwIfAborted();
    const adopted = await index.adoptDocuments(view.id, offer, {
      writer: wish.adopter,
      atMs: now(),
      limit: DOCUMENTS_PER_SLICE,
    });
    run.entries += adopted;
    onAdopted(adopted);
    if (adopted < DOCUMENTS_PER_SLICE) return;
  }
}
