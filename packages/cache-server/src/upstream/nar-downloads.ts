import { mkdir, readdir, rm } from "node:fs/promises";
import { join } from "node:path";

import { type ByteBudget, CacheError, createByteBudget } from "@glorious/core";

import type { PathManifest } from "../commit/path-manifest.ts";
import type { ObjectRecord } from "../index/cache-index.ts";
import type { UpstreamRecord } from "../index/upstream-index.ts";
import { type DownloadResult, type NarDownload, startNarDownload } from "./nar-download.ts";
import type { NarDownloadOptions } from "./nar-download.ts";
import type { UpstreamClient } from "./upstream-client.ts";
import { UpstreamFault } from "./upstream-fault.ts";
import type { UpstreamNarInfo } from "./upstream-narinfo.ts";

/** A download that its file is kept of until this is disposed of. */
export interface HeldDownload extends Disposable, NarDownload {}

/** The NARs that come from upstreams now: of each one download, however many wait for it. */
export interface NarDownloads {
  /**
   * Joins the download of a NAR, or begins it. `undefined` when one has ended in this moment: what it brought is in the
   * index, where the caller may have looked too soon. With `isSure` it is begun all the same.
   *
   * @throws {UpstreamFault} when there is nothing to begin with.
   * @throws {CacheError} `UNAVAILABLE` when too many others are under way; the signal's reason.
   */
  join(
    source: NarSource,
    narInfo: UpstreamNarInfo,
    options: JoinOptions,
  ): Promise<HeldDownload | undefined>;
  /** Ends all that run. */
  stop(): Promise<void>;
}

export interface JoinOptions {
  readonly signal: AbortSignal;
  /** Looked again after an answer of nothing. */
  readonly isSure: boolean;
}

/** Where a NAR comes from. */
export interface NarSource {
  readonly upstream: UpstreamRecord;
  readonly client: UpstreamClient;
}

export interface NarDownloadsOptions extends Pick<NarDownloadOptions, "fetched" | "directory"> {
  /** Makes a path visible in the hidden view of its upstream, which holds its NAR. */
  readonly commit: (
    upstream: UpstreamRecord,
    manifest: PathManifest,
    object: ObjectRecord,
  ) => Promise<void>;
  readonly maxDownloads: number;
  /** Told when one is to be fetched, and when nothing is any more. */
  readonly onBegun: () => void;
  readonly onIdle: () => void;
  /** Told of each that ended, or could not begin. */
  readonly onEnded: (source: NarSource, narInfo: UpstreamNarInfo, result: DownloadResult) => void;
}

/** Downloads that may wait for their turn. */
const MAX_FLIGHTS = 2000;
/** What is verified is stored after this at the latest, however much else is fetched. */
const MAX_UNQUIET_MS = 1000;
/** Longer than somebody is on the way from the index to here. */
const FRESH_MS = 500;

/** @param options.directory made when it is not there; what a server of before left in it goes. */
export async function openNarDownloads(options: NarDownloadsOptions): Promise<NarDownloads> {
  const { directory } = options;
  await mkdir(directory, { recursive: true, mode: 0o700 });
  for (const name of await readdir(directory)) await rm(join(directory, name), { force: true });
  return createNarDownloads(options);
}

function createNarDownloads(options: NarDownloadsOptions): NarDownloads {
  const { onEnded, maxDownloads } = options;
  const closing = new AbortController();
  /** By hidden view: who is slow with its NARs takes no turn of the others. */
  const turns = new Map<number, ByteBudget>();
  const flights = new Map<string, Promise<NarDownload>>();
  const running = new Set<Promise<unknown>>();
  /** Downloads whose readers wait, or will. */
  let fetching = 0;
  let quiet = Promise.withResolvers<void>();
  const whenQuiet = async (): Promise<void> => {
    if (fetching === 0 || closing.signal.aborted) return;
    const late = Promise.withResolvers<void>();
    const timer = setTimeout(late.resolve, MAX_UNQUIET_MS);
    await Promise.race([quiet.promise, late.promise]);
    clearTimeout(timer);
  };
  const onFetched = (): void => {
    fetching -= 1;
    if (fetching > 0) return;
    quiet.resolve();
    quiet = Promise.withResolvers();
  };
  /** Stored in this moment. */
  const fresh = new Set<string>();

  const turnsOf = ({ viewId }: UpstreamRecord): ByteBudget => {
    let budget = turns.get(viewId);
    if (budget === undefined) turns.set(viewId, (budget = createByteBudget(maxDownloads)));
    return budget;
  };

  const begin = async (
    key: string,
    source: NarSource,
    narInfo: UpstreamNarInfo,
  ): Promise<NarDownload> => {
    let turn: Disposable | undefined;
    const end = (result: DownloadResult): void => {
      flights.delete(key);
      if (result.fault === undefined) {
        fresh.add(key);
        setTimeout(() => fresh.delete(key), FRESH_MS).unref();
      }
      if (closing.signal.aborted) return;
      onEnded(source, narInfo, result);
      if (flights.size === 0) options.onIdle();
    };
    const endTurn = (): void => {
      turn?.[Symbol.dispose]();
      onFetched();
    };
    fetching += 1;
    try {
      const { upstream, client } = source;
      turn = await turnsOf(upstream).acquire(1, closing.signal);
      const download = await startNarDownload(narInfo, {
        ...options,
        hiddenViewId: upstream.viewId,
        client,
        commit: (manifest, object) => options.commit(upstream, manifest, object),
        whenQuiet,
        signal: closing.signal,
      });
      void download.verified.then(endTurn);
      const ended = download.ended.then(end).finally(() => running.delete(ended));
      running.add(ended);
      return download;
    } catch (error) {
      endTurn();
      const fault =
        error instanceof UpstreamFault
          ? error
          : new UpstreamFault("storage", "it could not be begun", error);
      end({ receivedBytes: 0, fault });
      throw error;
    }
  };

  return {
    async join(source, narInfo, { signal, isSure }) {
      signal.throwIfAborted();
      const key = `${source.upstream.viewId} ${narInfo.manifest.narHash} ${narInfo.fileHash ?? ""}`;
      let flight = flights.get(key);
      if (flight === undefined && fresh.has(key) && !isSure) return undefined;
      if (flight === undefined && flights.size >= MAX_FLIGHTS) {
        throw new CacheError("UNAVAILABLE", `${MAX_FLIGHTS} other NARs are to be fetched first`, {
          hint: "Try again; the server's upstream.maxDownloads says how many are fetched at a time.",
        });
      }
      if (flight === undefined) {
        options.onBegun();
        flight = begin(key, source, narInfo);
        flights.set(key, flight);
        // Told by `onEnded`, whoever is still there to hear of it.
        flight.catch(() => {});
      }
      const download = await unlessAborted(flight, signal);
      const lease = download.spool.hold();
      return lease && { ...download, [Symbol.dispose]: () => lease[Symbol.dispose]() };
    },
    async stop() {
      closing.abort(new CacheError("CANCELLED", "The server is stopping"));
      quiet.resolve();
      await Promise.allSettled([...flights.values(), ...running]);
    },
  };
}

/** Who goes away takes nothing from the others. */
async function unlessAborted<Value>(work: Promise<Value>, signal: AbortSignal): Promise<Value> {
  const { promise, resolve, reject } = Promise.withResolvers<Value>();
  const onAbort = (): void => reject(signal.reason as Error);
  signal.addEventListener("abort", onAbort, { once: true });
  work.then(resolve, reject);
  try {
    return await promise;
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}
