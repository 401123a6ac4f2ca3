import { describeError, isCacheError, type Logger } from "@glorious/core";

import type { PathCommitter } from "../commit/path-committer.ts";
import type { CacheIndex, ViewRecord } from "../index/cache-index.ts";
import type { UpstreamPath, UpstreamRecord } from "../index/upstream-index.ts";
import type { FetchedNars } from "../ingest/fetched-nars.ts";
import { createAnswerWriter } from "./answer-writer.ts";
import { firstGood } from "./first-good.ts";
import type { DownloadResult } from "./nar-download.ts";
import { type HeldDownload, type JoinOptions, openNarDownloads } from "./nar-downloads.ts";
import { createReencoder } from "./reencoder.ts";
import type { UpstreamClient, UpstreamQuestion } from "./upstream-client.ts";
import { createUpstreamClients } from "./upstream-clients.ts";
import { isPassingFault, UpstreamFault, type UpstreamFaultReason } from "./upstream-fault.ts";
import { createServerId, type Via } from "./upstream-http.ts";
import { createUpstreamMemory } from "./upstream-memory.ts";
import { readUpstreamNarInfo, type UpstreamNarInfo } from "./upstream-narinfo.ts";
import { createUpstreamReports, type PastFault } from "./upstream-reports.ts";

/** A path that an upstream has, by a narinfo that was verified. */
export interface UpstreamHit {
  readonly upstream: UpstreamRecord;
  readonly narInfo: UpstreamNarInfo;
}

/** A small file of an upstream. */
export interface UpstreamDocument {
  readonly upstream: UpstreamRecord;
  readonly body: Buffer;
}

/**
 * What views have not, from their upstreams. What is wrong with those is a miss; it is counted and logged here.
 *
 * The upstreams given to each method are those that the caller's read chain has, in order.
 */
export interface UpstreamReader {
  /** The path, when an upstream has it that can be asked for its NAR now. Takes the deadline at most. */
  find(
    upstreams: readonly UpstreamRecord[],
    storePathHash: string,
    via: Via,
  ): Promise<UpstreamHit | undefined>;
  /** The same for many; those that are not there are left out. */
  findAll(
    upstreams: readonly UpstreamRecord[],
    storePathHashes: readonly string[],
    via: Via,
  ): Promise<UpstreamHit[]>;
  /**
   * The path whose NAR this file is, by an answer that somebody got before. Where that is lost, by asking for the path
   * once more, if it is said.
   */
  findFile(
    upstreams: readonly UpstreamRecord[],
    wanted: WantedFile,
  ): Promise<UpstreamHit | undefined>;
  /** Others of the upstreams that have the same file of a path, for when the one that was found fails. */
  others(hit: UpstreamHit, upstreams: readonly UpstreamRecord[], via: Via): Promise<UpstreamHit[]>;
  /**
   * Fetches a NAR, or joins who fetches it. `undefined` when it has just been stored, unless the caller is sure.
   *
   * @throws {UpstreamFault} when it cannot be had. @throws {CacheError} `UNAVAILABLE` when too many are under way.
   */
  fetch(hit: UpstreamHit, options: JoinOptions): Promise<HeldDownload | undefined>;
  /** A small file that passes a check, from the first upstream that has one. */
  findDocument(
    upstreams: readonly UpstreamRecord[],
    path: string,
    options: {
      readonly via: Via;
      readonly maxBytes: number;
      readonly check: (body: Buffer, upstream: UpstreamRecord) => boolean;
    },
  ): Promise<UpstreamDocument | undefined>;
  /** How it goes with an upstream, as far as this process has seen. */
  health(upstream: UpstreamRecord): UpstreamHealth;
  /** Ends what is fetched, and closes all connections. */
  stop(): Promise<void>;
}

/** A file that a narinfo named. */
export interface WantedFile {
  /** Hexadecimal SHA-256. */
  readonly fileHash: string;
  readonly storePathHash?: string;
  readonly via: Via;
}

export interface UpstreamHealth {
  readonly state: UpstreamClient["state"];
  readonly lastFault: PastFault | undefined;
}

export interface UpstreamReaderOptions {
  readonly index: CacheIndex;
  readonly fetched: FetchedNars;
  readonly committer: PathCommitter;
  readonly logger: Logger;
  readonly now: () => number;
  /** For spools. */
  readonly directory: string;
  readonly settings: UpstreamReaderSettings;
  readonly onFault: (upstream: string, reason: UpstreamFaultReason) => void;
  readonly onDownloaded: (result: DownloadResult) => void;
  /** Told of every NAR that is kept. */
  readonly onStored: (upstream: UpstreamRecord, fileBytes: number) => void;
  /** How long nothing must have been fetched before what came is encoded anew. */
  readonly reencodeQuietMs: number;
}

/** Those of the server's settings that reading through stands on. */
export interface UpstreamReaderSettings {
  /** `false`: nobody is asked. */
  readonly upstreamEnabled: boolean;
  readonly upstreamDeadlineMs: number;
  readonly upstreamPositiveTtlMs: number;
  readonly upstreamNegativeTtlMs: number;
  readonly upstreamMaxDownloads: number;
  readonly upstreamEncoding: "zstd" | "as-is";
  readonly maxNarInfoSizeBytes: number;
  readonly maxNarSizeBytes: number;
}

/** Servers that stand behind each other. */
const MAX_VIA = 4;

/** A question that is out, for all who want its answer. */
interface SharedQuestion {
  readonly answer: Promise<UpstreamNarInfo | undefined>;
  /** By then whoever asked last has made do without it. */
  readonly wanted: { untilMs: number };
}

export async function openUpstreamReader(options: UpstreamReaderOptions): Promise<UpstreamReader> {
  const { index, logger, now, settings } = options;
  const { upstreamDeadlineMs: deadlineMs } = settings;
  const reports = createUpstreamReports({ logger, onFault: options.onFault });
  const clients = createUpstreamClients(
    {
      deadlineMs,
      maxNarInfoBytes: settings.maxNarInfoSizeBytes,
      maxNarBytes: settings.maxNarSizeBytes,
      maxDownloads: settings.upstreamMaxDownloads,
      reports,
    },
    ({ viewId }) => memory.forgetAbsent(viewId),
  );
  const memory = createUpstreamMemory({
    positiveTtlMs: settings.upstreamPositiveTtlMs,
    negativeTtlMs: settings.upstreamNegativeTtlMs,
    now,
  });
  const writer = createAnswerWriter(index, logger);
  const closing = new AbortController();
  /** Tells this server in what others pass on. */
  const id = createServerId();
  const askFor = (via: Via, isWanted: () => boolean): UpstreamQuestion => ({
    via: [...via, id],
    signal: closing.signal,
    isWanted,
  });
  const asking = new Map<string, SharedQuestion>();

  const forget = async ({ viewId }: UpstreamRecord, narInfo: UpstreamNarInfo): Promise<void> => {
    const { storePathHash } = narInfo.manifest;
    memory.put(viewId, storePathHash, "absent");
    try {
      await index.removeUpstreamPath(viewId, storePathHash);
    } catch (error) {
      logger.warn("an upstream's answer stays, though it is wrong", {
        error: describeError(error),
      });
    }
  };

  const reencoder =
    settings.upstreamEncoding === "as-is"
      ? undefined
      : createReencoder({
          index,
          fetched: options.fetched,
          logger,
          now,
          quietMs: options.reencodeQuietMs,
        });
  // What was left to do when a server of before ended.
  reencoder?.kick();

  const downloads = await openNarDownloads({
    fetched: options.fetched,
    directory: options.directory,
    maxDownloads: settings.upstreamMaxDownloads,
    async commit(upstream, manifest, object) {
      await options.committer.commitOne(
        hiddenView(upstream),
        { manifest, object, requiredReferences: [] },
        { createdBy: undefined },
      );
    },
    onBegun: () => reencoder?.interrupt(),
    onIdle: () => reencoder?.kick(),
    onEnded({ upstream, client }, narInfo, result) {
      const { fault } = result;
      options.onDownloaded(result);
      if (fault === undefined) options.onStored(upstream, result.receivedBytes);
      if (fault?.reason === "storage" && isCacheError(fault.cause, "NOT_FOUND")) {
        // The upstream was taken away meanwhile.
        return;
      }
      client.reportNar(narInfo, fault);
      if (fault !== undefined && !isPassingFault(fault.reason)) void forget(upstream, narInfo);
    },
  });

  const known = (upstream: UpstreamRecord, row: UpstreamPath): UpstreamNarInfo | undefined => {
    try {
      return readUpstreamNarInfo(row.narInfo, upstream.storeDir);
    } catch (error) {
      if (error instanceof UpstreamFault) return undefined;
      throw error;
    }
  };

  /** Brings into memory what the index knows of these, where memory does not know. */
  const recall = async (
    upstreams: readonly UpstreamRecord[],
    storePathHashes: readonly string[],
  ): Promise<void> => {
    const unknown = storePathHashes.filter((hash) =>
      upstreams.some(({ viewId }) => memory.get(viewId, hash) === undefined),
    );
    if (unknown.length === 0) return;
    const byView = new Map(upstreams.map((upstream) => [upstream.viewId, upstream]));
    const youngest = now() - settings.upstreamPositiveTtlMs;
    for (const row of await index.findUpstreamPaths([...byView.keys()], unknown)) {
      const upstream = byView.get(row.hiddenViewId);
      if (upstream === undefined || row.checkedAtMs < youngest) continue;
      if (memory.get(row.hiddenViewId, row.storePathHash) !== undefined) continue;
      const narInfo = known(upstream, row);
      if (narInfo !== undefined) memory.put(row.hiddenViewId, row.storePathHash, narInfo);
    }
  };

  const reportUnasked = ({ name }: UpstreamRecord, error: unknown): void => {
    if (closing.signal.aborted) return;
    logger.error("an upstream could not be asked", {
      upstream: name,
      error: describeError(error),
    });
  };

  const askOnce = async (
    upstream: UpstreamRecord,
    storePathHash: string,
    question: UpstreamQuestion,
  ): Promise<UpstreamNarInfo | undefined> => {
    const { viewId } = upstream;
    try {
      const answer = await clients.of(upstream).narInfo(storePathHash, question);
      if (answer === "unknown") return undefined;
      memory.put(viewId, storePathHash, answer);
      if (answer === "absent") return undefined;
      const { manifest, fileHash, text } = answer;
      const { narHash, references } = manifest;
      writer.add({
        hiddenViewId: viewId,
        storePathHash,
        narInfo: text,
        fileHash,
        narHash,
        references,
        checkedAtMs: now(),
      });
      return answer;
    } catch (error) {
      reportUnasked(upstream, error);
      return undefined;
    }
  };

  const ask = (
    upstream: UpstreamRecord,
    storePathHash: string,
    via: Via,
  ): Promise<UpstreamNarInfo | undefined> => {
    // Who asks for another server does not wait for the question of whom that one may be waiting for.
    const key = `${upstream.viewId} ${storePathHash} ${via.join(",")}`;
    let shared = asking.get(key);
    if (shared === undefined) {
      const wanted = { untilMs: 0 };
      const question = askFor(via, () => performance.now() < wanted.untilMs);
      const answer = askOnce(upstream, storePathHash, question).finally(() => asking.delete(key));
      asking.set(key, (shared = { answer, wanted }));
    }
    shared.wanted.untilMs = performance.now() + deadlineMs;
    return shared.answer;
  };

  /** With what the index knows in memory. */
  const look = async (
    upstreams: readonly UpstreamRecord[],
    storePathHash: string,
    via: Via,
  ): Promise<UpstreamHit | undefined> => {
    // A narinfo whose NAR cannot be had now would fail its reader where a miss would not.
    const usable = upstreams.filter((upstream) => {
      // First: one with a new key forgets what it did not have.
      const client = clients.of(upstream);
      return memory.get(upstream.viewId, storePathHash) !== "absent" && client.admits();
    });
    for (const upstream of usable) {
      const narInfo = memory.get(upstream.viewId, storePathHash);
      if (narInfo !== undefined && narInfo !== "absent") return { upstream, narInfo };
    }
    const questions = usable.map(async (upstream): Promise<UpstreamHit | undefined> => {
      const narInfo = await ask(upstream, storePathHash, via);
      return narInfo && { upstream, narInfo };
    });
    return firstGood(questions, deadlineMs);
  };

  /** Each upstream's own answer. */
  const lookEverywhere = async (
    upstreams: readonly UpstreamRecord[],
    storePathHash: string,
    via: Via,
  ): Promise<UpstreamHit[]> => {
    await recall(upstreams, [storePathHash]);
    const hits = await Promise.all(
      upstreams.map((upstream) => look([upstream], storePathHash, via)),
    );
    return hits.filter((hit) => hit !== undefined);
  };

  const isOff = (upstreams: readonly UpstreamRecord[], via: Via): boolean =>
    upstreams.length === 0 ||
    !settings.upstreamEnabled ||
    closing.signal.aborted ||
    via.includes(id) ||
    via.length > MAX_VIA;

  return {
    async find(upstreams, storePathHash, via) {
      if (isOff(upstreams, via)) return undefined;
      await recall(upstreams, [storePathHash]);
      return look(upstreams, storePathHash, via);
    },
    async findAll(upstreams, storePathHashes, via) {
      if (isOff(upstreams, via)) return [];
      await recall(upstreams, storePathHashes);
      const hits = await Promise.all(storePathHashes.map((hash) => look(upstreams, hash, via)));
      return hits.filter((hit) => hit !== undefined);
    },
    async findFile(upstreams, { fileHash, storePathHash, via }) {
      if (isOff(upstreams, via)) return undefined;
      const byView = new Map(upstreams.map((upstream) => [upstream.viewId, upstream]));
      const viewIds = [...byView.keys()];
      const remembered = memory.findFile(viewIds, fileHash);
      if (remembered !== undefined) {
        const upstream = byView.get(remembered.hiddenViewId);
        return upstream && { upstream, narInfo: remembered.narInfo };
      }
      const row = await index.findUpstreamFile(viewIds, fileHash);
      const upstream = row && byView.get(row.hiddenViewId);
      const narInfo = row && upstream && known(upstream, row);
      if (upstream !== undefined && narInfo !== undefined) return { upstream, narInfo };
      if (storePathHash === undefined) return undefined;
      const hits = await lookEverywhere(upstreams, storePathHash, via);
      return hits.find((hit) => hit.narInfo.fileHash === fileHash);
    },
    async others({ upstream: { id: failed }, narInfo }, upstreams, via) {
      const { fileHash, manifest } = narInfo;
      const rest = upstreams.filter(({ id: each }) => each !== failed);
      if (fileHash === undefined || rest.length === 0 || isOff(rest, via)) return [];
      const found = await lookEverywhere(rest, manifest.storePathHash, via);
      const isSame = ({ narInfo: other }: UpstreamHit): boolean =>
        other.fileHash === fileHash && other.manifest.narHash === manifest.narHash;
      return found.filter(isSame);
    },
    fetch: ({ upstream, narInfo }, joinOptions) =>
      downloads.join({ upstream, client: clients.of(upstream) }, narInfo, joinOptions),
    async findDocument(upstreams, path, { via, maxBytes, check }) {
      if (isOff(upstreams, via)) return undefined;
      const untilMs = performance.now() + deadlineMs;
      const question = askFor(via, () => performance.now() < untilMs);
      const questions = upstreams.map(async (upstream): Promise<UpstreamDocument | undefined> => {
        try {
          const body = await clients.of(upstream).document(path, maxBytes, question);
          return typeof body !== "string" && check(body, upstream) ? { upstream, body } : undefined;
        } catch (error) {
          reportUnasked(upstream, error);
          return undefined;
        }
      });
      return firstGood(questions, deadlineMs);
    },
    health: (upstream) => ({
      state: clients.of(upstream).state,
      lastFault: reports.lastFault(upstream.name),
    }),
    async stop() {
      closing.abort(new UpstreamFault("unreachable", "the server is stopping"));
      await clients.stop();
      await downloads.stop();
      await reencoder?.stop();
      await writer.stop();
    },
  };
}

/** The view that holds what an upstream gave, as far as committing needs it: nobody of ours signs there. */
function hiddenView({
  viewId: id,
  name,
  storeDir,
  priority,
  createdAtMs,
}: UpstreamRecord): ViewRecord {
  return {
    id,
    name,
    isPublic: false,
    storeDir,
    priority,
    upstreamCacheKeyNames: [],
    retentionSeconds: undefined,
    maxSizeBytes: undefined,
    compressionLevel: undefined,
    createdAtMs,
    signsUpstream: false,
    pushesUpstream: false,
  };
}
