import { setImmediate as nextTurn } from "node:timers/promises";

import { isEmptyDigest } from "./action-memory.ts";
import type {
  ActionFinding,
  BazelScope,
  BlobDigest,
  BlobUpload,
  KeyedValue,
  ScopeUsage,
  StoredBlob,
} from "./bazel-store.ts";
import { takeBlob, takeValue } from "./blob-intake.ts";
import { DigestList } from "./digest-list.ts";
import type { Sha256Key } from "./sha256-key.ts";
import { emptyBlob, toStoredBlob } from "./stored-blob.ts";
import type { TenantState } from "./tenant-state.ts";

/** Look-ups of the index in one go, before others get their turn. */
const LOOK_UPS_PER_TURN = 500;

/** One instance name of a tenant. */
export class TenantScope implements BazelScope {
  readonly viewId: number;
  readonly instance: string;
  readonly #state: TenantState;
  #id: number | undefined;

  constructor(state: TenantState, viewId: number, instance: string) {
    this.#state = state;
    this.viewId = viewId;
    this.instance = instance;
  }

  recallBlob(key: Sha256Key, sizeBytes: number): boolean | undefined {
    const scopeId = this.#known();
    if (isEmptyDigest(key, sizeBytes)) return true;
    if (scopeId === undefined) return false;
    const { blobs } = this.#state;
    const slot = blobs.find(scopeId, key);
    if (slot === 0) return undefined;
    if (blobs.sizes[slot] !== sizeBytes) return false;
    blobs.touch(slot, this.#state.period());
    return true;
  }

  async findMissing(digests: readonly BlobDigest[]): Promise<BlobDigest[]> {
    const missing = new Map<string, BlobDigest>();
    let lookUps = 0;
    for (const digest of digests) {
      const { key, sizeBytes } = digest;
      let isHere = this.recallBlob(key, sizeBytes);
      if (isHere === undefined) {
        lookUps += 1;
        if (lookUps % LOOK_UPS_PER_TURN === 0) await nextTurn();
        isHere = this.#isHere(key, sizeBytes);
      }
      if (!isHere) missing.set(`${key.toHex()}/${sizeBytes}`, digest);
    }
    return [...missing.values()];
  }

  recallContent(key: Sha256Key, sizeBytes: number): StoredBlob | undefined {
    const scopeId = this.#known();
    if (scopeId === undefined) return undefined;
    const { blobs } = this.#state;
    const slot = blobs.find(scopeId, key);
    const content = slot === 0 ? undefined : blobs.value(slot);
    if (content === undefined || content.sizeBytes !== sizeBytes) return undefined;
    blobs.touch(slot, this.#state.period());
    return content;
  }

  async findBlob(key: Sha256Key, sizeBytes: number): Promise<StoredBlob | undefined> {
    if (isEmptyDigest(key, sizeBytes)) return emptyBlob();
    const blob = await this.findBlobOfHash(key);
    return blob?.sizeBytes === sizeBytes ? blob : undefined;
  }

  async findBlobOfHash(key: Sha256Key): Promise<StoredBlob | undefined> {
    if (isEmptyDigest(key, 0)) return emptyBlob();
    const scopeId = this.#known();
    if (scopeId === undefined) return undefined;
    const state = this.#state;
    const slot = state.lookUpBlob(scopeId, key);
    if (slot === 0) return undefined;
    state.blobs.touch(slot, state.period());
    const remembered = state.blobs.value(slot);
    if (remembered !== undefined) return remembered;
    const row = state.index.readBlob(scopeId, key.bytes);
    if (row === undefined) return undefined;
    const blob = toStoredBlob(row, {
      files: state.files,
      name: key.toHex(),
      onLost: () => state.lose(key),
    });
    if (blob.bytes !== undefined) state.blobs.putValue(slot, blob);
    return blob;
  }

  async putBlob(upload: BlobUpload): Promise<"stored" | "present"> {
    const { key, sizeBytes } = upload;
    if (this.recallBlob(key, sizeBytes) ?? this.#isHere(key, sizeBytes)) return "present";
    const state = this.#state;
    using _room = await state.reserve(this.viewId, sizeBytes);
    const object = await takeBlob(upload, state);
    const scopeId = await this.#openId();
    const accessed = state.period();
    const change = await state.write("putBlob", {
      ...object,
      scopeId,
      hash: key.bytes,
      accessed,
    });
    state.rememberBlob(scopeId, key, { sizeBytes, accessed });
    await state.settle(change);
    return "stored";
  }

  recallAction(key: Sha256Key): Buffer | undefined {
    const scopeId = this.#known();
    if (scopeId === undefined) return undefined;
    return this.#state.actions.recall(scopeId, key, this.#state.period());
  }

  async findAction(key: Sha256Key): Promise<ActionFinding> {
    const result = this.recallAction(key);
    if (result !== undefined) return { kind: "hit", result };
    const scopeId = this.#known();
    if (scopeId === undefined) return { kind: "absent" };
    const state = this.#state;
    const row = state.isGoing("actions", scopeId, key.toHex())
      ? undefined
      : state.index.findAction(scopeId, key.bytes);
    if (row === undefined) return { kind: "absent" };
    if (row.refersTo === null) return { kind: "unresolved", result: Buffer.from(row.result) };
    const period = state.period();
    const needs = this.#resolve(scopeId, new DigestList(row.refersTo), period);
    if (needs === undefined) return { kind: "incomplete" };
    const { accessed } = row;
    state.actions.remember(scopeId, key, { result: row.result, needs, accessed, period });
    return { kind: "hit", result: Buffer.from(row.result) };
  }

  async putAction(
    key: Sha256Key,
    result: Uint8Array,
    refersTo: DigestList | undefined,
  ): Promise<void> {
    const state = this.#state;
    using _room = await state.reserve(this.viewId, result.length);
    const scopeId = await this.#openId();
    const period = state.period();
    // Of its own memory: what crosses to the writer's thread takes all that it is a part of along.
    const stored = {
      result: new Uint8Array(result),
      refersTo: refersTo?.toBytes(),
      accessed: period,
    };
    const change = await state.write("putAction", scopeId, key.bytes, stored);
    const needs = refersTo && this.#resolve(scopeId, refersTo, period);
    if (needs === undefined) {
      state.actions.forget(scopeId, key);
    } else {
      const accessed = period;
      state.actions.remember(scopeId, key, { result: stored.result, needs, accessed, period });
    }
    await state.settle(change);
  }

  async findValue(key: string): Promise<KeyedValue | undefined> {
    const scopeId = this.#known();
    if (scopeId === undefined) return undefined;
    const state = this.#state;
    if (state.isGoing("keyed_values", scopeId, key)) return undefined;
    const row = state.index.readValue(scopeId, key);
    if (row === undefined) return undefined;
    state.touchValue(scopeId, key);
    const value = toStoredBlob(row, {
      files: state.files,
      name: "value",
      onLost: async () => {
        await this.deleteValue(key);
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
    const change = await state.write("putValue", {
      ...object,
      scopeId,
      key,
      accessed: state.period(),
    });
    await state.settle(change);
    return change.isNew;
  }

  async deleteValue(key: string): Promise<boolean> {
    const scopeId = this.#known();
    if (scopeId === undefined) return false;
    const state = this.#state;
    const change = await state.write("deleteValues", scopeId, [key], 2 ** 31);
    await state.settle(change);
    return change.deleted > 0;
  }

  async findLayout(key: Sha256Key): Promise<DigestList | undefined> {
    const scopeId = this.#known();
    if (scopeId === undefined) return undefined;
    const chunks = this.#state.index.findLayout(scopeId, key.bytes);
    return chunks && new DigestList(chunks);
  }

  async putLayout(key: Sha256Key, chunks: DigestList): Promise<void> {
    const scopeId = await this.#openId();
    await this.#state.write("putLayout", scopeId, key.bytes, chunks.toBytes());
  }

  async usage(): Promise<ScopeUsage> {
    const scopeId = this.#known();
    if (scopeId === undefined) return { blobs: 0, actions: 0, keyedValues: 0, storedBytes: 0 };
    return this.#state.index.counts(scopeId);
  }

  #isHere(key: Sha256Key, sizeBytes: number): boolean {
    const scopeId = this.#known();
    if (scopeId === undefined) return false;
    const state = this.#state;
    const slot = state.lookUpBlob(scopeId, key);
    if (slot === 0 || state.blobs.sizes[slot] !== sizeBytes) return false;
    state.blobs.touch(slot, state.period());
    return true;
  }

  #resolve(scopeId: number, refersTo: DigestList, period: number): number[] | undefined {
    const state = this.#state;
    return state.actions.resolve(refersTo, period, (key, sizeBytes) => {
      const slot = state.lookUpBlob(scopeId, key);
      return slot !== 0 && state.blobs.sizes[slot] === sizeBytes ? slot : 0;
    });
  }

  #known(): number | undefined {
    return (this.#id ??= this.#state.findScope(this.viewId, this.instance));
  }

  async #openId(): Promise<number> {
    return (this.#id ??= await this.#state.openScope(this.viewId, this.instance));
  }
}
