import { access, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";

import { CacheError, type Logger, silentLogger } from "@glorious/core";
import type { DigestKey } from "@glorious/reapi";
import {
  type BlobStore,
  type FsyncPolicy,
  makeDurableDirectory,
  openFilesystemStore,
  syncDirectory,
  tryLockFile,
} from "@glorious/storage";

import type { BazelScrubProgress, BazelScrubWork } from "../../housekeeping/bazel-scrub.ts";
import { MemoryPool } from "../memory/memory-pool.ts";
import type { Actor } from "./actor.ts";
import { type ActionAdoption, adoptActions } from "./adopt-actions.ts";
import { type BazelIndex, openBazelIndex } from "./bazel-index.ts";
import type {
  BazelScope,
  BazelStore,
  EvictionResult,
  ScopeUsage,
  StoreRevocation,
} from "./bazel-store.ts";
import { isOwnFile } from "./blob-intake.ts";
import { evict, type ViewLimit } from "./eviction.ts";
import { learnIndex } from "./learn-index.ts";
import { lacksPack, loseUnpacked } from "./lost-packs.ts";
import { PackSet } from "./pack-set.ts";
import { Packer } from "./packer.ts";
import { scrubStore } from "./scrub-store.ts";
import { createStoreProvenance } from "./store-provenance.ts";
import { TenantScope } from "./tenant-scope.ts";
import { TenantState } from "./tenant-state.ts";

/** What bounds the Bazel data of each tenant. */
export interface BazelLimits {
  /** Stored bytes of one tenant. */
  readonly maxBytes: number;
  readonly maxBlobBytes: number;
  /** How long what was used is kept, whatever else needs the room. */
  readonly ttlMs: number;
  /** Bytes of memory for what was used lately, of all tenants that share a pool. */
  readonly memoryBytes: number;
}

export interface TenantStoreOptions {
  /** Holds this tenant's data and nothing else; made when absent. */
  readonly directory: string;
  readonly limits: BazelLimits;
  /** Memory that this tenant shares with others; by default its own. */
  readonly memory?: MemoryPool;
  /** The tenant's views there are, each with its limit, by their ids. */
  readonly views: () => Promise<ReadonlyMap<number, ViewLimit>>;
  readonly fsync?: FsyncPolicy;
  readonly logger?: Logger;
  readonly now?: () => number;
  /** Told when stored bytes turned out to be damaged or gone. */
  readonly onLost?: () => void;
  /** Whether it is recorded who was given what; default true. */
  readonly recordsReads?: boolean;
  /** The server's revocations that hold. Those that this tenant's data does not know yet take effect before it is served. */
  readonly revocations?: () => Promise<readonly StoreRevocation[]>;
}

const FLUSH_INTERVAL_MS = 60_000;
/** After eviction found nothing old enough, it is not asked again for this time. */
const FULL_FOR_MS = 10_000;

/**
 * Opens one tenant's Bazel data. Nothing is scanned, however much there is, unless a pack is missing.
 *
 * @throws {CacheError} `CONFIG` when another process has it open, and what opening index and store throw.
 */
export async function openTenantStore(options: TenantStoreOptions): Promise<BazelStore> {
  const { directory, fsync = "full", logger = silentLogger, now = Date.now } = options;
  const memory = options.memory ?? new MemoryPool(options.limits.memoryBytes);
  await makeDurableDirectory(directory, fsync);
  const opened = new AsyncDisposableStack();
  try {
    const lock = tryLockFile(join(directory, "lock"));
    if (lock === undefined) {
      throw new CacheError("CONFIG", `Another process serves the Bazel data in ${directory}`, {
        hint: "Stop it, or give this server another data directory.",
      });
    }
    opened.defer(() => lock.release());
    const index = opened.use(
      await openBazelIndex({
        file: join(directory, "index.sqlite"),
        synchronous: fsync === "full" ? "full" : "off",
        logger,
      }),
    );
    const files = opened.use(
      await openFilesystemStore({ directory: join(directory, "store"), fsync, logger }),
    );
    const packs = opened.use(
      await PackSet.open({
        directory: join(directory, "packs"),
        lastGivenId: index.packing.lastGivenId(),
        maxTableBytes: options.limits.memoryBytes / 16,
        memory,
        fsync,
        logger,
      }),
    );
    const parts = { index, files, packs, memory, opened };
    const store = new TenantStore({ ...options, logger, now }, parts);
    await store.start();
    return store;
  } catch (error) {
    await opened.disposeAsync();
    throw error;
  }
}

interface TenantParts {
  readonly index: BazelIndex;
  readonly files: BlobStore;
  readonly packs: PackSet;
  readonly memory: MemoryPool;
  readonly opened: AsyncDisposableStack;
}

class TenantStore implements BazelStore {
  readonly #options: TenantStoreOptions & { readonly logger: Logger; readonly now: () => number };
  readonly #parts: TenantParts;
  readonly #state: TenantState;
  readonly #scopes: Map<string, TenantScope> = new Map();
  readonly provenance: ReturnType<typeof createStoreProvenance>;
  readonly #stopping: AbortController = new AbortController();
  readonly #packer: Packer;
  #learning: Promise<void> | undefined;
  #packing: Promise<void> | undefined;
  #flushTimer: NodeJS.Timeout | undefined;
  #evicting: Promise<EvictionResult> | undefined;
  #fullViews: ReadonlySet<number> = new Set();
  #fullUntilMs = 0;
  #overlaysFullUntilMs = 0;
  #closing: Promise<void> | undefined;

  constructor(
    options: TenantStoreOptions & { readonly logger: Logger; readonly now: () => number },
    parts: TenantParts,
  ) {
    const { limits, logger, now } = options;
    this.#options = options;
    this.#parts = parts;
    this.#state = new TenantState({
      ...parts,
      logger,
      now,
      maxBlobBytes: limits.maxBlobBytes,
      onLost: options.onLost ?? (() => {}),
      recordsReads: options.recordsReads ?? true,
      requireRoom: (viewId, sizeBytes) => this.#requireRoom(viewId, sizeBytes),
    });
    parts.opened.use(this.#state);
    this.provenance = createStoreProvenance(this.#state, () => this.#learn());
    this.#packer = new Packer(this.#state, { signal: this.#stopping.signal, logger });
  }

  async start(): Promise<void> {
    const { directory, logger, fsync = "full" } = this.#options;
    await this.provenance.resume((await this.#options.revocations?.()) ?? []);
    // Before anybody is told of an ActionResult that needs what is gone: a build would end when it asks for the bytes.
    if (lacksPack(this.#state)) await loseUnpacked(this.#state, this.#stopping.signal);
    const mark = join(directory, "in-use");
    const wasKilled = await access(mark).then(
      () => true,
      () => false,
    );
    await writeFile(mark, "");
    // Before the first file's name, which would else outlast it in a power cut.
    if (fsync === "full") await syncDirectory(directory);
    this.#flushTimer = setInterval(() => {
      this.flush().catch((error: unknown) => {
        logger.error("What was used could not be noted in the index", { error });
      });
    }, FLUSH_INTERVAL_MS);
    this.#flushTimer.unref();
    this.#learn();
    this.#packing = this.#learning?.then(() => this.#packer.run());
    if (!wasKilled) return;
    this.#deleteOrphans().catch((error: unknown) => {
      logger.error("Files of uploads that a crash cut were not all deleted", { error });
    });
  }

  /** Once what runs has ended. */
  #learn(): void {
    const { logger } = this.#options;
    this.#learning = (this.#learning ?? Promise.resolve())
      .then(() => learnIndex(this.#state, this.#stopping.signal))
      .catch((error: unknown) => {
        logger.error("The index could not be read into memory", { error });
      });
  }

  scope(viewId: number, instance: string, actor?: Actor): BazelScope {
    if (actor !== undefined) return new TenantScope(this.#state, viewId, instance, actor);
    const name = `${viewId}/${instance}`;
    const known = this.#scopes.get(name);
    if (known !== undefined) return known;
    const scope = new TenantScope(this.#state, viewId, instance);
    // Names that hold nothing are made up as fast as somebody can ask.
    if (this.#state.findScope(viewId, instance) !== undefined) this.#scopes.set(name, scope);
    return scope;
  }

  adopt(adoption: ActionAdoption): Promise<void> {
    return adoptActions(this.#state, adoption);
  }

  async usageOf(viewId: number): Promise<ScopeUsage> {
    return this.#state.index.usage(viewId, undefined);
  }

  get storedBytes(): number {
    return this.#state.storedBytes;
  }

  get isFull(): boolean {
    return this.#options.now() < this.#fullUntilMs;
  }

  evict(): Promise<EvictionResult> {
    this.#evicting ??= this.#evict(0).finally(() => (this.#evicting = undefined));
    return this.#evicting;
  }

  flush(): Promise<void> {
    return this.#state.flush();
  }

  pack(): Promise<void> {
    return this.#packer.packAll();
  }

  async lose(key: DigestKey): Promise<void> {
    await this.#state.lose(key, "said so");
  }

  async scrub(
    progress: BazelScrubProgress,
    work: BazelScrubWork,
    onFraction: (fraction: number) => void,
  ): Promise<void> {
    const { logger, now } = this.#options;
    const state = this.#state;
    const scan = this.#parts.index.objects;
    await scrubStore(progress, work, { state, scan, logger, now, onFraction });
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#closing ??= (async () => {
      clearInterval(this.#flushTimer);
      this.#stopping.abort();
      await this.#learning;
      await this.#packing;
      await this.#evicting?.catch(() => {});
      await this.flush();
      await this.#parts.opened.disposeAsync();
      await rm(join(this.#options.directory, "in-use"), { force: true });
    })();
    return this.#closing;
  }

  async #requireRoom(viewId: number, sizeBytes: number): Promise<void> {
    if (this.#fits(viewId, sizeBytes)) return;
    const isOverlay = (await this.#options.views()).get(viewId)?.isOverlay === true;
    const isKnownFull = isOverlay ? this.#options.now() < this.#overlaysFullUntilMs : this.isFull;
    if (!isKnownFull) {
      await this.#evicting?.catch(() => {});
      this.#evicting ??= this.#evict(sizeBytes, isOverlay).finally(
        () => (this.#evicting = undefined),
      );
      await this.#evicting;
      if (this.#fits(viewId, sizeBytes)) return;
      const untilMs = this.#options.now() + FULL_FOR_MS;
      // Overlays may be out of room where others are not.
      if (isOverlay) this.#overlaysFullUntilMs = untilMs;
      else this.#fullUntilMs = untilMs;
    }
    throw new CacheError(
      "STORAGE_FULL",
      "The cache is full of what was used too lately to be evicted",
      { hint: "Raise bazel.maxSize or the view's maximum size, or lower bazel.ttl." },
    );
  }

  #fits(viewId: number, sizeBytes: number): boolean {
    if (this.#fullViews.has(viewId)) return false;
    const { storedBytes, reservedBytes } = this.#state;
    return storedBytes + reservedBytes + sizeBytes <= this.#options.limits.maxBytes;
  }

  async #evict(wantedBytes: number, isForOverlay = false): Promise<EvictionResult> {
    const { limits, views, now, logger } = this.#options;
    const { maxBytes, ttlMs } = limits;
    const { fullViews, ...result } = await evict({
      state: this.#state,
      views: await views(),
      maxBytes,
      ttlMs,
      isForOverlay,
      nowMs: now(),
      // Some more than what is wanted, so that not every upload waits for an eviction.
      spareBytes:
        this.#state.storedBytes + wantedBytes > maxBytes * 0.98
          ? Math.min(maxBytes, wantedBytes + maxBytes * 0.05)
          : 0,
    });
    this.#fullViews = fullViews;
    if (result.freedBytes > 0) logger.info("evicted Bazel data", { ...result });
    return result;
  }

  /** A crash between a file and its row leaves the file, which nothing would ever delete. */
  async #deleteOrphans(): Promise<void> {
    const { index, files } = this.#parts;
    for await (const { key } of files.list("")) {
      if (this.#closing !== undefined) return;
      // Not by their times: the file system's clock may be another, and ours may be set.
      if (isOwnFile(key) || key.startsWith("ping/") || index.hasFile(key)) continue;
      await files.delete(key);
    }
  }
}
