import { setImmediate as nextTurn } from "node:timers/promises";

import { type DigestKey, type DigestList, formatHash } from "@glorious/reapi";

import { isEmptyDigest } from "./action-memory.ts";
import type { Actor } from "./actor.ts";
import type { ActionRow } from "./bazel-index.ts";
import {
  ABSENT,
  type ActionFinding,
  type ActionParts,
  type BazelScope,
  type BlobName,
  type BlobUpload,
  type KeyedValue,
  type PutOutcome,
  type ScopeUsage,
  type StoredBlob,
  type WholeBlob,
  INCOMPLETE,
} from "./bazel-store.ts";
import { takeSmallBlobs, toError } from "./blob-batch.ts";
import { MAX_INLINE_BYTES, ownData, takeBlob, takeValue } from "./blob-intake.ts";
import { loseMissingFiles, needFiles } from "./lost-files.ts";
import {
  type Digests,
  packDigests,
  uniquePlaces,
  unpackDigests,
  viewDigests,
  wordsOf,
} from "./packed-digests.ts";
import { ReadNotes } from "./read-notes.ts";
import { emptyBlob, packedBlob, toStoredBlob } from "./stored-blob.ts";
import type { TenantState } from "./tenant-state.ts";

/** Look-ups of the index in one go, before others get their turn, and look-ups of memory alone. */
const LOOK_UPS_PER_TURN = 500;
const RECALLS_PER_TURN = 5000;
/** Small blobs that are told to the index in one write. */
const BLOBS_PER_WRITE = 500;

/** One instance name of a tenant. */
export class TenantScope implements BazelScope {
  readonly viewId: number;
  readonly instance: string;
  readonly #state: TenantState;
  readonly #actor: Actor | undefined;
  #id: number | undefined;
  #reads: ReadNotes | undefined;

  /** @param actor Whoever reads and writes through it. */
  constructor(state: TenantState, viewId: number, instance: string, actor?: Actor) {
    this.#state = state;
    this.viewId = viewId;
    this.instance = instance;
    this.#actor = actor;
  }

  remembersAll(digests: DigestList): boolean {
    const scopeId = this.#known();
    if (scopeId === undefined || this.#state.isInDoubt) return false;
    const { words, length } = digests;
    const { blobs } = this.#state;
    const period = this.#state.period();
    for (let index = 0; index < length; index += 1) {
      const slot = blobs.find(scopeId, words, 8 * index);
      if (slot !== 0 && blobs.sizeOf(slot) === digests.sizeBytes(index)) blobs.touch(slot, period);
      else if (!digests.isEmptyBlob(index)) return false;
    }
    return true;
  }

  findFewMissing(digests: DigestList): number[] | undefined {
    const { isWhole } = this.#state.blobs;
    if (digests.length > (isWhole ? RECALLS_PER_TURN : LOOK_UPS_PER_TURN)) return undefined;
    const missing = this.#missingOf(digests, []);
    return missing.length > 1 ? uniquePlaces(digests, missing) : missing;
  }

  async findMissing(digests: DigestList): Promise<number[]> {
    const missing: number[] = [];
    for (let from = 0; from < digests.length; from += LOOK_UPS_PER_TURN) {
      if (from > 0) await nextTurn();
      this.#missingOf(digests, missing, from, from + LOOK_UPS_PER_TURN);
    }
    return uniquePlaces(digests, missing);
  }

  lookUpBlob(digests: DigestList, index: number): StoredBlob | undefined {
    const blob = this.#lookUp(digests.words, 8 * index, () => digests.key(index));
    return blob?.sizeBytes === digests.sizeBytes(index) ? blob : undefined;
  }

  lookUpBlobOfHash(key: DigestKey): StoredBlob | undefined {
    return this.#lookUp(wordsOf(key), 0, () => key);
  }

  async findBlob({ key, sizeBytes }: BlobName): Promise<StoredBlob | undefined> {
    const blob = this.lookUpBlobOfHash(key);
    return blob?.sizeBytes === sizeBytes ? blob : undefined;
  }

  async findBlobOfHash(key: DigestKey): Promise<StoredBlob | undefined> {
    return this.lookUpBlobOfHash(key);
  }

  async putBlob(upload: BlobUpload): Promise<"stored" | "present"> {
    const { key, sizeBytes } = upload;
    if (this.#isHere(wordsOf(key), 0, sizeBytes)) return "present";
    const state = this.#state;
    using _room = await state.reserve(this.viewId, sizeBytes);
    const object = await takeBlob(upload, state);
    const scopeId = await this.#openId();
    using _queued = await state.queueRoom(object.data?.length ?? 0);
    const accessed = state.period();
    await state.writeAs(
      this.#actor,
      (origin) =>
        state.write("putBlob", {
          ...ownData(object),
          scopeId,
          hash: new Uint8Array(key),
          accessed,
          verifiedMs: state.nowMs(),
          origin,
        }),
      () => state.rememberBlob(scopeId, key, { sizeBytes, accessed }),
    );
    return "stored";
  }

  async putBlobs(blobs: readonly WholeBlob[]): Promise<readonly PutOutcome[]> {
    const outcomes = blobs.map((): PutOutcome => "present");
    const small: number[] = [];
    const large: Promise<void>[] = [];
    for (const [place, blob] of blobs.entries()) {
      if (blob.sizeBytes <= MAX_INLINE_BYTES) {
        if (!this.#isHere(wordsOf(blob.key), 0, blob.sizeBytes)) small.push(place);
        continue;
      }
      const put = this.putBlob(blob).catch(toError);
      large.push(put.then((outcome) => void (outcomes[place] = outcome)));
    }
    for (let from = 0; from < small.length; from += BLOBS_PER_WRITE) {
      await this.#putSmall(blobs, small.slice(from, from + BLOBS_PER_WRITE), outcomes);
    }
    await Promise.all(large);
    return outcomes;
  }

  lookUpAction(digests: DigestList, index: number): ActionFinding | undefined {
    return this.#lookUpAction(digests.words, 8 * index);
  }

  lookUpActionOf(key: DigestKey): ActionFinding | undefined {
    return this.#lookUpAction(wordsOf(key), 0);
  }

  async findAction(key: DigestKey): Promise<ActionFinding> {
    const words = wordsOf(key);
    const found = this.#lookUpAction(words, 0);
    const scopeId = this.#known();
    if (found !== undefined || scopeId === undefined) return found ?? ABSENT;
    const state = this.#state;
    const lookedFor = state.readAction(scopeId, words)?.refersTo ?? new Uint8Array();
    let lookedAtMs = state.nowMs();
    await loseMissingFiles(state, scopeId, viewDigests(lookedFor));
    // It may have been replaced or evicted meanwhile.
    const row = state.readAction(scopeId, words);
    if (Buffer.compare(row?.refersTo ?? new Uint8Array(), lookedFor) !== 0) lookedAtMs = 0;
    return row === undefined ? ABSENT : this.#judgeAction(scopeId, words, 0, row, lookedAtMs);
  }

  async findActionParts(key: DigestKey): Promise<ActionParts | undefined> {
    const scopeId = this.#known();
    const state = this.#state;
    const words = wordsOf(key);
    const row = scopeId === undefined ? undefined : state.readAction(scopeId, words);
    if (scopeId === undefined || row === undefined) return undefined;
    const slot = state.actions.table.find(scopeId, words);
    if (slot !== 0) state.actions.table.touch(slot, state.period());
    this.#noteRead(scopeId, wordsOf(key), 0);
    return {
      result: Buffer.from(row.result),
      refersTo: row.refersTo === null ? undefined : unpackDigests(row.refersTo),
    };
  }

  wasEvicted(key: DigestKey): boolean {
    const scopeId = this.#known();
    return scopeId !== undefined && this.#state.evictedActions.has(scopeId, wordsOf(key));
  }

  async putAction(
    key: DigestKey,
    result: Uint8Array,
    refersTo: DigestList | undefined,
  ): Promise<void> {
    const state = this.#state;
    using _room = await state.reserve(this.viewId, result.length);
    const scopeId = await this.#openId();
    using _queued = await state.queueRoom(result.length + 40 * (refersTo?.length ?? 0));
    const period = state.period();
    // Of its own memory: what crosses to the writer's thread takes all that it is a part of along.
    const stored = {
      result: new Uint8Array(result),
      refersTo: refersTo && packDigests(refersTo),
      accessed: period,
    };
    const hash = new Uint8Array(key);
    await state.writeAs(
      this.#actor,
      (origin) =>
        state.write("putAction", scopeId, hash, { ...stored, origin, atMs: state.nowMs() }),
      () => {
        const row = { ...stored, refersTo: stored.refersTo ?? null };
        const slot = state.actions.replace(scopeId, wordsOf(key), 0, row);
        const needs = refersTo && this.#resolve(scopeId, refersTo, period);
        if (slot === 0 || refersTo === undefined || needs === undefined) return;
        // What its client was told is there may be lost all the same: the first who asks for it looks.
        const lookedAtMs = needFiles(refersTo) ? 0 : Infinity;
        state.actions.use(slot, { ...stored, needs, period, lookedAtMs });
      },
    );
  }

  maySupersede(key: DigestKey): boolean {
    const scopeId = this.#known();
    if (this.#actor?.trust !== "trusted" || scopeId === undefined) return false;
    const { index } = this.#state;
    const row = index.findAction(scopeId, key);
    return row !== undefined && index.provenance.writerOf(row.writeId)?.trust !== "trusted";
  }

  async resolveAction(key: DigestKey, result: Uint8Array, refersTo: DigestList): Promise<void> {
    const state = this.#state;
    const scopeId = this.#known();
    if (scopeId === undefined) return;
    using _queued = await state.queueRoom(result.length + 40 * refersTo.length);
    const stored = {
      result: new Uint8Array(result),
      refersTo: packDigests(refersTo),
      accessed: state.period(),
    };
    const change = await state.write("resolveAction", scopeId, new Uint8Array(key), stored);
    // Another may have taken its place meanwhile.
    if (change.addedBytes > 0) state.actions.replace(scopeId, wordsOf(key), 0, stored);
    await state.settle(change);
  }

  async findValue(key: string): Promise<KeyedValue | undefined> {
    const scopeId = this.#known();
    if (scopeId === undefined) return undefined;
    const state = this.#state;
    const row = state.readValue(scopeId, key);
    if (row === undefined) return undefined;
    state.touchValue(scopeId, key);
    this.#notes(scopeId)?.noteValue(key);
    const value = toStoredBlob(row, {
      files: state.files,
      name: () => "value",
      onLost: async () => {
        await state.loseValue(scopeId, key, "found by a read");
      },
    });
    return { value, sha256: Buffer.from(row.sha256).toString("hex") };
  }

  async putValue(
    key: string,
    source: AsyncIterable<Buffer>,
    options: {
      readonly sizeBytes?: number | undefined;
      readonly signal?: AbortSignal | undefined;
    } = {},
  ): Promise<boolean> {
    const state = this.#state;
    using _room = await state.reserve(this.viewId, options.sizeBytes ?? 0);
    const { files, maxBlobBytes } = state;
    const object = await takeValue(source, { ...options, files, maxBlobBytes });
    const scopeId = await this.#openId();
    using _queued = await state.queueRoom(object.data?.length ?? 0);
    let isNew = false;
    await state.writeAs(this.#actor, async (origin) => {
      const change = await state.write("putValue", {
        ...ownData(object),
        scopeId,
        key,
        accessed: state.period(),
        verifiedMs: state.nowMs(),
        origin,
      });
      ({ isNew } = change);
      return change;
    });
    return isNew;
  }

  async deleteValue(key: string): Promise<boolean> {
    const scopeId = this.#known();
    if (scopeId === undefined) return false;
    const state = this.#state;
    const change = await state.write("deleteValues", scopeId, [key], 2 ** 31);
    await state.settle(change);
    return change.deleted > 0;
  }

  async findLayout(key: DigestKey): Promise<DigestList | undefined> {
    const scopeId = this.#known();
    if (scopeId === undefined) return undefined;
    const chunks = this.#state.index.findLayout(scopeId, key);
    return chunks && unpackDigests(chunks);
  }

  async putLayout(key: DigestKey, chunks: DigestList): Promise<void> {
    const scopeId = await this.#openId();
    await this.#state.write("putLayout", scopeId, new Uint8Array(key), packDigests(chunks));
  }

  async usage(): Promise<ScopeUsage> {
    return this.#state.index.usage(this.viewId, this.instance);
  }

  /** Stores the small blobs at these places with one write. */
  async #putSmall(
    blobs: readonly WholeBlob[],
    places: readonly number[],
    outcomes: PutOutcome[],
  ): Promise<void> {
    const state = this.#state;
    let contentBytes = 0;
    let encodedBytes = 0;
    for (const place of places) {
      const { sizeBytes, source } = blobs[place] as WholeBlob;
      contentBytes += sizeBytes;
      encodedBytes += Math.min(source.length, MAX_INLINE_BYTES);
    }
    try {
      using _room = await state.reserve(this.viewId, contentBytes);
      using _queued = await state.queueRoom(Math.max(contentBytes, encodedBytes), places.length);
      const scopeId = await this.#openId();
      const taken = await takeSmallBlobs(blobs, places, outcomes);
      const accessed = state.period();
      const verifiedMs = state.nowMs();
      await state.writeAs(
        this.#actor,
        (origin) => {
          const common = { accessed, verifiedMs, origin };
          const memory = [taken.blobs.data.buffer];
          return state.index.writeHandingOver(memory, "putBlobs", scopeId, taken.blobs, common);
        },
        () => {
          for (const place of taken.places) {
            const { key, sizeBytes } = blobs[place] as WholeBlob;
            state.rememberBlob(scopeId, key, { sizeBytes, accessed });
            outcomes[place] = "stored";
          }
        },
      );
    } catch (error) {
      for (const place of places) outcomes[place] = toError(error);
    }
  }

  /** At once; `undefined` when files have to be looked for first. */
  #lookUpAction(words: Int32Array, from: number): ActionFinding | undefined {
    const scopeId = this.#known();
    if (scopeId === undefined) return ABSENT;
    const state = this.#state;
    const { actions } = state;
    const period = state.period();
    const slot = actions.table.find(scopeId, words, from);
    if (slot === 0 && actions.table.isWhole) return ABSENT;
    const known =
      slot === 0 || state.isInDoubt ? undefined : actions.recall(slot, period, state.nowMs());
    if (known !== undefined) {
      this.#noteRead(scopeId, words, from);
      return { kind: "hit", result: known };
    }
    const row = state.readAction(scopeId, words, from);
    if (row === undefined) return ABSENT;
    if (row.refersTo !== null && needFiles(viewDigests(row.refersTo))) return undefined;
    return this.#judgeAction(scopeId, words, from, row, Infinity);
  }

  /** What an ActionResult of the index is worth now. */
  #judgeAction(
    scopeId: number,
    words: Int32Array,
    from: number,
    { result: bytes, refersTo }: ActionRow,
    lookedAtMs: number,
  ): ActionFinding {
    const result = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
    if (refersTo === null) return { kind: "unresolved", result };
    const state = this.#state;
    const period = state.period();
    const needs = this.#resolve(scopeId, viewDigests(refersTo), period);
    if (needs === undefined) return INCOMPLETE;
    const slot = state.actions.table.find(scopeId, words, from);
    if (slot !== 0) state.actions.use(slot, { result, needs, period, lookedAtMs });
    this.#noteRead(scopeId, words, from);
    return { kind: "hit", result };
  }

  /** Adds the places in a part of a list of the digests that are not here. */
  #missingOf(
    digests: DigestList,
    missing: number[],
    from = 0,
    to: number = digests.length,
  ): number[] {
    const { words } = digests;
    const state = this.#state;
    const { blobs } = state;
    const scopeId = this.#known();
    const period = state.period();
    const end = Math.min(to, digests.length);
    for (let index = from; index < end; index += 1) {
      const sizeBytes = digests.sizeBytes(index);
      const slot = scopeId === undefined ? 0 : state.lookUpBlob(scopeId, words, 8 * index);
      if (slot !== 0 && blobs.sizeOf(slot) === sizeBytes) blobs.touch(slot, period);
      else if (!isEmptyDigest(words, 8 * index, sizeBytes)) missing.push(index);
    }
    return missing;
  }

  #isHere(words: Int32Array, from: number, sizeBytes: number): boolean {
    if (isEmptyDigest(words, from, sizeBytes)) return true;
    const scopeId = this.#known();
    if (scopeId === undefined) return false;
    const state = this.#state;
    const slot = state.lookUpBlob(scopeId, words, from);
    if (slot === 0 || state.blobs.sizeOf(slot) !== sizeBytes) return false;
    state.blobs.touch(slot, state.period());
    return true;
  }

  /** A blob whose hash begins at a word, from memory or index. */
  #lookUp(words: Int32Array, from: number, keyOf: () => DigestKey): StoredBlob | undefined {
    if (isEmptyDigest(words, from, 0)) return emptyBlob();
    const scopeId = this.#known();
    if (scopeId === undefined) return undefined;
    const state = this.#state;
    const slot = state.lookUpBlob(scopeId, words, from);
    if (slot === 0) return undefined;
    state.blobs.touch(slot, state.period());
    const remembered = state.blobs.value(slot);
    if (remembered !== undefined) return remembered;
    const packed = state.readPacked(slot);
    if (packed !== undefined) return packedBlob(packed, state.blobs.sizeOf(slot));
    const key = keyOf();
    const row = state.readBlob(scopeId, key, slot);
    if (row === undefined) return undefined;
    const blob = toStoredBlob(row, {
      files: state.files,
      name: () => formatHash(key),
      onLost: async () => {
        await state.lose(key, "found by a read");
      },
    });
    // What a pack has is read again as fast as it would be remembered.
    if (row.data !== null && !state.packs.has(row.objectId)) state.blobs.putValue(slot, blob);
    return blob;
  }

  #resolve(scopeId: number, refersTo: Digests, period: number): number[] | undefined {
    const state = this.#state;
    return state.actions.resolve(refersTo, period, (words, from, sizeBytes) => {
      const slot = state.lookUpBlob(scopeId, words, from);
      return slot !== 0 && state.blobs.sizeOf(slot) === sizeBytes ? slot : 0;
    });
  }

  #noteRead(scopeId: number, words: Int32Array, from: number): void {
    this.#notes(scopeId)?.noteAction(words, from);
  }

  #notes(scopeId: number): ReadNotes | undefined {
    if (this.#actor === undefined) return undefined;
    return (this.#reads ??= new ReadNotes(this.#state.reads, this.#actor, scopeId));
  }

  #known(): number | undefined {
    return (this.#id ??= this.#state.findScope(this.viewId, this.instance));
  }

  async #openId(): Promise<number> {
    return (this.#id ??= await this.#state.openScope(this.viewId, this.instance));
  }
}
