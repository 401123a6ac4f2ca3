import { randomBytes } from "node:crypto";

/** The scope, and the eight words of the hash. */
const KEY_WORDS = 9;

/** Was asked for since the hand passed by. */
const USED = 1;
/** Has a touch that is not in the index yet. */
const DIRTY = 2;
/** Its touch is on the way into the index. */
const FLUSHING = 4;

const FIRST_CAPACITY = 1024;

/**
 * Remembers entries of the index by scope and hash, in about 75 bytes each and without an object per entry:
 * millions of them cost the garbage collector nothing.
 *
 * An entry lives in a slot, a number from 1 on, until it is removed; the slot's generation then changes, so that
 * who has kept a slot can see that it holds something else. Beyond `maxEntries` an entry goes that nobody asked
 * for lately, never one whose touch the index does not know yet.
 */
export class KeyTable<Value> {
  /** A figure per slot: the size of what the entry names, in bytes. */
  sizes: Float64Array = new Float64Array(FIRST_CAPACITY + 1);
  /** The period of its last use; see `touches.ts`. */
  touched: Int32Array = new Int32Array(FIRST_CAPACITY + 1);
  generations: Int32Array = new Int32Array(FIRST_CAPACITY + 1);
  /** Grows with every entry that goes: as long as it stands still, every slot holds what it held. */
  removals = 0;
  /** Bytes that the values take, as their owner says. */
  valueBytes = 0;
  readonly #maxEntries: number;
  readonly #maxValueBytes: number;
  readonly #valueSize: (value: Value) => number;
  readonly #values: (Value | undefined)[] = [undefined];
  readonly #seed: Int32Array;
  #capacity: number = FIRST_CAPACITY;
  #heads: Int32Array = new Int32Array(2 * FIRST_CAPACITY);
  #next: Int32Array = new Int32Array(FIRST_CAPACITY + 1);
  #keys: Int32Array = new Int32Array((FIRST_CAPACITY + 1) * KEY_WORDS);
  #flags: Uint8Array = new Uint8Array(FIRST_CAPACITY + 1);
  #isTaken: Uint8Array = new Uint8Array(FIRST_CAPACITY + 1);
  #unused = 1;
  #free: number[] = [];
  #hand = 0;
  #valueHand = 0;
  #count = 0;
  #dirty: number[] = [];
  #flushing: readonly number[] = [];

  constructor(options: {
    readonly maxEntries: number;
    readonly maxValueBytes: number;
    readonly valueSize: (value: Value) => number;
  }) {
    this.#maxEntries = options.maxEntries;
    this.#maxValueBytes = options.maxValueBytes;
    this.#valueSize = options.valueSize;
    // Clients choose hashes: with multipliers that nobody knows they cannot choose one bucket for all of them.
    this.#seed = new Int32Array(KEY_WORDS);
    for (let at = 0; at < KEY_WORDS; at += 1) {
      this.#seed[at] = randomBytes(4).readInt32LE() | 1;
    }
  }

  get count(): number {
    return this.#count;
  }

  /** The slot of the entry whose hash begins at a word, 0 when there is none. */
  find(scopeId: number, words: Int32Array, from = 0): number {
    const keys = this.#keys;
    let slot = this.#heads[this.#bucketOf(scopeId, words, from)] as number;
    while (slot !== 0) {
      const at = slot * KEY_WORDS;
      if (
        keys[at + 1] === words[from] &&
        keys[at + 2] === words[from + 1] &&
        keys[at + 3] === words[from + 2] &&
        keys[at + 4] === words[from + 3] &&
        keys[at + 5] === words[from + 4] &&
        keys[at + 6] === words[from + 5] &&
        keys[at + 7] === words[from + 6] &&
        keys[at + 8] === words[from + 7] &&
        keys[at] === scopeId
      ) {
        this.#flags[slot] = (this.#flags[slot] as number) | USED;
        return slot;
      }
      slot = this.#next[slot] as number;
    }
    return 0;
  }

  /**
   * Adds an entry that `find` does not find.
   *
   * @returns Its slot; 0 when there is no room, because all entries wait for the index to know their touches.
   */
  add(
    scopeId: number,
    words: Int32Array,
    from: number,
    entry: { readonly sizeBytes: number; readonly accessed: number },
  ): number {
    const slot = this.#takeSlot();
    if (slot === 0) return 0;
    const at = slot * KEY_WORDS;
    this.#keys[at] = scopeId;
    for (let word = 0; word < 8; word += 1)
      this.#keys[at + 1 + word] = words[from + word] as number;
    const bucket = this.#bucketOf(scopeId, words, from);
    this.#next[slot] = this.#heads[bucket] as number;
    this.#heads[bucket] = slot;
    this.sizes[slot] = entry.sizeBytes;
    this.touched[slot] = entry.accessed;
    this.#flags[slot] = USED;
    this.#isTaken[slot] = 1;
    this.#count += 1;
    return slot;
  }

  /** Removes an entry, whatever the index does not know of it. */
  remove(slot: number): void {
    const at = slot * KEY_WORDS;
    const scopeId = this.#keys[at] as number;
    const bucket = this.#bucketOf(scopeId, this.#keys, at + 1);
    let previous = 0;
    for (
      let each = this.#heads[bucket] as number;
      each !== slot;
      each = this.#next[each] as number
    ) {
      previous = each;
    }
    if (previous === 0) this.#heads[bucket] = this.#next[slot] as number;
    else this.#next[previous] = this.#next[slot] as number;
    this.dropValue(slot);
    this.#flags[slot] = 0;
    this.#isTaken[slot] = 0;
    this.generations[slot] = (this.generations[slot] as number) + 1;
    this.#free.push(slot);
    this.#count -= 1;
    this.removals += 1;
  }

  scopeOf(slot: number): number {
    return this.#keys[slot * KEY_WORDS] as number;
  }

  /** The hashes of entries, 32 bytes each. */
  hashesOf(slots: readonly number[]): Uint8Array {
    const words = new Int32Array(8 * slots.length);
    for (const [index, slot] of slots.entries()) {
      const at = slot * KEY_WORDS;
      words.set(this.#keys.subarray(at + 1, at + KEY_WORDS), 8 * index);
    }
    return new Uint8Array(words.buffer);
  }

  /** What is remembered beside the entry. */
  value(slot: number): Value | undefined {
    return this.#values[slot];
  }

  /** Remembers a value beside an entry; values that nobody asked for lately may have to go for it. */
  putValue(slot: number, value: Value): void {
    this.dropValue(slot);
    const sizeBytes = this.#valueSize(value);
    if (sizeBytes > this.#maxValueBytes / 8) return;
    while (this.#values.length <= slot) this.#values.push(undefined);
    this.#values[slot] = value;
    this.valueBytes += sizeBytes;
    if (this.valueBytes > this.#maxValueBytes) this.#dropOldValues(slot);
  }

  dropValue(slot: number): void {
    const value = this.#values[slot];
    if (value === undefined) return;
    this.#values[slot] = undefined;
    this.valueBytes -= this.#valueSize(value);
  }

  /** Notes that the entry was used in a period, to be told to the index later. */
  touch(slot: number, period: number): void {
    if ((this.touched[slot] as number) >= period) return;
    this.touched[slot] = period;
    const flags = this.#flags[slot] as number;
    if ((flags & DIRTY) !== 0) return;
    this.#flags[slot] = flags | DIRTY;
    this.#dirty.push(slot);
  }

  /** The slots whose touches the index does not know; they stay until `endFlush` says how it went. */
  beginFlush(): readonly number[] {
    const slots = this.#dirty.filter((slot) => {
      const flags = this.#flags[slot] as number;
      if ((flags & DIRTY) === 0) return false;
      this.#flags[slot] = (flags & ~DIRTY) | FLUSHING;
      return true;
    });
    this.#dirty = [];
    this.#flushing = slots;
    return slots;
  }

  endFlush(isDone: boolean): void {
    for (const slot of this.#flushing) {
      const flags = this.#flags[slot] as number;
      if ((flags & FLUSHING) === 0) continue;
      this.#flags[slot] = flags & ~FLUSHING;
      if (isDone || (flags & DIRTY) !== 0) continue;
      this.#flags[slot] = (flags & ~FLUSHING) | DIRTY;
      this.#dirty.push(slot);
    }
    this.#flushing = [];
  }

  get dirtyCount(): number {
    return this.#dirty.length;
  }

  #bucketOf(scopeId: number, words: Int32Array, from: number): number {
    const seed = this.#seed;
    let hash = Math.imul(scopeId, seed[0] as number);
    hash = Math.imul(hash ^ (words[from] as number), seed[1] as number);
    hash = Math.imul(hash ^ (words[from + 1] as number), seed[2] as number) ^ (hash >>> 15);
    hash = Math.imul(hash ^ (words[from + 2] as number), seed[3] as number) ^ (hash >>> 15);
    hash = Math.imul(hash ^ (words[from + 3] as number), seed[4] as number) ^ (hash >>> 15);
    hash = Math.imul(hash ^ (words[from + 4] as number), seed[5] as number) ^ (hash >>> 15);
    hash = Math.imul(hash ^ (words[from + 5] as number), seed[6] as number) ^ (hash >>> 15);
    hash = Math.imul(hash ^ (words[from + 6] as number), seed[7] as number) ^ (hash >>> 15);
    hash = Math.imul(hash ^ (words[from + 7] as number), seed[8] as number);
    return (hash ^ (hash >>> 16)) & (this.#heads.length - 1);
  }

  #takeSlot(): number {
    if (this.#count >= this.#maxEntries) this.#evict();
    const free = this.#free.pop();
    if (free !== undefined) return free;
    if (this.#unused > this.#capacity) {
      if (this.#count >= this.#maxEntries) return 0;
      this.#grow();
    }
    const slot = this.#unused;
    this.#unused += 1;
    return slot;
  }

  /** Removes one entry that was not used lately; none when all have touches on their way. */
  #evict(): void {
    for (let step = 0; step < 2 * this.#unused; step += 1) {
      this.#hand = this.#hand + 1 >= this.#unused ? 1 : this.#hand + 1;
      const slot = this.#hand;
      const flags = this.#flags[slot] as number;
      if (this.#isTaken[slot] === 0 || (flags & (DIRTY | FLUSHING)) !== 0) continue;
      if ((flags & USED) === 0) {
        this.remove(slot);
        return;
      }
      this.#flags[slot] = flags & ~USED;
    }
  }

  #dropOldValues(spared: number): void {
    const target = this.#maxValueBytes - this.#maxValueBytes / 64;
    for (let step = 0; step < 2 * this.#values.length; step += 1) {
      if (this.valueBytes <= target) return;
      this.#valueHand = this.#valueHand + 1 >= this.#values.length ? 1 : this.#valueHand + 1;
      const slot = this.#valueHand;
      if (slot === spared || this.#values[slot] === undefined) continue;
      const flags = this.#flags[slot] as number;
      if ((flags & USED) === 0) this.dropValue(slot);
      else this.#flags[slot] = flags & ~USED;
    }
  }

  #grow(): void {
    const capacity = Math.min(this.#maxEntries, 2 * this.#capacity);
    const slots = capacity + 1;
    this.sizes = copyInto(new Float64Array(slots), this.sizes);
    this.touched = copyInto(new Int32Array(slots), this.touched);
    this.generations = copyInto(new Int32Array(slots), this.generations);
    this.#next = copyInto(new Int32Array(slots), this.#next);
    this.#keys = copyInto(new Int32Array(slots * KEY_WORDS), this.#keys);
    this.#flags = copyInto(new Uint8Array(slots), this.#flags);
    this.#isTaken = copyInto(new Uint8Array(slots), this.#isTaken);
    this.#capacity = capacity;
    this.#heads = new Int32Array(2 ** Math.ceil(Math.log2(1.5 * capacity)));
    for (let slot = 1; slot < this.#unused; slot += 1) {
      if (this.#isTaken[slot] === 0) continue;
      const at = slot * KEY_WORDS;
      const bucket = this.#bucketOf(this.#keys[at] as number, this.#keys, at + 1);
      this.#next[slot] = this.#heads[bucket] as number;
      this.#heads[bucket] = slot;
    }
  }
}

/** What a table does whatever it remembers beside its entries. */
export type Slots = Pick<
  KeyTable<unknown>,
  | "beginFlush"
  | "endFlush"
  | "find"
  | "generations"
  | "hashesOf"
  | "removals"
  | "remove"
  | "scopeOf"
  | "touch"
  | "touched"
>;

function copyInto<List extends Float64Array | Int32Array | Uint8Array>(to: List, from: List): List {
  to.set(from);
  return to;
}
