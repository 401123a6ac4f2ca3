import { type CacheError, isCacheError } from "@glorious/core";
import { createBlockPool, encodeNar, NAR_ENCODING } from "@glorious/nix-store";

import { leaveOut, type SoundPaths } from "./leave-out.ts";
import { concernsOneNar, NarSourceError } from "./nar-source.ts";
import type { PathFacts } from "./path-info.ts";
import type { PushConflict } from "./push-events.ts";
import { uploadInParts } from "./push-parts.ts";
import {
  encoderConcurrency,
  encoderMemoryBytes,
  type PushOutcome,
  type PushSession,
  retryOptions,
  uploadWithRetry,
  type UploadResult,
} from "./push-session.ts";
import { ResponseError } from "./response-error.ts";
import { withRetry } from "./retry.ts";
import { runParallel } from "./run-parallel.ts";
import { splitCommits } from "./split-commits.ts";
import {
  type CommitAnswer,
  type FlywheelWire,
  MAX_PATHS_PER_REQUEST,
  type MissingAnswer,
  readIncomplete,
} from "./wire-flywheel.ts";

/** How often a commit that found something gone is mended and tried again. */
const MAX_REPAIRS = 2;
/** Blocks of 8 MiB that one upload leaves for the next. */
const MAX_IDLE_BLOCKS = 4;

/** Asks our server what a view lacks, in as few requests as it allows. */
export async function findMissingFlywheel(
  wire: FlywheelWire,
  paths: readonly PathFacts[],
  session: Pick<PushSession, "retry" | "emit" | "signal"> & { readonly skipUpstream: boolean },
): Promise<MissingAnswer> {
  const missingPaths = new Set<string>();
  const missingNars = new Set<string>();
  const upstreamPaths = new Map<string, string>();
  for (let start = 0; start < paths.length; start += MAX_PATHS_PER_REQUEST) {
    const batch = paths.slice(start, start + MAX_PATHS_PER_REQUEST);
    const answer = await withRetry(
      () => wire.findMissing(batch, session),
      retryOptions(session, "question for missing paths", session.signal),
    );
    for (const hash of answer.missingPaths) missingPaths.add(hash);
    for (const hash of answer.missingNars) missingNars.add(hash);
    for (const [hash, upstream] of answer.upstreamPaths) upstreamPaths.set(hash, upstream);
  }
  return { missingPaths, missingNars, upstreamPaths };
}

/**
 * Pushes to our own server: the missing NARs in parallel, then the closure in one commit. When the
 * commit finds that something vanished between question and commit, that is uploaded and the commit
 * repeated.
 *
 * @param kept - All paths of the push that are not left to an upstream.
 * @param missing - The server's answer about them.
 */
export async function pushFlywheel(
  wire: FlywheelWire,
  kept: readonly PathFacts[],
  missing: MissingAnswer,
  session: PushSession,
): Promise<PushOutcome> {
  const run = new FlywheelPush(wire, kept, session);
  await run.upload(missing);
  return run.commitAll();
}

/** What became of one NAR; the hash of what the server stored, when it told. */
interface NarUpload extends UploadResult {
  readonly fileHash?: string;
}

class FlywheelPush {
  readonly #wire: FlywheelWire;
  readonly #kept: ReadonlyMap<string, PathFacts>;
  readonly #session: PushSession;
  /** What will be committed, by store path hash. */
  readonly #toCommit = new Map<string, PathFacts>();
  /** What the server stored for a NAR hash. */
  readonly #fileHashes = new Map<string, string>();
  readonly #uploadedNars = new Set<string>();
  /** Why a NAR could not be uploaded, where the push goes on without it. */
  readonly #failedNars = new Map<string, CacheError>();
  readonly #blocks = createBlockPool(MAX_IDLE_BLOCKS);
  #narBytes = 0;
  #sentBytes = 0;

  constructor(wire: FlywheelWire, kept: readonly PathFacts[], session: PushSession) {
    this.#wire = wire;
    this.#kept = new Map(kept.map((path) => [path.storePath.hash, path]));
    this.#session = session;
  }

  /** Uploads each missing NAR once and notes the missing paths for the commit. */
  async upload({ missingPaths, missingNars }: MissingAnswer): Promise<void> {
    const byNarHash = new Map<string, PathFacts>();
    for (const hash of missingPaths) {
      const path = this.#kept.get(hash);
      if (path !== undefined) this.#toCommit.set(hash, path);
    }
    for (const path of this.#kept.values()) {
      const isWanted = missingNars.has(path.narHash) && !byNarHash.has(path.narHash);
      if (isWanted) byNarHash.set(path.narHash, path);
    }
    // The largest first: a big one started last would run on alone.
    const paths = [...byNarHash.values()].sort((a, b) => b.narSize - a.narSize);
    const largeNars = paths.filter(({ narSize }) => framesOf(narSize) > 1).length;
    await runParallel(paths, (path, signal) => this.#tryNar(path, largeNars, signal), {
      concurrency: this.#session.concurrency,
      signal: this.#session.signal,
    });
  }

  async #tryNar(path: PathFacts, largeNars: number, signal: AbortSignal): Promise<void> {
    try {
      await this.#uploadNar(path, largeNars, signal);
    } catch (error) {
      const isOfThis =
        error instanceof NarSourceError ||
        (error instanceof ResponseError && concernsOneNar(error));
      if (!this.#session.skipsFailed || !isOfThis) throw error;
      this.#failedNars.set(path.narHash, error);
    }
  }

  async #uploadNar(path: PathFacts, largeNars: number, signal: AbortSignal): Promise<void> {
    const upload =
      (await this.#uploadInParts(path, signal)) ??
      (await this.#uploadWhole(path, largeNars, signal));
    if (upload.fileHash !== undefined) this.#fileHashes.set(path.narHash, upload.fileHash);
    this.#sentBytes += upload.sentBytes;
    if (upload.result !== "uploaded" || this.#uploadedNars.has(path.narHash)) return;
    this.#uploadedNars.add(path.narHash);
    this.#narBytes += path.narSize;
  }

  /** `undefined` when the NAR is to be sent in one piece. */
  async #uploadInParts(path: PathFacts, signal: AbortSignal): Promise<NarUpload | undefined> {
    const { uploadParts } = this.#session;
    if (uploadParts === undefined || path.narSize < uploadParts.thresholdBytes) return undefined;
    return uploadInParts(this.#wire.parts, path, {
      session: this.#session,
      partBytes: uploadParts.partBytes,
      blocks: this.#blocks,
      signal,
    });
  }

  #uploadWhole(path: PathFacts, largeNars: number, signal: AbortSignal): Promise<NarUpload> {
    const concurrency = encoderConcurrency(framesOf(path.narSize), largeNars);
    const level = this.#session.compressionLevel;
    return uploadWithRetry(
      this.#session,
      path,
      encoderMemoryBytes(path.narSize, concurrency),
      signal,
      async ({ onRead, onSent }, giveMemoryBack): Promise<NarUpload> => {
        const blocks = this.#blocks;
        const { source } = this.#session;
        async function* body(bodySignal: AbortSignal): AsyncGenerator<Buffer> {
          const options = { onRead, signal: bodySignal, consumerCopies: true };
          const encoded =
            source.readEncoded?.(path, options) ??
            encodeNar(source.readNar(path, options), {
              concurrency,
              sizeBytes: path.narSize,
              blocks,
              signal: bodySignal,
              ...(level === undefined ? {} : { level }),
            });
          yield* encoded;
          // The next upload begins while the server makes this one durable.
          giveMemoryBack();
        }
        try {
          const receipt = await this.#wire.putNar(path, body, { onSent, signal });
          const result = receipt.kind === "Deduplicated" ? "deduplicated" : "uploaded";
          return { result, sentBytes: receipt.sentBytes, fileHash: receipt.fileHash };
        } catch (error) {
          if (!isCacheError(error, "CONFLICT")) throw error;
          this.#session.emit({ type: "warning", message: error.message });
          return { result: "conflict", sentBytes: 0 };
        }
      },
    );
  }

  async commitAll(): Promise<PushOutcome> {
    const created = new Set<string>();
    const unchanged = new Set<string>();
    const conflicts = new Map<string, PushConflict>();
    for (let repairs = 0; ; repairs += 1) {
      try {
        for (const batch of splitCommits(this.#soundPaths().sound)) {
          const answer = await this.#commit(batch);
          for (const hash of answer.created) created.add(hash);
          for (const hash of answer.unchanged) unchanged.add(hash);
          for (const conflict of answer.conflicts) this.#noteConflict(conflict, conflicts);
        }
        break;
      } catch (error) {
        if (repairs === MAX_REPAIRS || !(await this.#repair(error))) throw error;
      }
    }
    this.#session.emit({
      type: "committed",
      created: created.size,
      unchanged: unchanged.size,
      conflicts: conflicts.size,
    });
    return this.#summarize([...conflicts.values()]);
  }

  #soundPaths(): SoundPaths<PathFacts> {
    const paths = [...this.#toCommit.values()];
    return leaveOut(paths, ({ narHash }) => this.#failedNars.get(narHash));
  }

  #commit(batch: readonly PathFacts[]): Promise<CommitAnswer> {
    const { signal } = this.#session;
    const paths = batch.map((path) => ({ path, fileHash: this.#fileHashes.get(path.narHash) }));
    return withRetry(
      () => this.#wire.commit(paths, this.#externalReferences(batch), signal),
      retryOptions(this.#session, "commit of the closure", signal),
    );
  }

  /** References that are no part of this push: an upstream's, or left out by the caller. */
  #externalReferences(batch: readonly PathFacts[]): string[] {
    const external = new Set<string>();
    for (const { references } of batch) {
      for (const baseName of references) {
        const hash = baseName.slice(0, 32);
        if (!this.#kept.has(hash)) external.add(hash);
      }
    }
    return [...external].sort();
  }

  #noteConflict(
    { storePathHash, narHash }: CommitAnswer["conflicts"][number],
    conflicts: Map<string, PushConflict>,
  ): void {
    const path = this.#kept.get(storePathHash);
    if (path === undefined || conflicts.has(storePathHash)) return;
    const storePath = path.storePath.path;
    conflicts.set(storePathHash, { storePath, narHash: path.narHash, existingNarHash: narHash });
    this.#session.emit({
      type: "warning",
      message: `${storePath} is already in the cache with other contents (sha256:${narHash}, ours is sha256:${path.narHash}); the cache keeps its own`,
    });
  }

  /** Brings back what an incomplete commit found missing; false when that is not the trouble, or not ours. */
  async #repair(error: unknown): Promise<boolean> {
    if (!(error instanceof ResponseError) || error.code !== "CONFLICT") return false;
    const incomplete = readIncomplete(error.details);
    if (incomplete === undefined) return false;
    const { missingNars, missingReferences } = incomplete;
    const gone = [...this.#kept.values()].filter(
      ({ storePath, narHash }) =>
        missingReferences.includes(storePath.hash) || missingNars.includes(narHash),
    );
    if (gone.length === 0) return false;
    this.#session.emit({
      type: "warning",
      message: `The commit found ${gone.length} of our paths gone from the cache; uploading them again`,
    });
    const answer = await findMissingFlywheel(this.#wire, gone, {
      ...this.#session,
      skipUpstream: false,
    });
    const nars = new Set([...answer.missingNars, ...missingNars]);
    await this.upload({ ...answer, missingNars: nars });
    return true;
  }

  #summarize(conflicts: readonly PushConflict[]): PushOutcome {
    const counted = new Set<string>();
    let uploaded = 0;
    const { sound, failed } = this.#soundPaths();
    for (const { narHash } of sound) {
      // Of several paths with one NAR the first brought it, the others found it there.
      if (!this.#uploadedNars.has(narHash) || counted.has(narHash)) continue;
      counted.add(narHash);
      uploaded += 1;
    }
    return {
      uploaded,
      deduplicated: sound.length - uploaded,
      conflicts,
      failed,
      narBytes: this.#narBytes,
      sentBytes: this.#sentBytes,
    };
  }
}

function framesOf(narSize: number): number {
  return Math.ceil(narSize / NAR_ENCODING.frameBytes);
}
