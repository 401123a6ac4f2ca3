import { availableParallelism } from "node:os";

import type { ByteBudget } from "@glorious/core";
import { NAR_ENCODING } from "@glorious/nix-store";

import type { UploadParts } from "./cache-config.ts";
import type { Clock } from "./clock.ts";
import type { HttpClient } from "./http-client.ts";
import type { NarSource } from "./nar-source.ts";
import type { PathFacts } from "./path-info.ts";
import type { FailedPath, PushConflict, PushEvent } from "./push-events.ts";
import { type RetryPolicy, withRetry } from "./retry.ts";

/** Time, chance and patience, replaced as a whole by tests. */
export interface RetryEnvironment {
  readonly policy: RetryPolicy;
  readonly clock: Clock;
  /** A number in [0, 1). */
  readonly random: () => number;
}

/** What the parts of one push share. */
export interface PushSession {
  readonly http: HttpClient;
  readonly retry: RetryEnvironment;
  readonly budget: ByteBudget;
  /** Uploads at the same time. */
  readonly concurrency: number;
  /** zstd level of NARs that are encoded here; default the encoder's own. */
  readonly compressionLevel: number | undefined;
  /** How large NARs are to be sent; in one piece when the server says nothing. */
  readonly uploadParts: UploadParts | undefined;
  readonly source: NarSource;
  /** A path whose NAR cannot be had or is refused is left out, with those that need it; otherwise it ends the push. */
  readonly skipsFailed: boolean;
  readonly emit: (event: PushEvent) => void;
  readonly signal: AbortSignal | undefined;
}

/** What became of the missing paths. */
export interface PushOutcome {
  readonly uploaded: number;
  readonly deduplicated: number;
  readonly conflicts: readonly PushConflict[];
  readonly failed: readonly FailedPath[];
  readonly narBytes: number;
  readonly sentBytes: number;
}

/** What one upload attempt achieved. */
export interface UploadResult {
  readonly result: "uploaded" | "deduplicated" | "conflict";
  readonly sentBytes: number;
}

/** Told by an attempt how far it is. */
export interface UploadProgress {
  readonly onRead: (narBytes: number) => void;
  readonly onSent: (sentBytes: number) => void;
}

const PROGRESS_STEP_BYTES = 2 ** 20;

/**
 * Uploads one path with retries and events. Memory is taken for the time of an attempt only: an upload
 * that waits for its next try holds nothing.
 *
 * @param memoryBytes - The most an attempt keeps in memory.
 * @param attempt - May give the memory back before its end, such as when only the answer is still to come.
 */
export async function uploadWithRetry<Result extends UploadResult>(
  session: PushSession,
  path: PathFacts,
  memoryBytes: number,
  signal: AbortSignal,
  attempt: (progress: UploadProgress, giveMemoryBack: () => void) => Promise<Result>,
): Promise<Result> {
  const storePath = path.storePath.path;
  const { narSize } = path;
  return reportUpload(session, path, () =>
    withRetry(
      async (number) => {
        using lease = await session.budget.acquire(memoryBytes, signal);
        session.emit({ type: "upload-started", storePath, narSize, attempt: number });
        // Awaited here: the memory is given back when this block is left, if not before.
        return await attempt(createProgress(session, path), () => lease[Symbol.dispose]());
      },
      retryOptions(session, `upload of ${storePath}`, signal),
    ),
  );
}

/** Runs an upload, its repetitions included, and tells when it is done. */
export async function reportUpload<Result extends UploadResult>(
  { emit, retry }: PushSession,
  path: PathFacts,
  run: () => Promise<Result>,
): Promise<Result> {
  const startedMs = retry.clock.nowMs();
  const result = await run();
  const durationMs = retry.clock.nowMs() - startedMs;
  const storePath = path.storePath.path;
  const { narSize } = path;
  emit({
    type: "upload-done",
    storePath,
    narSize,
    sentBytes: result.sentBytes,
    result: result.result,
    durationMs,
  });
  return result;
}

/** The options of {@link withRetry} for one step of a push, which reports its retries. */
export function retryOptions(
  { retry, emit }: Pick<PushSession, "retry" | "emit">,
  what: string,
  signal: AbortSignal | undefined,
): Parameters<typeof withRetry>[1] {
  return {
    what,
    ...retry,
    signal,
    onRetry: (notice) => emit({ type: "retry", what, ...notice }),
  };
}

/** Counts one attempt, and tells about it every MiB. */
export function createProgress({ emit }: PushSession, path: PathFacts): UploadProgress {
  const storePath = path.storePath.path;
  let narBytes = 0;
  let sentBytes = 0;
  let nextAt = PROGRESS_STEP_BYTES;
  const report = (): void => {
    if (narBytes + sentBytes < nextAt) return;
    nextAt = narBytes + sentBytes + PROGRESS_STEP_BYTES;
    emit({ type: "upload-progress", storePath, narSize: path.narSize, narBytes, sentBytes });
  };
  return {
    onRead: (bytes) => {
      narBytes = bytes;
      report();
    },
    onSent: (bytes) => {
      sentBytes = bytes;
      report();
    },
  };
}

/** Threads Node compresses on, unless told otherwise by its user. */
const MAX_ENCODER_CONCURRENCY = 4;

/**
 * Frames of one NAR compressed at the same time: together with the other NARs of several frames as many as there
 * are cores, within Node's pool.
 */
export function encoderConcurrency(frames: number, largeNars = 1): number {
  const cores = Math.min(availableParallelism(), MAX_ENCODER_CONCURRENCY);
  return Math.max(1, Math.min(frames, Math.ceil(cores / largeNars)));
}

/** What the encoder keeps: for each frame in flight a block, a frame and zstd's window; and a block to fill. */
export function encoderMemoryBytes(narSize: number, concurrency: number): number {
  const block = Math.min(narSize, NAR_ENCODING.frameBytes);
  const window = Math.min(narSize, 4 * 2 ** 20);
  const readAhead = Math.min(narSize, 4 * 2 ** 20);
  return (2 * block + window) * concurrency + block + readAhead + 64 * 1024;
}
