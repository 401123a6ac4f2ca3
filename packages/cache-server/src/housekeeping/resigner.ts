import { CacheError, type Logger } from "@glorious/core";

import { resignView } from "../commit/resign-view.ts";
import type { CacheIndex, ViewRecord } from "../index/cache-index.ts";

/** What the re-signer works on. */
export type ViewToSign = Pick<ViewRecord, "id" | "name" | "storeDir">;

/** Signs paths anew, in the background, whose views' keys have changed since. */
export interface Resigner {
  /** Takes up what an earlier process left undone, and looks around from now on. */
  start(): void;
  /** Begins with a view whose keys have just changed; failures are logged, and tried again. */
  kick(view: ViewToSign): void;
  /** The same, and resolves when every path of the view is signed with the keys it has now. */
  resign(view: ViewToSign): Promise<void>;
  /** Ends after the step under way. What is left is found again at the next start. */
  stop(): Promise<void>;
}

export interface ResignerOptions {
  readonly index: CacheIndex;
  readonly logger: Logger;
  /** How often it looks for outdated paths that nobody told it of, such as another process's. */
  readonly intervalMs: number;
}

/** Does nothing until it is started or told to. */
export function createResigner({ index, logger, intervalMs }: ResignerOptions): Resigner {
  const stopping = new AbortController();
  /** The last of each view's runs: one at a time, because two would do the same work. */
  const runs = new Map<number, Promise<void>>();

  const run = async (view: ViewToSign): Promise<void> => {
    const signed = await resignView(index, view, stopping.signal);
    if (signed > 0) logger.info("signed a view's paths anew", { view: view.name, paths: signed });
  };
  const resign = (view: ViewToSign): Promise<void> => {
    // Never joins a run under way, which may have seen the last outdated path before these keys came.
    const before = runs.get(view.id) ?? Promise.resolve();
    const mine = before.catch(() => {}).then(() => run(view));
    runs.set(view.id, mine);
    const forget = (): void => {
      if (runs.get(view.id) === mine) runs.delete(view.id);
    };
    mine.then(forget, forget);
    return mine;
  };
  const logged = async (work: Promise<void>): Promise<void> => {
    try {
      await work;
    } catch (error) {
      if (!stopping.signal.aborted) logger.error("signing paths anew failed", { error });
    }
  };
  const resignAll = async (): Promise<void> => {
    for (const view of await index.listViews()) {
      if (stopping.signal.aborted) return;
      await logged(resign(view));
    }
  };

  let all = Promise.resolve();
  let timer: NodeJS.Timeout | undefined;
  const lookAround = (): void => {
    all = all.then(() => logged(resignAll()));
  };
  return {
    start() {
      lookAround();
      timer = setInterval(lookAround, intervalMs);
      timer.unref();
    },
    resign,
    kick(view) {
      void logged(resign(view));
    },
    async stop() {
      clearInterval(timer);
      stopping.abort(new CacheError("CANCELLED", "The server is stopping"));
      await all;
      await Promise.allSettled(runs.values());
    },
  };
}
