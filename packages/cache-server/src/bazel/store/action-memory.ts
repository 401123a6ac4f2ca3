import type { DigestList } from "./digest-list.ts";
import { KeyTable, type Slots } from "./key-table.ts";
import { Sha256Key } from "./sha256-key.ts";

/** An ActionResult whose every blob was found in the table of blobs. */
interface RememberedAction {
  readonly result: Buffer;
  /** Slots of what it needs and their generations, in turn. */
  readonly needs: readonly number[];
  /** The removals of the table of blobs when all of them were last seen there. */
  wholeAt: number;
}

/** The SHA-256 of nothing: that blob is everywhere. */
const EMPTY_SHA256: string = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const EMPTY_KEY = requiredKey(EMPTY_SHA256);

/** Whether this is the digest of nothing, which is never stored and always there. */
export function isEmptyDigest(key: Sha256Key, sizeBytes: number): boolean {
  return sizeBytes === 0 && key.words.every((word, at) => word === EMPTY_KEY.words[at]);
}

/**
 * Remembers ActionResults together with where the blobs they need are remembered, so that asking for one again
 * looks at no hash but its own.
 */
export class ActionMemory {
  readonly table: KeyTable<RememberedAction>;
  readonly #blobs: Slots;
  readonly #key: Sha256Key = new Sha256Key();

  constructor(options: {
    readonly blobs: Slots;
    readonly maxEntries: number;
    readonly maxBytes: number;
  }) {
    this.#blobs = options.blobs;
    this.table = new KeyTable({
      maxEntries: options.maxEntries,
      maxValueBytes: options.maxBytes,
      valueSize: ({ result, needs }) => result.length + 8 * needs.length + 250,
    });
  }

  /** The ActionResult, when it is known to be whole; counts as a use of it and of all it needs. */
  recall(scopeId: number, key: Sha256Key, period: number): Buffer | undefined {
    const { table } = this;
    const slot = table.find(scopeId, key);
    if (slot === 0) return undefined;
    const action = table.value(slot);
    if (action === undefined || !this.#isWhole(action)) return undefined;
    if ((table.touched[slot] as number) < period) {
      // First what it needs: an ActionResult must never be the fresher one.
      for (let at = 0; at < action.needs.length; at += 2) {
        this.#blobs.touch(action.needs[at] as number, period);
      }
      table.touch(slot, period);
    }
    return action.result;
  }

  /**
   * The slots of all blobs in a list, used in this period; `undefined` when one is missing.
   *
   * @param lookUp Finds a blob's slot in memory or index, 0 when it is absent.
   */
  resolve(
    refersTo: DigestList,
    period: number,
    lookUp: (key: Sha256Key, sizeBytes: number) => number,
  ): number[] | undefined {
    const key = this.#key;
    const needs: number[] = [];
    for (let index = 0; index < refersTo.length; index += 1) {
      const sizeBytes = refersTo.read(index, key);
      if (isEmptyDigest(key, sizeBytes)) continue;
      const slot = lookUp(key, sizeBytes);
      if (slot === 0) return undefined;
      this.#blobs.touch(slot, period);
      needs.push(slot, this.#blobs.generations[slot] as number);
    }
    return needs;
  }

  /** Remembers an ActionResult whose needs were just resolved. */
  remember(
    scopeId: number,
    key: Sha256Key,
    action: {
      readonly result: Uint8Array;
      readonly needs: readonly number[];
      readonly accessed: number;
      readonly period: number;
    },
  ): void {
    const { table } = this;
    const { result, needs, accessed, period } = action;
    const slot = table.find(scopeId, key) || table.add(scopeId, key, result.length, accessed);
    if (slot === 0) return;
    table.putValue(slot, {
      result: Buffer.from(result.buffer, result.byteOffset, result.byteLength),
      needs,
      wholeAt: this.#blobs.removals,
    });
    table.touch(slot, period);
  }

  forget(scopeId: number, key: Sha256Key): void {
    const slot = this.table.find(scopeId, key);
    if (slot !== 0) this.table.remove(slot);
  }

  #isWhole(action: RememberedAction): boolean {
    const blobs = this.#blobs;
    if (action.wholeAt === blobs.removals) return true;
    const { needs } = action;
    for (let at = 0; at < needs.length; at += 2) {
      if (blobs.generations[needs[at] as number] !== needs[at + 1]) return false;
    }
    action.wholeAt = blobs.removals;
    return true;
  }
}

function requiredKey(hex: string): Sha256Key {
  const key = Sha256Key.fromHex(hex);
  if (key === undefined) throw new Error(`${hex} is no SHA-256`);
  return key;
}
