import { CacheError } from "@glorious/core";

import { systemClock } from "../clock.ts";
import { leaveOut, withoutReference } from "../leave-out.ts";
import type { FailedPath } from "../push-events.ts";
import type { CacheSource, SourcePath } from "./cache-source.ts";
import { collectClosure } from "./collect-closure.ts";
import { createPatientSource } from "./patient-source.ts";
import type { TransferEvent, TransferSummary } from "./transfer-events.ts";

/** Roots that are dealt with in one go: the bound of what is kept in memory besides their closures. */
const ROOTS_AT_ONCE = 256;

/** Where paths are to be. */
export interface TransferTarget {
  /** Which of these it lacks. What it has it has with all that refers to. */
  findMissing(storePathHashes: readonly string[]): Promise<ReadonlySet<string>>;
  /** Takes paths, references before those that refer to them; what fails is named with all that needs it. */
  deliver(source: CacheSource, paths: readonly SourcePath[]): Promise<Delivery>;
}

/** What became of some paths. */
export interface Delivery {
  readonly added: number;
  readonly alreadyPresent: number;
  readonly failed: readonly FailedPath[];
  readonly narBytes: number;
  readonly fileBytes: number;
}

/** What {@link transferPaths} needs. */
export interface TransferOptions {
  readonly source: CacheSource;
  readonly target: TransferTarget;
  /** Store path hashes, some perhaps twice. */
  readonly roots: AsyncIterable<string> | Iterable<string>;
  /** Whether what they refer to is wanted too. */
  readonly followsReferences: boolean;
  readonly onEvent: (event: TransferEvent) => void;
  readonly signal: AbortSignal | undefined;
}

/**
 * Brings paths from a source to a target, some roots with their closures at a time. What fails is told by an event, left
 * out together with all that needs it, and does not hinder the rest.
 *
 * @throws {CacheError} what ended the work: the source or the target cannot be reached, a token is refused, `CANCELLED`.
 */
export async function transferPaths(options: TransferOptions): Promise<TransferSummary> {
  const run = new TransferRun(options);
  let batch = new Set<string>();
  for await (const hash of options.roots) {
    if (!run.isNew(hash)) continue;
    batch.add(hash);
    if (batch.size < ROOTS_AT_ONCE) continue;
    await run.take([...batch]);
    batch = new Set();
  }
  await run.take([...batch]);
  return run.summary();
}

class TransferRun {
  readonly #options: TransferOptions;
  readonly #source: CacheSource;
  readonly #startedMs = systemClock.nowMs();
  readonly #seen = new Set<string>();
  /** Hashes of what cannot be had, for those of later batches that need it. */
  readonly #failed = new Set<string>();
  readonly #total = { added: 0, alreadyPresent: 0, elsewhere: 0, narBytes: 0, fileBytes: 0 };

  constructor(options: TransferOptions) {
    this.#options = options;
    this.#source = createPatientSource(options.source);
  }

  isNew(hash: string): boolean {
    return !this.#seen.has(hash);
  }

  async take(roots: readonly string[]): Promise<void> {
    const { followsReferences, signal, target } = this.#options;
    const { paths, wrong, absentRoots, alreadyPresent, elsewhere } = await collectClosure({
      source: this.#source,
      roots,
      followsReferences,
      seen: this.#seen,
      findMissing: (hashes) => target.findMissing(hashes),
      signal,
    });
    this.#total.alreadyPresent += alreadyPresent;
    this.#total.elsewhere += elsewhere;
    for (const hash of absentRoots) {
      const message = `${this.#source.name} has no path ${hash}`;
      this.#fail(hash, new CacheError("NOT_FOUND", message));
    }
    for (const [hash, error] of wrong) this.#fail(hash, error);
    const { sound, failed } = leaveOut(paths, (path) => this.#whyNot(path));
    for (const { storePath, error } of failed) this.#fail(storePath, error);
    if (sound.length === 0) return;
    const delivery = await target.deliver(this.#source, sound);
    for (const { storePath, error } of delivery.failed) this.#fail(storePath, error);
    this.#total.added += delivery.added;
    this.#total.alreadyPresent += delivery.alreadyPresent;
    this.#total.narBytes += delivery.narBytes;
    this.#total.fileBytes += delivery.fileBytes;
  }

  summary(): TransferSummary {
    const { added, alreadyPresent, elsewhere, narBytes, fileBytes } = this.#total;
    return {
      paths: this.#seen.size,
      added,
      alreadyPresent,
      failed: this.#failed.size,
      elsewhere,
      narBytes,
      fileBytes,
      durationMs: systemClock.nowMs() - this.#startedMs,
    };
  }

  #whyNot(path: SourcePath): CacheError | undefined {
    const needed = path.references.find((baseName) => this.#failed.has(baseName.slice(0, 32)));
    return needed === undefined ? undefined : withoutReference(path, needed);
  }

  /** @param path - A store path, or its hash. */
  #fail(path: string, error: CacheError): void {
    this.#failed.add(path.slice(path.lastIndexOf("/") + 1).slice(0, 32));
    this.#options.onEvent({ type: "failed", path, error });
  }
}
