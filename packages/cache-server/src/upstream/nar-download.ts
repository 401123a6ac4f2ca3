import { createHash } from "node:crypto";

import { type CacheErrorCode, isCacheError } from "@glorious/core";

import type { PathManifest } from "../commit/path-manifest.ts";
import type { ObjectRecord } from "../index/cache-index.ts";
import type { NarIngest } from "../ingest/nar-ingest.ts";
import type { NarBody } from "./nar-body.ts";
import { type NarSpool, openNarSpool } from "./nar-spool.ts";
import type { UpstreamClient } from "./upstream-client.ts";
import { UpstreamFault, type UpstreamFaultReason } from "./upstream-fault.ts";
import type { UpstreamNarInfo } from "./upstream-narinfo.ts";

/** A NAR that comes from an upstream, for everybody who asks for it meanwhile. */
export interface NarDownload {
  /** Bytes of the file, where that is known beforehand. */
  readonly sizeBytes: number | undefined;
  readonly spool: NarSpool;
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
  readonly ingest: NarIngest;
  /** Makes a path whose NAR the hidden view holds visible in it. */
  readonly commit: (manifest: PathManifest, object: ObjectRecord) => Promise<void>;
  readonly hiddenViewId: number;
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
  try {
    const spool = await openNarSpool(options.directory);
    const ended = run(narInfo, { body, spool, giveUp, signal }, options);
    return { sizeBytes: body.sizeBytes, spool, ended };
  } catch (cause) {
    giveUp.abort(cause);
    throw new UpstreamFault("storage", "the spool cannot be opened", cause);
  }
}

interface Running {
  readonly body: NarBody;
  readonly spool: NarSpool;
  readonly giveUp: AbortController;
  readonly signal: AbortSignal;
}

async function run(
  narInfo: UpstreamNarInfo,
  { body, spool, giveUp, signal }: Running,
  { ingest, commit, hiddenViewId }: NarDownloadOptions,
): Promise<DownloadResult> {
  const { manifest, compression, fileHash } = narInfo;
  using _ = spool.hold();
  spool.close();
  let isNarRight = false;
  let isFileRight = false;
  const onRight = (): void => {
    if (isNarRight && isFileRight) spool.release();
  };

  const fetchFile = async (): Promise<void> => {
    const hash = createHash("sha256");
    for await (const chunk of body.chunks) {
      hash.update(chunk);
      try {
        await spool.write(chunk);
      } catch (cause) {
        throw new UpstreamFault("storage", "the spool cannot be written", cause);
      }
    }
    if (fileHash !== undefined && hash.digest("hex") !== fileHash) {
      throw new UpstreamFault("file-hash", "the file is not the one that its narinfo names");
    }
    isFileRight = true;
    onRight();
    spool.end();
  };

  const takeIn = async (): Promise<void> => {
    const { narHash, narSize } = manifest;
    const { object } = await ingest.ingest({
      viewId: hiddenViewId,
      source: spool.followAll(signal),
      compression,
      expected: { narHash, narSize, ...(fileHash === undefined ? {} : { fileHash }) },
      // Clients that have its narinfo ask for the file as it came. What is no file's name is the NAR's.
      keepsFile: compression === "none" ? false : "when re-encoded",
      onVerified() {
        isNarRight = true;
        onRight();
      },
      signal,
    });
    await commit(manifest, object);
  };

  let fault: UpstreamFault | undefined;
  await Promise.all(
    [fetchFile(), takeIn()].map((step) =>
      step.catch((error: unknown) => {
        fault ??= toFault(error);
        // Once it is right, our own trouble to keep it is no reason to cut those off who read it.
        if (!(isNarRight && isFileRight)) spool.fail(fault);
        giveUp.abort(fault);
      }),
    ),
  );
  return { receivedBytes: spool.sizeBytes, fault };
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
