import { createHash } from "node:crypto";

import { isCacheError, createByteBudget } from "@glorious/core";
import { type BlockPool, encodeNarParts, type EncodedNarPart } from "@glorious/nix-store";

import { onAbort } from "./cancellation.ts";
import type { NarReceipt } from "./nar-receipt.ts";
import type { PathFacts } from "./path-info.ts";
import {
  createProgress,
  encoderMemoryBytes,
  type PushSession,
  reportUpload,
  retryOptions,
  type UploadProgress,
  type UploadResult,
} from "./push-session.ts";
import { ResponseError } from "./response-error.ts";
import { withRetry } from "./retry.ts";
import type { OpenUpload, PartsWire } from "./wire-parts.ts";

/** How often an upload that turns out to be over is begun again. */
const MAX_ROUNDS = 3;
/** Frames that are encoded at the same time: a second one takes the process beyond 300 MiB, with parts to keep. */
const FRAMES_AT_ONCE = 1;
/** Requests of one NAR at the same time; their bytes are bounded besides. */
const MAX_PARTS_AT_ONCE = 2;
/** A large upload has more to lose than a small one by giving up while a server restarts. */
const MORE_ATTEMPTS = 4;
const COMPLETION_PAUSE_MS = 500;

/** What {@link uploadInParts} needs beside the path. */
export interface PartsUploadOptions {
  readonly session: PushSession;
  /** NAR bytes in each part, a whole number of frames. */
  readonly partBytes: number;
  readonly blocks: BlockPool;
  readonly signal: AbortSignal;
}

/**
 * Uploads one NAR in parts: several at a time, each repeated alone when it fails. Parts that the server has
 * are not sent again, whoever sent them and however long ago; the NAR is read and checked whole in any case.
 *
 * @returns `undefined` when the server has no room for another upload in parts; nothing was sent then.
 * @throws {CacheError} `CORRUPT` when the path is damaged on this machine; `CANCELLED`; otherwise what the
 *   server or the network said. The parts that arrived wait for the next push.
 */
export async function uploadInParts(
  wire: PartsWire,
  path: PathFacts,
  options: PartsUploadOptions,
): Promise<(UploadResult & { readonly fileHash: string }) | undefined> {
  const upload = new PartsUpload(wire, path, options);
  const begun = await upload.begin();
  if (begun === undefined) return undefined;
  return reportUpload(options.session, path, () => upload.run(begun));
}

class PartsUpload {
  readonly #wire: PartsWire;
  readonly #path: PathFacts;
  readonly #options: PartsUploadOptions;
  #sentBytes = 0;
  /** Whether the NAR may have been taken in because of us. */
  #hasCompleted = false;

  constructor(wire: PartsWire, path: PathFacts, options: PartsUploadOptions) {
    this.#wire = wire;
    this.#path = path;
    this.#options = options;
  }

  /** Opens the upload or finds it; `undefined` when the server refuses to have one more. */
  async begin(): Promise<OpenUpload | NarReceipt | undefined> {
    const { partBytes, session, signal } = this.#options;
    try {
      return await this.#retry("upload", () => this.#wire.begin(this.#path, partBytes, signal));
    } catch (error) {
      if (!(error instanceof ResponseError) || error.code !== "CONFLICT") throw error;
      session.emit({ type: "warning", message: error.message });
      return undefined;
    }
  }

  async run(first: OpenUpload | NarReceipt): Promise<UploadResult & { readonly fileHash: string }> {
    let begun: OpenUpload | NarReceipt | undefined = first;
    for (let round = 1; ; round += 1) {
      if ("fileHash" in begun) return this.#result(begun);
      try {
        await this.#sendMissing(begun, round);
        this.#hasCompleted = true;
        return this.#result(await this.#complete(begun.id));
      } catch (error) {
        if (round === MAX_ROUNDS || !isOver(error)) throw error;
        const what = this.#what("upload");
        this.#options.session.emit({ type: "retry", what, attempt: round, delayMs: 0, error });
        // What sending it once more does not mend is mended by starting from nothing.
        if (round > 1 && error.code === "CONFLICT") await this.#giveUp(begun.id);
        const again = await this.begin();
        if (again === undefined) throw error;
        begun = again;
      }
    }
  }

  #result({ kind, fileHash }: NarReceipt): UploadResult & { readonly fileHash: string } {
    const isOurs = kind !== "Deduplicated" || this.#hasCompleted;
    const result = isOurs ? "uploaded" : "deduplicated";
    return { result, sentBytes: this.#sentBytes, fileHash };
  }

  async #sendMissing(upload: OpenUpload, round: number): Promise<void> {
    const { session, partBytes } = this.#options;
    const { narSize, storePath } = this.#path;
    // One part is being made while one is on its way, or several that are small together.
    const memoryBytes = encoderMemoryBytes(narSize, FRAMES_AT_ONCE) + 2 * partBytes;
    using _ = await session.budget.acquire(memoryBytes, this.#options.signal);
    session.emit({ type: "upload-started", storePath: storePath.path, narSize, attempt: round });
    const stop = new AbortController();
    using _stop = onAbort(this.#options.signal, () => stop.abort(this.#options.signal.reason));
    const progress = createProgress(session, this.#path);
    const present = new Set(upload.parts);
    const room = createByteBudget(partBytes / 2);
    const running = new Set<Promise<void>>();
    const failures: unknown[] = [];
    const source = session.source.readNar(this.#path, {
      onRead: progress.onRead,
      signal: stop.signal,
      consumerCopies: true,
    });
    const parts = encodeNarParts(
      source,
      { narSize, partBytes },
      {
        isWanted: (number) => !present.has(number),
        level: upload.level,
        concurrency: FRAMES_AT_ONCE,
        blocks: this.#options.blocks,
        sizeBytes: narSize,
        signal: stop.signal,
      },
    );
    try {
      for await (const part of parts) {
        const sizeBytes = part.pieces.reduce((sum, piece) => sum + piece.length, 0);
        const lease = await room.acquire(sizeBytes, stop.signal);
        const sending = this.#sendPart(upload.id, part, sizeBytes, stop.signal, progress)
          .catch((error: unknown) => {
            failures.push(error);
            stop.abort(error);
          })
          .finally(() => {
            lease[Symbol.dispose]();
            running.delete(sending);
          });
        running.add(sending);
        if (running.size >= MAX_PARTS_AT_ONCE) await Promise.race(running);
      }
    } catch (error) {
      failures.push(error);
      stop.abort(error);
    }
    await Promise.all(running);
    if (failures.length > 0) throw failures[0];
  }

  async #sendPart(
    id: string,
    { number, pieces }: EncodedNarPart,
    sizeBytes: number,
    signal: AbortSignal,
    { onSent }: UploadProgress,
  ): Promise<void> {
    const hash = createHash("sha256");
    for (const piece of pieces) hash.update(piece);
    const part = { number, pieces, sizeBytes, sha256: hash.digest("hex") };
    try {
      await this.#retry(`part ${number}`, () => this.#wire.putPart(id, part, signal), signal);
    } catch (error) {
      // Another client's zstd made other bytes of it: whether they are right shows when all are joined.
      if (!isCacheError(error, "CONFLICT")) throw error;
      return;
    }
    this.#sentBytes += sizeBytes;
    onSent(this.#sentBytes);
  }

  async #giveUp(id: string): Promise<void> {
    try {
      await this.#wire.giveUp(id, this.#options.signal);
    } catch (error) {
      if (!isCacheError(error, "NOT_FOUND") && !isCacheError(error, "CONFLICT")) throw error;
    }
  }

  async #complete(id: string): Promise<NarReceipt> {
    const { session, signal } = this.#options;
    for (;;) {
      const answer = await this.#retry("completion", () => this.#wire.complete(id, signal));
      if (answer !== "running") return answer;
      await session.retry.clock.sleep(COMPLETION_PAUSE_MS, signal);
    }
  }

  #what(step: string): string {
    return `${step} of ${this.#path.storePath.path}`;
  }

  #retry<T>(
    step: string,
    attempt: () => Promise<T>,
    signal: AbortSignal = this.#options.signal,
  ): Promise<T> {
    const options = retryOptions(this.#options.session, this.#what(step), signal);
    const { policy } = options;
    const maxAttempts = policy.maxAttempts + MORE_ATTEMPTS;
    return withRetry(attempt, { ...options, policy: { ...policy, maxAttempts } });
  }
}

/** Whether the server says that the upload as we know it is no more: ended, expired, damaged, or in need of parts. */
function isOver(error: unknown): error is ResponseError {
  return (
    error instanceof ResponseError && ["NOT_FOUND", "CORRUPT", "CONFLICT"].includes(error.code)
  );
}
