import { isCacheError } from "@glorious/core";

import type { PathFacts } from "./path-info.ts";
import type { PushConflict } from "./push-events.ts";
import {
  type PushOutcome,
  type PushSession,
  retryOptions,
  uploadWithRetry,
  type UploadResult,
} from "./push-session.ts";
import { ResponseError } from "./response-error.ts";
import { isTransient, withRetry } from "./retry.ts";
import { runParallel } from "./run-parallel.ts";
import { type AtticWire, MAX_HASHES_PER_QUESTION } from "./wire-attic.ts";

/** A raw NAR passes through in chunks of at most 1 MiB, one held back and one read ahead. */
const RAW_UPLOAD_MEMORY_BYTES = 4 * 2 ** 20;

/** Asks an atticd which of the paths it lacks, in batches its JSON limit allows. */
export async function findMissingAttic(
  wire: AtticWire,
  paths: readonly PathFacts[],
  session: Pick<PushSession, "retry" | "emit" | "signal">,
): Promise<ReadonlySet<string>> {
  return findMissingHashes(
    wire,
    paths.map(({ storePath }) => storePath.hash),
    session,
  );
}

/** The same by store path hashes alone; our server answers it too. */
export async function findMissingHashes(
  wire: AtticWire,
  hashes: readonly string[],
  session: Pick<PushSession, "retry" | "emit" | "signal">,
): Promise<ReadonlySet<string>> {
  const missing = new Set<string>();
  for (let start = 0; start < hashes.length; start += MAX_HASHES_PER_QUESTION) {
    const batch = hashes.slice(start, start + MAX_HASHES_PER_QUESTION);
    const answer = await withRetry(
      () => wire.findMissing(batch, session.signal),
      retryOptions(session, "question for missing paths", session.signal),
    );
    for (const hash of answer) missing.add(hash);
  }
  return missing;
}

/**
 * Pushes to an atticd, which makes each path visible as it arrives: a path is uploaded only after those
 * it refers to, so that what is visible is closed at any time.
 */
export async function pushAttic(
  wire: AtticWire,
  missing: readonly PathFacts[],
  session: PushSession,
): Promise<PushOutcome> {
  const byBaseName = new Map(missing.map((path) => [path.storePath.baseName, path]));
  const conflicts: PushConflict[] = [];
  const total = { uploaded: 0, deduplicated: 0, narBytes: 0, sentBytes: 0 };
  await runParallel(
    missing,
    async (path, signal) => {
      const { result, sentBytes } = await uploadWithRetry(
        session,
        path,
        Math.min(RAW_UPLOAD_MEMORY_BYTES, path.narSize + 64 * 1024),
        signal,
        ({ onRead, onSent }) => uploadPath(wire, path, { onRead, onSent, signal, session }),
      );
      total.sentBytes += sentBytes;
      if (result === "conflict") {
        conflicts.push({ storePath: path.storePath.path, narHash: path.narHash });
      }
      if (result === "uploaded") {
        total.uploaded += 1;
        total.narBytes += path.narSize;
      } else {
        total.deduplicated += 1;
      }
    },
    {
      concurrency: session.concurrency,
      signal: session.signal,
      after: (path) =>
        path.references.map((name) => byBaseName.get(name)).filter((other) => other !== undefined),
    },
  );
  return { ...total, conflicts, failed: [] };
}

interface UploadContext {
  readonly onRead: (narBytes: number) => void;
  readonly onSent: (sentBytes: number) => void;
  readonly signal: AbortSignal;
  readonly session: PushSession;
}

async function uploadPath(
  wire: AtticWire,
  path: PathFacts,
  { onRead, onSent, signal, session }: UploadContext,
): Promise<UploadResult> {
  try {
    const { isDeduplicated, sentBytes } = await wire.uploadPath(
      path,
      (bodySignal) => session.source.readNar(path, { onRead, signal: bodySignal }),
      { onSent, signal },
    );
    return { result: isDeduplicated ? "deduplicated" : "uploaded", sentBytes };
  } catch (error) {
    if (isCacheError(error, "CONFLICT")) {
      session.emit({ type: "warning", message: error.message });
      return { result: "conflict", sentBytes: 0 };
    }
    // An atticd may answer before it has read the body and close the connection; the answer is lost
    // then, and only the question tells whether the path is there.
    const wasCut = isTransient(error) && !(error instanceof ResponseError);
    if (wasCut && (await isPresent(wire, path, signal))) {
      return { result: "deduplicated", sentBytes: 0 };
    }
    throw error;
  }
}

async function isPresent(wire: AtticWire, path: PathFacts, signal: AbortSignal): Promise<boolean> {
  try {
    return !(await wire.findMissing([path.storePath.hash], signal)).has(path.storePath.hash);
  } catch (error) {
    if (signal.aborted) throw error;
    // The server cannot be asked either: the failed upload stands, and its retry comes later.
    return false;
  }
}
