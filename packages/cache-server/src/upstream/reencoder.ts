import { describeError, type Logger } from "@glorious/core";

import { formatSignedNarInfo } from "../commit/narinfo-text.ts";
import type { CacheIndex, ObjectRecord } from "../index/cache-index.ts";
import type { HeldAsItCame } from "../index/upstream-index.ts";
import type { FetchedNars } from "../ingest/fetched-nars.ts";

/**
 * Encodes what came from upstreams in other encodings as zstd, while nothing is being fetched: the cores are then not
 * needed for those who wait.
 *
 * It remembers nothing: what is still to do is what the index holds in other encodings. So a crash costs the NAR under
 * way, and until one is encoded, and for a while after, it is served as it came.
 */
export interface Reencoder {
  /** Begins, or goes on, once nothing was fetched for a moment. */
  kick(): void;
  /** Somebody waits for something else: gives up the NAR under way. */
  interrupt(): void;
  stop(): Promise<void>;
}

export interface ReencoderOptions {
  readonly index: CacheIndex;
  readonly fetched: Pick<FetchedNars, "encode">;
  readonly logger: Logger;
  readonly now: () => number;
  /** How long nothing must have been fetched. */
  readonly quietMs: number;
}

const NARS_PER_PAGE = 100;
/** More paths than this have one NAR only where somebody wants them to. */
const MAX_PATHS = 1000;
/** Nobody who reads the narinfo before takes longer; after that the upstream is asked for the file again. */
const FILE_GRACE_MS = 10 * 60_000;

export function createReencoder(options: ReencoderOptions): Reencoder {
  const { index, fetched, logger, now, quietMs } = options;
  const stopping = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  let working: { readonly abort: AbortController; readonly ended: Promise<void> } | undefined;

  const moveTo = async (held: HeldAsItCame, encoded: ObjectRecord): Promise<void> => {
    const { viewId, object } = held;
    const upstream = (await index.listUpstreams()).find((each) => each.viewId === viewId);
    if (upstream === undefined) return;
    const { storeDir } = upstream;
    const affected = await index.listPathsOfObject(object.fileHash, MAX_PATHS);
    const narInfos = [];
    for (const { storePathHash } of affected.filter((each) => each.viewId === viewId)) {
      const path = await index.findPath([viewId], storePathHash);
      if (path === undefined) continue;
      // Nobody of ours signs what came from an upstream.
      const narInfo = formatSignedNarInfo(path, encoded, { storeDir, keys: [] });
      narInfos.push({ storePathHash, replaces: path.narInfo, narInfo });
    }
    await index.moveHolding({
      viewId,
      narHash: object.narHash,
      from: object.fileHash,
      to: encoded.fileHash,
      narInfos,
      fileExpiresAtMs: now() + FILE_GRACE_MS,
    });
  };

  const work = async (signal: AbortSignal): Promise<void> => {
    for (let after = 0; ;) {
      const page = await index.listHeldAsTheyCame({ after, limit: NARS_PER_PAGE });
      for (const held of page) {
        signal.throwIfAborted();
        try {
          await moveTo(held, await fetched.encode(held.object, signal));
        } catch (error) {
          signal.throwIfAborted();
          // It is served as it came, and tried again when the next one came.
          logger.warn("a NAR of an upstream stays as it came", {
            narHash: held.object.narHash,
            error: describeError(error),
          });
        }
      }
      const last = page.at(-1);
      if (last === undefined) return;
      after = last.id;
    }
  };

  const begin = (): void => {
    timer = undefined;
    if (working !== undefined) return;
    const abort = new AbortController();
    const signal = AbortSignal.any([abort.signal, stopping.signal]);
    const ended = work(signal)
      .catch((error: unknown) => {
        if (signal.aborted) return;
        logger.error("what came from upstreams could not be encoded", {
          error: describeError(error),
        });
      })
      .finally(() => (working = undefined));
    working = { abort, ended };
  };

  return {
    kick() {
      if (stopping.signal.aborted) return;
      clearTimeout(timer);
      timer = setTimeout(begin, quietMs);
      timer.unref();
    },
    interrupt() {
      clearTimeout(timer);
      working?.abort.abort();
    },
    async stop() {
      stopping.abort();
      clearTimeout(timer);
      await working?.ended;
    },
  };
}
