import { setImmediate as nextTurn } from "node:timers/promises";

import { CacheError, describeError, type Logger } from "@glorious/core";

import type { ViewRecord } from "../index/cache-index.ts";
import { type Contributors, countTenants, isAlike, mayStay } from "./agreement.ts";
import { type CommonsExplanation, explainPath } from "./explain-path.ts";
import { chooseCandidate, type PlaceOptions, placePath } from "./place-path.ts";

/** The view that fills itself with what tenants agree on. It runs in the background, and nothing waits for it. */
export interface Commons {
  /** Looks through everything, and from then on at what is new. */
  start(): void;
  /** Says that something new is somewhere; it is looked at within a moment. */
  kick(): void;
  /**
   * Takes back what fewer stand to than are needed, because of a revocation or a changed policy, and resolves when it has.
   * Then everything is looked at anew.
   */
  reconsider(): Promise<void>;
  /**
   * Why a path is there or is not.
   *
   * @param names Of which contributors the caller may know what they have, by full name.
   * @returns `undefined` where there is no commons.
   */
  explain(
    storePathHash: string,
    names: (view: string) => boolean,
  ): Promise<CommonsExplanation | undefined>;
  /** Whether a view, by its full name, is the commons. */
  isNamed(view: string): boolean;
  /** Ends after the step under way. */
  stop(): Promise<void>;
}

export interface CommonsOptions extends PlaceOptions {
  readonly logger: Logger;
  readonly intervalMs: number;
  readonly onPlaced: (paths: number) => void;
  readonly onWithdrawn: (paths: number) => void;
}

/** What a policy's names stand for in the index. */
export interface CommonsWorld {
  readonly view: ViewRecord;
  readonly tenantsNeeded: number;
  readonly contributors: Contributors;
  readonly ids: readonly number[];
}

/** What is pushed together is looked at together. */
const KICK_DELAY_MS = 1000;
const PATHS_PER_PAGE = 500;
/** Paths that wait for a reference; those beyond it are found again by the next start. */
const MAX_WAITING = 100_000;

export function createCommons(options: CommonsOptions): Commons {
  const { index, policy, logger, now } = options;
  const stopping = new AbortController();
  const { signal } = stopping;
  const waiting = new Set<string>();
  let after = 0;
  let policyVersion: number | undefined;

  const openWorld = async (): Promise<CommonsWorld | undefined> => {
    const { commons } = policy;
    const view = commons && (await index.findView(commons.view));
    if (commons === undefined || view === undefined) return undefined;
    const contributors = new Map<number, (typeof commons.contributors)[number]>();
    for (const contributor of commons.contributors) {
      const found = await index.findView(contributor.view);
      // A path's name stands for its store directory, too.
      if (found?.storeDir === view.storeDir) contributors.set(found.id, contributor);
    }
    const ids = [...contributors.keys()];
    return { view, tenantsNeeded: commons.tenants, contributors, ids };
  };

  const withdraw = async ({ view, contributors, tenantsNeeded }: CommonsWorld): Promise<void> => {
    let withdrawn = 0;
    for (let last: string | undefined = ""; last !== undefined;) {
      signal.throwIfAborted();
      const page = await index.listVotes(view.id, { after: last, limit: PATHS_PER_PAGE });
      for (const path of page) {
        if (mayStay(path, contributors, tenantsNeeded)) continue;
        // No grace for its NAR: what is taken back is not to be read any more.
        if (await index.deletePath(view.id, path.storePathHash, now())) withdrawn += 1;
      }
      last = page.length < PATHS_PER_PAGE ? undefined : page.at(-1)?.storePathHash;
      await nextTurn();
    }
    if (withdrawn === 0) return;
    options.onWithdrawn(withdrawn);
    logger.warn("took paths back from the commons", { view: view.name, paths: withdrawn });
  };

  /** One path that is new somewhere; whether it came into the commons. */
  const consider = async (world: CommonsWorld, storePathHash: string): Promise<boolean> => {
    const { view, contributors, ids } = world;
    const trusted = await index.findTrustedPaths(ids, storePathHash);
    if (trusted.length === 0) return false;
    const held = await index.findPath([view.id], storePathHash);
    if (held !== undefined) {
      const voters = trusted.filter((path) => isAlike(path, held)).map(({ viewId }) => viewId);
      await index.addVotes(view.id, storePathHash, { voters, atMs: now() });
      return false;
    }
    const candidate = await chooseCandidate(trusted, world, options, signal);
    if (candidate.kind === "none") return false;
    if (candidate.kind === "ambiguous") {
      logger.warn("tenants agree on a path in two ways; neither goes into the commons", {
        view: view.name,
        storePathHash,
        tenants: countTenants(ids, contributors),
      });
      return false;
    }
    const result = await placePath(candidate, world, options, signal);
    if (result === "incomplete" && waiting.size < MAX_WAITING) waiting.add(storePathHash);
    if (result !== "placed") return false;
    // Somebody may have been revoked since it was looked at.
    const placed = await index.findVotes(view.id, storePathHash);
    if (placed === undefined || mayStay(placed, contributors, world.tenantsNeeded)) return true;
    await index.deletePath(view.id, storePathHash, now());
    return false;
  };

  const considerAll = async (world: CommonsWorld, hashes: Iterable<string>): Promise<number> => {
    let placed = 0;
    for (const hash of hashes) {
      signal.throwIfAborted();
      waiting.delete(hash);
      try {
        if (await consider(world, hash)) placed += 1;
      } catch (error) {
        signal.throwIfAborted();
        if (waiting.size < MAX_WAITING) waiting.add(hash);
        logger.warn("a path could not be placed in the commons; it is tried again", {
          storePathHash: hash,
          reason: describeError(error),
        });
      }
      await nextTurn();
    }
    return placed;
  };

  const pass = async (): Promise<void> => {
    const { version } = policy;
    const world = await openWorld();
    if (world === undefined) return;
    if (version !== policyVersion) {
      policyVersion = version;
      after = 0;
      waiting.clear();
      await withdraw(world);
    }
    let placed = 0;
    for (let isLast = false; !isLast;) {
      const page = await index.listNewPaths(world.ids, { after, limit: PATHS_PER_PAGE });
      placed += await considerAll(world, page.storePathHashes);
      isLast = page.last === after;
      after = page.last;
    }
    // What came may be what others wait for.
    let more: number;
    do {
      more = await considerAll(world, [...waiting]);
      placed += more;
    } while (more > 0);
    if (placed === 0) return;
    options.onPlaced(placed);
    logger.info("placed paths in the commons", { view: world.view.name, paths: placed });
  };

  let last = Promise.resolve();
  const lookAround = (): void => {
    last = last.then(pass).catch((error: unknown) => {
      if (!signal.aborted) logger.error("filling the commons failed", { error });
    });
  };
  let timer: NodeJS.Timeout | undefined;
  let kicked: NodeJS.Timeout | undefined;
  return {
    start() {
      lookAround();
      timer = setInterval(lookAround, options.intervalMs);
      timer.unref();
    },
    kick() {
      if (kicked !== undefined || policy.commons === undefined || signal.aborted) return;
      const look = (): void => {
        kicked = undefined;
        lookAround();
      };
      kicked = setTimeout(look, Math.min(KICK_DELAY_MS, options.intervalMs)).unref();
    },
    async reconsider() {
      // At once, whatever a pass under way is still encoding; the next one looks at everything again.
      const world = await openWorld();
      if (world === undefined) return;
      await withdraw(world);
      policyVersion = undefined;
    },
    isNamed: (view) => view === policy.commons?.view,
    async explain(storePathHash, names) {
      const world = await openWorld();
      return world && explainPath(storePathHash, world, { ...options, names, signal });
    },
    async stop() {
      clearInterval(timer);
      clearTimeout(kicked);
      stopping.abort(new CacheError("CANCELLED", "The server is stopping"));
      await last;
    },
  };
}
