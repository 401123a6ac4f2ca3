import { CacheError, type ByteBudget, createByteBudget, type Logger } from "@glorious/core";
import { type DigestKey, formatHash } from "@glorious/reapi";
import type { BlobStore } from "@glorious/storage";

import type { MemoryPool, MemoryShare } from "../memory/memory-pool.ts";
import { ActionMemory } from "./action-memory.ts";
import type { Actor } from "./actor.ts";
import type { ActionRow, BazelIndex, EvictableTable, ObjectRow, ValueRow } from "./bazel-index.ts";
import type { StoredBlob } from "./bazel-store.ts";
import type { IndexWrites, StoreChange } from "./bazel-writers.ts";
import { EvictionMemory } from "./eviction-memory.ts";
import { ENTRY_BYTES } from "./key-slots.ts";
import { KeyTable, type Slots } from "./key-table.ts";
import type { PackSet } from "./pack-set.ts";
import { keyAt, wordsOf } from "./packed-digests.ts";
import { ReadBook } from "./read-notes.ts";
import { periodOf } from "./touches.ts";
import { WriteBook, type WriteOrigin } from "./write-book.ts";

/** What a tenant's store is made of. */
export interface TenantStateOptions {
  readonly index: BazelIndex;
  readonly files: BlobStore;
  readonly packs: PackSet;
  readonly now: () => number;
  readonly logger: Logger;
  /** Told when stored bytes turned out to be damaged or gone. */
  readonly onLost: () => void;
  readonly maxBlobBytes: number;
  /** Where memory for what was used lately is asked for. */
  readonly memory: MemoryPool;
  /** Whether it is recorded who was given what. */
  readonly recordsReads: boolean;
  /** Makes sure that so many more bytes fit, for a view. @throws {CacheError} `STORAGE_FULL`. */
  readonly requireRoom: (viewId: number, sizeBytes: number) => Promise<void>;
}

/** Uses that wait for the index, before it is told early: so many that telling it holds nobody up for long. */
const MAX_DIRTY = 20_000;
/** Instance names of one view: anybody who may push can make one up. */
const MAX_SCOPES_PER_VIEW = 10_000;
const MAX_HASHES_PER_WRITE = 500;
/** Of writes that wait for their commit or are in it, and what each counts beside its bytes. */
const QUEUED_BYTES = 8 * 2 ** 20;
const QUEUED_WRITE_BYTES = 1024;

/** What the scopes of one tenant share: the index, and the memory in front of it. */
export class TenantState implements Disposable {
  readonly index: BazelIndex;
  readonly files: BlobStore;
  readonly packs: PackSet;
  readonly maxBlobBytes: number;
  readonly blobs: KeyTable<StoredBlob>;
  readonly actions: ActionMemory;
  readonly evictedActions: EvictionMemory = new EvictionMemory();
  readonly writes: WriteBook;
  readonly reads: ReadBook;
  /** Of uploads under way. */
  reservedBytes = 0;
  storedBytes: number;
  readonly #options: TenantStateOptions;
  readonly #scopeIds: Map<string, number> = new Map();
  readonly #scopesOfView: Map<number, number> = new Map();
  /** What is being deleted, and so absent, although the index still has it. */
  readonly #going: Set<string> = new Set();
  readonly #touchedValues: Map<string, { scopeId: number; key: string; period: number }> =
    new Map();
  readonly #queueRoom: ByteBudget = createByteBudget(QUEUED_BYTES);
  readonly #memory: MemoryShare & Disposable;
  /** When it was asked for something last. */
  usedAtMs = 0;
  #flushing: Promise<void> | undefined;
  #doubts = 0;

  constructor(options: TenantStateOptions) {
    const { index, files } = options;
    const memoryBytes = options.memory.totalBytes;
    const memory = options.memory.join(this);
    this.#memory = memory;
    this.#options = options;
    this.index = index;
    this.files = files;
    this.packs = options.packs;
    this.maxBlobBytes = options.maxBlobBytes;
    this.writes = new WriteBook(index.provenance.knownWrites());
    this.reads = new ReadBook(options.recordsReads);
    this.storedBytes = index.storedBytes();
    for (const { id, viewId, instance } of index.scopes()) this.#noteScope(id, viewId, instance);
    this.blobs = new KeyTable({
      maxEntries: Math.max(2048, Math.floor(memoryBytes / 2 / ENTRY_BYTES)),
      maxValueBytes: memoryBytes / 10,
      valueSize: ({ storedBytes }) => storedBytes + 350,
      memory,
    });
    this.actions = new ActionMemory({
      blobs: this.blobs,
      maxEntries: Math.max(2048, Math.floor(memoryBytes / 4 / 2 / ENTRY_BYTES)),
      maxBytes: (memoryBytes * 2) / 5,
      memory,
    });
  }

  nowMs(): number {
    return this.#options.now();
  }

  /** The period of uses that are noted now. */
  period(): number {
    this.#flushWhenMany();
    this.usedAtMs = this.#options.now();
    return periodOf(this.usedAtMs);
  }

  /** Forgets about so many bytes of what the index has as well. */
  release(sizeBytes: number): void {
    const { blobs, actions } = this;
    const all = blobs.bytes + actions.bytes;
    if (all === 0) return;
    const ofActions = sizeBytes * (actions.bytes / all);
    actions.release(ofActions);
    blobs.release(sizeBytes - ofActions);
  }

  /** Gives all of its memory back; it is asked for nothing any more. */
  [Symbol.dispose](): void {
    this.#memory[Symbol.dispose]();
  }

  findScope(viewId: number, instance: string): number | undefined {
    return this.#scopeIds.get(`${viewId}/${instance}`);
  }

  /** The scope's id, made when this is the first thing that it holds. */
  async openScope(viewId: number, instance: string): Promise<number> {
    const known = this.findScope(viewId, instance);
    if (known !== undefined) return known;
    if ((this.#scopesOfView.get(viewId) ?? 0) >= MAX_SCOPES_PER_VIEW) {
      throw new CacheError(
        "STORAGE_FULL",
        `The view has ${MAX_SCOPES_PER_VIEW} instance names below it, which is the limit`,
        { hint: "Use fewer names; those that hold nothing are forgotten." },
      );
    }
    const id = await this.index.write("openScope", viewId, instance);
    if (this.findScope(viewId, instance) === undefined) this.#noteScope(id, viewId, instance);
    return id;
  }

  forgetScope(viewId: number, instance: string): void {
    this.#scopeIds.delete(`${viewId}/${instance}`);
    this.#scopesOfView.set(viewId, (this.#scopesOfView.get(viewId) ?? 1) - 1);
  }

  /** Whether memory may hold what was revoked a moment ago, so that the index is asked about everything. */
  get isInDoubt(): boolean {
    return this.#doubts > 0;
  }

  /** Lets nothing be taken from memory unasked until the returned handle is disposed of. */
  doubt(): Disposable {
    this.#doubts += 1;
    return {
      [Symbol.dispose]: () => {
        this.#doubts -= 1;
      },
    };
  }

  /** The slot of the blob whose hash begins at a word, from memory or index; 0 when it is absent. */
  lookUpBlob(scopeId: number, words: Int32Array, from = 0): number {
    const slot = this.blobs.find(scopeId, words, from);
    if (slot === 0 ? this.blobs.isWhole : !this.isInDoubt) return slot;
    const key = keyAt(words, from);
    if (this.isGoing("blobs", scopeId, key)) return 0;
    const row = this.index.findBlob(scopeId, key);
    if (row === undefined || this.writes.isRevoked(row.writeId)) {
      if (slot !== 0) this.blobs.remove(slot);
      return 0;
    }
    if (slot !== 0) return slot;
    // Without room it counts as absent: its use could not be noted, and it might be evicted.
    return this.blobs.add(scopeId, words, from, { ...row, place: placeOf(row.objectId) });
  }

  /** The bytes of a small blob in a slot, when they lie in a pack; as they are stored. */
  readPacked(slot: number): Buffer | undefined {
    const objectId = this.blobs.placeOf(slot);
    return objectId === 0 ? undefined : this.packs.read(objectId);
  }

  /** A blob as the index has it, with its bytes when they do not lie in a file. */
  readBlob(scopeId: number, key: DigestKey, slot: number): ObjectRow | undefined {
    const row = this.index.readBlob(scopeId, key);
    if (row === undefined) return undefined;
    this.blobs.setPlace(slot, placeOf(row.objectId));
    return this.#withPacked(row);
  }

  /** The bytes of a small object. */
  readInline(objectId: number): Uint8Array | undefined {
    return this.packs.read(objectId) ?? this.index.objects.data(objectId);
  }

  /** An ActionResult as the index has it, from memory or index, unless it is being deleted or was revoked. */
  readAction(scopeId: number, words: Int32Array, from = 0): ActionRow | undefined {
    const { actions } = this;
    const known = actions.table.find(scopeId, words, from);
    const kept = known === 0 || this.isInDoubt ? undefined : actions.recallRow(known);
    if (kept !== undefined) return kept;
    const key = keyAt(words, from);
    if (this.isGoing("actions", scopeId, key)) return undefined;
    const row = this.index.findAction(scopeId, key);
    if (row === undefined || this.writes.isRevoked(row.writeId)) return undefined;
    const slot = actions.note(scopeId, words, from, row.accessed);
    if (slot !== 0) actions.keepRow(slot, row);
    return row;
  }

  /** A value as the index has it, unless it is being deleted or was revoked. */
  readValue(scopeId: number, key: string): ValueRow | undefined {
    if (this.isGoing("keyed_values", scopeId, key)) return undefined;
    const row = this.index.readValue(scopeId, key);
    if (row === undefined || this.writes.isRevoked(row.writeId)) return undefined;
    return this.#withPacked(row);
  }

  rememberBlob(
    scopeId: number,
    key: DigestKey,
    blob: { readonly sizeBytes: number; readonly accessed: number },
  ): void {
    const words = wordsOf(key);
    if (this.blobs.find(scopeId, words) === 0) this.blobs.add(scopeId, words, 0, blob);
  }

  isGoing(table: EvictableTable, scopeId: number, name: DigestKey | string): boolean {
    if (this.#going.size === 0) return false;
    const text = typeof name === "string" ? name : formatHash(name);
    return this.#going.has(`${table}/${scopeId}/${text}`);
  }

  /** Makes names absent until the returned handle is disposed of, when the index no longer has them. */
  letGo(table: EvictableTable, scopeId: number, names: readonly string[]): Disposable {
    const going = names.map((name) => `${table}/${scopeId}/${name}`);
    for (const each of going) this.#going.add(each);
    return {
      [Symbol.dispose]: () => {
        for (const each of going) this.#going.delete(each);
      },
    };
  }

  /** Holds room for an upload while it is under way. */
  async reserve(viewId: number, sizeBytes: number): Promise<Disposable> {
    await this.#options.requireRoom(viewId, sizeBytes);
    this.reservedBytes += sizeBytes;
    return {
      [Symbol.dispose]: () => {
        this.reservedBytes -= sizeBytes;
      },
    };
  }

  /** Waits for room among the writes under way, which is held until these have their commit. */
  queueRoom(sizeBytes: number, writes = 1): Promise<Disposable> {
    return this.#queueRoom.acquire(sizeBytes + QUEUED_WRITE_BYTES * writes);
  }

  write<Method extends keyof IndexWrites>(
    method: Method,
    ...parameters: Parameters<IndexWrites[Method]>
  ): Promise<ReturnType<IndexWrites[Method]>> {
    return this.index.write(method, ...parameters);
  }

  /**
   * Writes on somebody's behalf.
   *
   * @param remember Told in the turn in which the index has it, before anybody can have taken it away again.
   * @throws {CacheError} `FORBIDDEN` when what they write was revoked meanwhile.
   */
  async writeAs(
    actor: Actor | undefined,
    write: (origin: WriteOrigin) => Promise<StoreChange>,
    remember: () => void = () => {},
  ): Promise<void> {
    const origin = this.writes.originOf(actor, this.nowMs());
    const change = await write(origin);
    try {
      this.writes.settle(actor, origin);
      remember();
    } finally {
      await this.settle(change);
    }
  }

  /** Counts what a write changed, and deletes the files that nothing refers to any more. */
  async settle({ addedBytes, unusedFiles }: StoreChange): Promise<void> {
    this.storedBytes += addedBytes;
    for (const file of unusedFiles) {
      await this.files.delete(file).catch((error: unknown) => {
        this.#options.logger.error("A file that nothing needs was not deleted", { file, error });
      });
    }
  }

  touchValue(scopeId: number, key: string): void {
    this.#touchedValues.set(`${scopeId}/${key}`, { scopeId, key, period: this.period() });
  }

  /** The last period in which a value was used, as far as the index does not know it. */
  valueTouchedAt(scopeId: number, key: string): number {
    return this.#touchedValues.get(`${scopeId}/${key}`)?.period ?? 0;
  }

  /**
   * Makes a blob absent in every scope, because its bytes are damaged or gone.
   *
   * @returns The instance names that had it.
   */
  async lose(key: DigestKey, reason: string): Promise<string[]> {
    const hex = formatHash(key);
    using _going = new DisposableStack();
    for (const scopeId of this.#scopeIds.values()) {
      const slot = this.blobs.find(scopeId, wordsOf(key));
      if (slot !== 0) this.blobs.remove(slot);
      _going.use(this.letGo("blobs", scopeId, [hex]));
    }
    const change = await this.write("loseBlob", new Uint8Array(key));
    await this.settle(change);
    const instances = this.#instancesOf(change.scopeIds);
    if (instances.length > 0) this.#tellLost({ sha256: hex, reason, instances });
    return instances;
  }

  /** The same for a value. */
  async loseValue(scopeId: number, key: string, reason: string): Promise<string[]> {
    const change = await this.write("deleteValues", scopeId, [key], 2 ** 31);
    await this.settle(change);
    const instances = this.#instancesOf([scopeId]);
    if (change.deleted > 0) this.#tellLost({ key, reason, instances });
    return instances;
  }

  /** Tells the index what was used since the last time. */
  flush(): Promise<void> {
    this.#flushing ??= this.#flush().finally(() => (this.#flushing = undefined));
    return this.#flushing;
  }

  #withPacked<Row extends ObjectRow>(row: Row): Row {
    if (row.data !== null || row.file !== null) return row;
    return { ...row, data: this.packs.read(row.objectId) ?? null };
  }

  #flushWhenMany(): void {
    const dirty = this.blobs.dirtyCount + this.actions.table.dirtyCount + this.#touchedValues.size;
    if (dirty < MAX_DIRTY || this.#flushing !== undefined) return;
    this.flush().catch((error: unknown) => {
      this.#options.logger.error("What was used could not be noted in the index", { error });
    });
  }

  async #flush(): Promise<void> {
    // At one moment, so that what an ActionResult needs is told as well; and blobs first: after a crash in between,
    // no ActionResult is fresher than what it needs.
    const actions = beginTouches(this.actions.table);
    const blobs = beginTouches(this.blobs);
    let areBlobsTold = false;
    let areActionsTold = false;
    try {
      await this.#tell("touchBlobs", blobs);
      areBlobsTold = true;
      await this.#tell("touchActions", actions);
      areActionsTold = true;
    } finally {
      this.blobs.endFlush(areBlobsTold);
      this.actions.table.endFlush(areActionsTold);
    }
    const values = [...this.#touchedValues.values()];
    this.#touchedValues.clear();
    for (const { scopeId, key, period } of values) {
      await this.write("touchValues", scopeId, [key], period);
    }
    await this.tellReads();
  }

  /** Tells the index who was given what since the last time. */
  async tellReads(): Promise<void> {
    const { dropped } = this.reads;
    if (dropped > 0) {
      this.#options.logger.warn("reads were not recorded: there were too many", { dropped });
    }
    const atMs = this.nowMs();
    for (const { actor, scopeId, hashes, keys } of this.reads.drain()) {
      for (let from = 0; from === 0 || from < hashes.length; from += 32 * MAX_HASHES_PER_WRITE) {
        const some = hashes.slice(from, from + 32 * MAX_HASHES_PER_WRITE);
        const reads = { hashes: some, keys: from === 0 ? keys : [], atMs };
        await this.write("recordReads", actor, scopeId, reads);
      }
    }
  }

  /** One write after the other: uploads that wait for the writer then wait for one of these at most. */
  async #tell(
    method: "touchBlobs" | "touchActions",
    touches: readonly (TouchBatch & { readonly hashes: Uint8Array })[],
  ): Promise<void> {
    for (const { scopeId, hashes, period } of touches) {
      await this.write(method, scopeId, hashes, period);
    }
  }

  #tellLost(facts: Readonly<Record<string, unknown>>): void {
    this.#options.onLost();
    this.#options.logger.error("Stored bytes are lost or damaged, and absent from now on", facts);
  }

  #instancesOf(scopeIds: readonly number[]): string[] {
    const wanted = new Set(scopeIds);
    return this.index
      .scopes()
      .filter(({ id }) => wanted.has(id))
      .map(({ instance }) => instance);
  }

  #noteScope(id: number, viewId: number, instance: string): void {
    this.#scopeIds.set(`${viewId}/${instance}`, id);
    this.#scopesOfView.set(viewId, (this.#scopesOfView.get(viewId) ?? 0) + 1);
  }
}

/** An object's id as what memory notes of a blob, which has 32 bits. */
function placeOf(objectId: number): number {
  return objectId < 2 ** 32 ? objectId : 0;
}

interface TouchBatch {
  readonly scopeId: number;
  readonly period: number;
  readonly slots: number[];
}

/** What the index is to be told, as it is now. */
function beginTouches(table: Slots): (TouchBatch & { readonly hashes: Uint8Array })[] {
  return batchesOf(table, table.beginFlush()).map((batch) => ({
    ...batch,
    hashes: table.hashesOf(batch.slots),
  }));
}

/** Entries by what their writes have in common. */
function batchesOf(table: Slots, slots: readonly number[]): TouchBatch[] {
  const full: TouchBatch[] = [];
  const open = new Map<string, TouchBatch>();
  let batch: TouchBatch | undefined;
  for (const slot of slots) {
    const scopeId = table.scopeOf(slot);
    const period = table.touchedOf(slot);
    // Neighbours are mostly of one scope and period.
    if (batch?.scopeId !== scopeId || batch.period !== period) {
      batch = open.get(`${scopeId}/${period}`) ?? { scopeId, period, slots: [] };
      open.set(`${scopeId}/${period}`, batch);
    }
    batch.slots.push(slot);
    if (batch.slots.length < MAX_HASHES_PER_WRITE) continue;
    full.push(batch);
    open.delete(`${scopeId}/${period}`);
    batch = undefined;
  }
  return [...full, ...open.values()];
}
