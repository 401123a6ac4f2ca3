import { CacheError, isCacheError, type Logger } from "@glorious/core";
import type { BlobStore } from "@glorious/storage";

import type { CacheIndex } from "../index/cache-index.ts";
import type { AffectedPath, ObjectStateRecord } from "../index/housekeeping-index.ts";
import { OBJECT_KEY_PREFIX, objectKey } from "../ingest/object-key.ts";
import { beginBazelProgress, type BazelScrubProgress } from "./bazel-scrub.ts";
import type { Pacer } from "./pacer.ts";
import type { Quarantine } from "./quarantine.ts";

/** A bad object that a pass has found. */
export interface ScrubFinding {
  readonly fileHash: string;
  readonly reason: string;
  /** Some of the paths that it costs. */
  readonly paths: readonly AffectedPath[];
}

/** How far a pass is, and what it has found. */
export interface ScrubProgress {
  readonly startedAtMs: number;
  /** Objects whose bytes were checked, or stored, since then are not read again. */
  readonly checkedBeforeMs: number;
  /** How much of all objects the pass has gone through, from 0 to 1. */
  fraction: number;
  /** Objects whose bytes were read, and these bytes. */
  scanned: number;
  bytes: number;
  /** The bad ones, of which `bad` holds the first. */
  badTotal: number;
  readonly bad: ScrubFinding[];
  /** Objects that were in quarantine and are good again. */
  restored: number;
  /** Objects that the store could not answer about, whatever their state. */
  unanswered: number;
  /** The pass through the Bazel data, which comes after. */
  readonly bazel: BazelScrubProgress;
  /** Files in the store that the index does not know, once all were looked at. */
  orphans: { readonly files: number; readonly bytes: number } | undefined;
}

export interface ScrubPassOptions {
  readonly index: CacheIndex;
  readonly store: BlobStore;
  readonly quarantine: Quarantine;
  readonly logger: Logger;
  readonly now: () => number;
  readonly pace: Pacer;
  readonly signal: AbortSignal;
  /** Told of every object whose bytes were read. */
  readonly onScanned: (bytes: number) => void;
}

const OBJECTS_PER_PAGE = 500;
/** What a small object costs the disk, in bytes of a large one. */
const MIN_COST_BYTES = 32 * 1024;
const MAX_FINDINGS = 1000;
const MAX_PATHS_PER_FINDING = 20;
const MAX_UNANSWERED_IN_A_ROW = 100;
/** Each write makes the server forget what it keeps of the index in memory. */
const MARK_INTERVAL_MS = 60_000;
const MARK_OBJECTS = 1000;

export function beginProgress(startedAtMs: number, checkedBeforeMs: number): ScrubProgress {
  return {
    startedAtMs,
    checkedBeforeMs,
    fraction: 0,
    scanned: 0,
    bytes: 0,
    badTotal: 0,
    bad: [],
    restored: 0,
    unanswered: 0,
    bazel: beginBazelProgress(),
    orphans: undefined,
  };
}

/**
 * Goes once through all objects that a view refers to, in order of their hashes. Each is asked for in the store; the
 * bytes are read of those that were not checked since `progress.checkedBeforeMs`, and of those in quarantine.
 *
 * What was found good is recorded as it goes, so a pass that was interrupted leaves little to repeat for the next
 * one with the same bound.
 */
export async function runScrubPass(
  progress: ScrubProgress,
  options: ScrubPassOptions,
): Promise<void> {
  const { index, signal } = options;
  await using marks = collectMarks(options);
  let unansweredInARow = 0;
  let after: string | undefined;
  for (;;) {
    const page = await index.listObjects({ limit: OBJECTS_PER_PAGE, ...(after && { after }) });
    for (const object of page) {
      signal.throwIfAborted();
      try {
        if (await scrubObject(object, progress, options)) await marks.add(object.fileHash);
        unansweredInARow = 0;
      } catch (error) {
        if (signal.aborted || !isCacheError(error, "UNAVAILABLE")) throw error;
        progress.unanswered += 1;
        unansweredInARow += 1;
        if (unansweredInARow >= MAX_UNANSWERED_IN_A_ROW) throw error;
        options.logger.warn("could not check a stored object", {
          fileHash: object.fileHash,
          error,
        });
      }
      progress.fraction = Number.parseInt(object.fileHash.slice(0, 8), 16) / 2 ** 32;
    }
    after = page.at(-1)?.fileHash;
    if (page.length < OBJECTS_PER_PAGE) break;
  }
  progress.orphans = await countOrphans(options);
  progress.fraction = 1;
}

/** Checks one object; true when its bytes were read and are good. */
async function scrubObject(
  object: ObjectStateRecord,
  progress: ScrubProgress,
  { index, store, quarantine, logger, pace, signal, onScanned }: ScrubPassOptions,
): Promise<boolean> {
  const { fileHash, fileSize, verifiedAtMs, quarantinedAtMs } = object;
  const stat = await store.stat(objectKey(fileHash));
  const isThere = stat?.sizeBytes === fileSize;
  // Bytes that were put are as good as checked: they were hashed on their way in.
  const checkedAtMs = verifiedAtMs ?? stat?.modifiedAtMs ?? 0;
  const isDue = quarantinedAtMs !== undefined || checkedAtMs < progress.checkedBeforeMs;
  if (isThere && !isDue) {
    await pace(0);
    return false;
  }
  const verdict = await quarantine.examine(object, "bytes", { pace, signal });
  if (verdict.kind === "gone") return false;
  await pace(Math.max(0, MIN_COST_BYTES - fileSize));
  progress.scanned += 1;
  const bytes = isThere ? fileSize : 0;
  progress.bytes += bytes;
  onScanned(bytes);
  if (verdict.kind === "bad") {
    progress.badTotal += 1;
    if (progress.bad.length < MAX_FINDINGS) {
      const { reason, paths } = verdict;
      progress.bad.push({ fileHash, reason, paths: paths.slice(0, MAX_PATHS_PER_FINDING) });
    }
    return false;
  }
  if (quarantinedAtMs !== undefined) {
    await index.restoreObject(fileHash);
    progress.restored += 1;
    logger.warn("a stored object is good again, and served again", { fileHash });
  }
  return true;
}

interface Marks extends AsyncDisposable {
  add(fileHash: string): Promise<void>;
}

/** Records in few writes what was found good, and what is left of it at the end. */
function collectMarks({ index, now }: ScrubPassOptions): Marks {
  let fileHashes: string[] = [];
  let sinceMs = 0;
  const flush = async (): Promise<void> => {
    const marked = fileHashes;
    fileHashes = [];
    if (marked.length > 0) await index.markVerified(marked, sinceMs);
  };
  return {
    async add(fileHash) {
      if (fileHashes.length === 0) sinceMs = now();
      fileHashes.push(fileHash);
      if (fileHashes.length >= MARK_OBJECTS || now() - sinceMs >= MARK_INTERVAL_MS) await flush();
    },
    [Symbol.asyncDispose]: flush,
  };
}

/** Files that no upload, and no sweep under way, knows of. They harm nobody, and nobody but people removes them. */
async function countOrphans({
  index,
  store,
  logger,
  pace,
}: ScrubPassOptions): Promise<{ readonly files: number; readonly bytes: number }> {
  const total = { files: 0, bytes: 0 };
  const examples: string[] = [];
  for await (const { key } of store.list(OBJECT_KEY_PREFIX)) {
    await pace(0);
    const name = key.slice(OBJECT_KEY_PREFIX.length);
    const isKnown =
      /^[0-9a-f]{64}$/.test(name) && (await index.findObjectState(name)) !== undefined;
    if (isKnown) continue;
    // A sweep removes the file first and then what is known of it.
    const stat = await store.stat(key);
    if (stat === undefined) continue;
    total.files += 1;
    total.bytes += stat.sizeBytes;
    if (examples.length < 10) examples.push(key);
  }
  if (total.files > 0) {
    logger.warn("the store has files that the index does not know", { ...total, examples });
  }
  return total;
}

/** Why a pass ended early. */
export function scrubStopped(): CacheError {
  return new CacheError("CANCELLED", "The scrub was stopped");
}
