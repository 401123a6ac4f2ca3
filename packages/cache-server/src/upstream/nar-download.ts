import { type CacheErrorCode, isCacheError } from "@glorious/core";

import type { PathManifest } from "../commit/path-manifest.ts";
import type { ObjectRecord } from "../index/cache-index.ts";
import type { FetchedNars } from "../ingest/fetched-nars.ts";
import type { NarBody } from "./nar-body.ts";
import { createNarSpool, type NarSpool } from "./nar-spool.ts";
import type { UpstreamClient } from "./upstream-client.ts";
import { UpstreamFault, type UpstreamFaultReason } from "./upstream-fault.ts";
import type { UpstreamNarInfo } from "./upstream-narinfo.ts";

/** A NAR that comes from an upstream, for everybody who asks for it meanwhile. */
export interface NarDownload {
  /** Bytes of the file, where that is known beforehand. */
  readonly sizeBytes: number | undefined;
  readonly spool: NarSpool;
  /** Ends when its readers have all of it, or never will; storing it is still to do then. It never fails. */
  readonly verified: Promise<void>;
  /** Ends when it is stored, or not: it never fails. */
  readonly ended: Promise<DownloadResult>;
}

/** What became of a download, for figures. */
export interface DownloadResult {
  readonly receivedBytes: number;
  readonly fault: UpstreamFault | undefined;
}

export interface NarDownloadOptions {
  readonly client: UpstreamClient;
  readonly fetched: FetchedNars;
  /** Makes a path whose NAR the hidden view holds visible in it. */
  readonly commit: (manifest: PathManifest, object: ObjectRecord) => Promise<void>;
  readonly hiddenViewId: number;
  /** Waits until storing it takes nothing from who fetches something else, or not for long. */
  readonly whenQuiet: () => Promise<void>;
  /** Where spools are opened. */
  readonly directory: string;
  readonly signal: AbortSignal;
}

/**
 * Begins to fetch a NAR, to verify it and to store it. It goes on when nobody waits for it any more: most of the way
 * is the upstream's and paid for, and somebody will ask again.
 *
 * @throws {UpstreamFault} when there is nothing to begin with.
 */
export async function startNarDownload(
  narInfo: UpstreamNarInfo,
  options: NarDownloadOptions,
): Promise<NarDownload> {
  const giveUp = new AbortController();
  const signal = AbortSignal.any([options.signal, giveUp.signal]);
  const body = await options.client.openNar(narInfo, signal);
  const spool = createNarSpool(options.directory);
  const { promise: verified, resolve: onVerified } = Promise.withResolvers<void>();
  const ended = run(narInfo, { body, spool, giveUp, signal, onVerified }, options);
  return { sizeBytes: body.sizeBytes, spool, verified, ended };
}

interface Running {
  readonly body: NarBody;
  readonly spool: NarSpool;
  readonly giveUp: AbortController;
  readonly signal: AbortSignal;
  readonly onVerified: () => void;
}

async function run(
  narInfo: UpstreamNarInfo,
  { body, spool, giveUp, signal, onVerified }: Running,
  { fetched, commit, hiddenViewId, whenQuiet }: NarDownloadOptions,
): Promise<DownloadResult> {
  const { manifest, compression } = narInfo;
  const { narHash, narSize } = manifest;
  using _ = spool.hold();
  spool.close();

  const fetchFile = async (): Promise<void> => {
    for await (const chunk of body.chunks) await onDisk(spool.write(chunk));
    spool.end();
  };
  const verifyFile = async (): Promise<string> => {
    const fileHash = await fetched.verify({
      source: spool.followAll(signal),
      compression,
      expected: { narHash, narSize },
      signal,
    });
    if (narInfo.fileHash === undefined || fileHash === narInfo.fileHash) return fileHash;
    throw new UpstreamFault("file-hash", "the file is not the one that its narinfo names");
  };

  let fault: UpstreamFault | undefined;
  let isRight = false;
  try {
    const [, fileHash] = await allOrFirstFault(giveUp, [fetchFile(), verifyFile()]);
    isRight = true;
    spool.release();
    onVerified();
    const object = { fileHash, fileSize: spool.sizeBytes, compression, narHash, narSize };
    const file = await onDisk(spool.file());
    await whenQuiet();
    await commit(manifest, await fetched.keep(hiddenViewId, file, object, signal));
  } catch (error) {
    fault = toFault(error);
    // Once it is right, our own trouble to keep it is no reason to cut those off who read it.
    if (!isRight) spool.fail(fault);
    onVerified();
  }
  return { receivedBytes: spool.sizeBytes, fault };
}

/** Both outcomes, or the first fault once both have ended; the other is told to give up. */
async function allOrFirstFault<First, Second>(
  giveUp: AbortController,
  steps: readonly [Promise<First>, Promise<Second>],
): Promise<[First, Second]> {
  let first: UpstreamFault | undefined;
  const guarded = async <Value>(step: Promise<Value>): Promise<Value> => {
    try {
      return await step;
    } catch (error) {
      first ??= toFault(error);
      giveUp.abort(first);
      throw first;
    }
  };
  const [one, other] = await Promise.allSettled([guarded(steps[0]), guarded(steps[1])]);
  if (one.status === "rejected" || other.status === "rejected") throw first;
  return [one.value, other.value];
}

async function onDisk<Value>(work: Promise<Value>): Promise<Value> {
  try {
    return await work;
  } catch (cause) {
    throw new UpstreamFault("storage", "the spool cannot be written", cause);
  }
}

const REASONS: Partial<Record<CacheErrorCode, UpstreamFaultReason>> = {
  CORRUPT: "nar-hash",
  TRUNCATED: "nar-hash",
  TOO_LARGE: "too-large",
  UNSUPPORTED: "compression",
};

/** What taking a NAR in failed with, as what is wrong with it; all else is wrong here. */
function toFault(error: unknown): UpstreamFault {
  if (error instanceof UpstreamFault) return error;
  const reason = (isCacheError(error) ? REASONS[error.code] : undefined) ?? "storage";
  const message = isCacheError(error) ? error.message : "it could not be taken in";
  return new UpstreamFault(reason, message, error);
}
