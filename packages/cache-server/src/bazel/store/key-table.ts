import type { MemoryShare } from "../memory/memory-pool.ts";
import { ENTRY_BYTES, KeySlots, type NewEntry, PIECE_ENTRIES } from "./key-slots.ts";

/** Was asked for since the hand passed by. */
const USED = 1;
/** Has a touch that is not in the index yet. */
const DIRTY = 2;
/** Its touch is on the way into the index. */
const FLUSHING = 4;
/** The slot holds an entry. */
const TAKEN = 8;
const PIECE_BYTES = PIECE_ENTRIES * ENTRY_BYTES;
/** So many values are looked at in one search for those that may go. */
const VALUES_AT_ONCE = 4096;

/**
 * Remembers entries of the index by scope and hash, and what belongs to some of them.
 *
 * An entry lives in a slot, a number from 1 on, until it is removed; the slot's generation then changes, so that
 * who has kept a slot can see that it holds something else. Beyond `maxEntries` an entry goes that nobody asked
 * for lately, never one whose touch the index does not know yet. So it is when memory is short, but for some entries that
 * every table may have.
 */
export class KeyTable<Value> {
  readonly maxEntries: number;
  /** Every entry of the index is here: what is not found is absent. True until one has to go, or finds no room. */
  isWhole = false;
  /** Entries that had to go, or found no room. */
  losses = 0;
  /** Grows with every entry that goes: as long as it stands still, every slot holds what it held. */
  removals = 0;
  /** Bytes that the values take, as their owner says. */
  valueBytes = 0;
  readonly #slots: KeySlots = new KeySlots();
  readonly #maxValueBytes: number;
  readonly #valueSize: (value: Value) => number;
  readonly #memory: MemoryShare;
  readonly #values: (Value | undefined)[] = [undefined];
  #hand = 0;
  #valueHand = 0;
  #pieceHand = 0;
  #dirty: number[] = [];
  #flushing: readonly number[] = [];

  constructor(options: {
    readonly maxEntries: number;
    readonly maxValueBytes: number;
    readonly valueSize: (value: Value) => number;
    readonly memory: MemoryShare;
  }) {
    this.maxEntries = options.maxEntries;
    this.#maxValueBytes = options.maxValueBytes;
    this.#valueSize = options.valueSize;
    this.#memory = options.memory;
  }

  get count(): number {
    return this.#slots.count;
  }

  /** The slot of the entry whose hash begins at a word, 0 when there is none. */
  find(scopeId: number, words: Int32Array, from = 0): number {
    const slot = this.#slots.find(scopeId, words, from);
    if (slot === 0) return 0;
    const flags = this.#slots.flagsOf(slot);
    if ((flags & USED) === 0) this.#slots.setFlags(slot, flags | USED);
    return slot;
  }

  /**
   * Adds an entry that `find` does not find.
   *
   * @returns Its slot; 0 when there is no room, because all entries wait for the index to know their touches.
   */
  add(scopeId: number, words: Int32Array, from: number, entry: NewEntry): number {
    const isFull = this.count >= this.maxEntries;
    if (isFull || !this.#hasMemory()) {
      this.#noteLoss();
      // Uses that the index does not know yet are worth more than the bound of memory: they are few, and told soon.
      if (!this.#evict() && isFull) return 0;
    }
    if (this.#slots.isFull) this.#memory.take(PIECE_BYTES);
    const slot = this.#slots.add(scopeId, words, from, entry);
    this.#slots.setFlags(slot, TAKEN);
    return slot;
  }

  /** Adds an entry of the index unless it is here; nobody has asked for it. */
  learn(scopeId: number, words: Int32Array, from: number, entry: NewEntry): void {
    if (this.#slots.find(scopeId, words, from) !== 0) return;
    if (this.#slots.isFull && !this.#memory.hasRoom(PIECE_BYTES)) this.#noteLoss();
    else this.add(scopeId, words, from, entry);
  }

  /** Whether memory has room for so many entries in all, so that none has to go for them. */
  fits(entries: number): boolean {
    const more = (entries - this.count) * ENTRY_BYTES;
    return entries <= this.maxEntries && (more <= 0 || this.#memory.hasRoom(more));
  }

  /** Bytes of memory that entries and values take. */
  get bytes(): number {
    return this.#slots.pieceCount * PIECE_BYTES + this.valueBytes;
  }

  /** Gives back about so many bytes: values and entries, those that were asked for lately only if others do not suffice. */
  release(sizeBytes: number): void {
    const leftBytes = this.bytes - sizeBytes;
    const ofValues = this.bytes === 0 ? 0 : sizeBytes * (this.valueBytes / this.bytes);
    this.#dropOldValues(this.valueBytes - ofValues, 0, Infinity);
    const slots = this.#slots;
    for (let step = 0; step < 2 * slots.pieceNumbers && this.bytes > leftBytes; step += 1) {
      this.#pieceHand = (this.#pieceHand + 1) % slots.pieceNumbers;
      this.#releasePiece(this.#pieceHand);
    }
  }

  /** Makes room for so many entries at once. */
  reserve(entries: number): void {
    this.#slots.reserve(Math.min(entries, this.maxEntries));
  }

  /** Removes an entry, whatever the index does not know of it. */
  remove(slot: number): void {
    this.dropValue(slot);
    this.#slots.remove(slot);
    this.removals += 1;
  }

  scopeOf(slot: number): number {
    return this.#slots.scopeOf(slot);
  }

  /** The size of what the entry names, in bytes. */
  sizeOf(slot: number): number {
    return this.#slots.sizeOf(slot);
  }

  /** The period of the entry's last use; see `touches.ts`. */
  touchedOf(slot: number): number {
    return this.#slots.touchedOf(slot);
  }

  generationOf(slot: number): number {
    return this.#slots.generationOf(slot);
  }

  /** Where what belongs to the entry lies, 0 when that is not known; below 2^32. */
  placeOf(slot: number): number {
    return this.#slots.placeOf(slot);
  }

  setPlace(slot: number, place: number): void {
    this.#slots.setPlace(slot, place);
  }

  /** The slot of an entry, 0 when there is none; nobody has asked for it. */
  peek(scopeId: number, words: Int32Array, from = 0): number {
    return this.#slots.find(scopeId, words, from);
  }

  /** The hashes of entries, 32 bytes each. */
  hashesOf(slots: readonly number[]): Uint8Array {
    const words = new Int32Array(8 * slots.length);
    for (let at = 0; at < slots.length; at += 1) {
      this.#slots.copyHash(slots[at] as number, words, 8 * at);
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
    if (!this.#memory.makeRoom(sizeBytes)) {
      const leftBytes = this.valueBytes - sizeBytes;
      if (leftBytes >= 0) this.#dropOldValues(leftBytes, slot, VALUES_AT_ONCE);
      if (leftBytes < 0 || this.valueBytes > leftBytes) return;
    }
    this.#memory.take(sizeBytes);
    while (this.#values.length <= slot) this.#values.push(undefined);
    this.#values[slot] = value;
    this.valueBytes += sizeBytes;
    if (this.valueBytes > this.#maxValueBytes) {
      this.#dropOldValues(this.#maxValueBytes - this.#maxValueBytes / 64, slot, Infinity);
    }
  }

  dropValue(slot: number): void {
    const value = this.#values[slot];
    if (value === undefined) return;
    this.#values[slot] = undefined;
    const sizeBytes = this.#valueSize(value);
    this.valueBytes -= sizeBytes;
    this.#memory.take(-sizeBytes);
  }

  /** Notes that the entry was used in a period, to be told to the index later. */
  touch(slot: number, period: number): void {
    const slots = this.#slots;
    if (slots.touchedOf(slot) >= period) return;
    slots.setTouched(slot, period);
    const flags = slots.flagsOf(slot);
    if ((flags & DIRTY) !== 0) return;
    slots.setFlags(slot, flags | DIRTY);
    this.#dirty.push(slot);
  }

  /** Notes what the index says of the entry's last use. */
  noteAccess(slot: number, accessed: number): void {
    if (this.#slots.touchedOf(slot) < accessed) this.#slots.setTouched(slot, accessed);
  }

  /** The slots whose touches the index does not know; they stay until `endFlush` says how it went. */
  beginFlush(): readonly number[] {
    const slots = this.#dirty.filter((slot) => {
      const flags = this.#slots.flagsOf(slot);
      if ((flags & DIRTY) === 0) return false;
      this.#slots.setFlags(slot, (flags & ~DIRTY) | FLUSHING);
      return true;
    });
    this.#dirty = [];
    this.#flushing = slots;
    return slots;
  }

  endFlush(isDone: boolean): void {
    for (const slot of this.#flushing) {
      const flags = this.#slots.flagsOf(slot);
      if ((flags & FLUSHING) === 0) continue;
      const mustRepeat = !isDone && (flags & DIRTY) === 0;
      this.#slots.setFlags(slot, (flags & ~FLUSHING) | (mustRepeat ? DIRTY : 0));
      if (mustRepeat) this.#dirty.push(slot);
    }
    this.#flushing = [];
  }

  get dirtyCount(): number {
    return this.#dirty.length;
  }

  /** Whether one more entry finds room, of its own or of others. */
  #hasMemory(): boolean {
    const slots = this.#slots;
    return !slots.isFull || slots.pieceCount === 0 || this.#memory.makeRoom(PIECE_BYTES);
  }

  #noteLoss(): void {
    this.isWhole = false;
    this.losses += 1;
  }

  /** Drops all entries of a piece, unless one must stay or many were asked for since the hand passed by. */
  #releasePiece(number: number): void {
    const slots = this.#slots;
    const range = slots.slotsOfPiece(number);
    if (range === undefined) return;
    let used = 0;
    for (let slot = range.from; slot < range.to; slot += 1) {
      const flags = slots.flagsOf(slot);
      if ((flags & (DIRTY | FLUSHING)) !== 0) return;
      if ((flags & USED) !== 0) used += 1;
    }
    const isHot = used > PIECE_ENTRIES / 16;
    for (let slot = range.from; slot < range.to; slot += 1) {
      const flags = slots.flagsOf(slot);
      if ((flags & TAKEN) === 0) continue;
      if (isHot) slots.setFlags(slot, flags & ~USED);
      else this.remove(slot);
    }
    if (isHot) return;
    this.#noteLoss();
    slots.dropPiece(number);
    this.#memory.take(-PIECE_BYTES);
  }

  /** Removes one entry that was not used lately; false when all have touches on their way. */
  #evict(): boolean {
    const slots = this.#slots;
    for (let step = 0; step < 2 * slots.unused; step += 1) {
      this.#hand = this.#hand + 1 >= slots.unused ? 1 : this.#hand + 1;
      const slot = this.#hand;
      const flags = slots.flagsOf(slot);
      if ((flags & TAKEN) === 0 || (flags & (DIRTY | FLUSHING)) !== 0) continue;
      if ((flags & USED) === 0) {
        this.remove(slot);
        return true;
      }
      slots.setFlags(slot, flags & ~USED);
    }
    return false;
  }

  /** Drops values until they take no more than so many bytes, those last that were asked for lately. */
  #dropOldValues(target: number, spared: number, maxSteps: number): void {
    for (let step = 0; step < Math.min(2 * this.#values.length, maxSteps); step += 1) {
      if (this.valueBytes <= target) return;
      this.#valueHand = this.#valueHand + 1 >= this.#values.length ? 1 : this.#valueHand + 1;
      const slot = this.#valueHand;
      if (slot === spared || this.#values[slot] === undefined) continue;
      const flags = this.#slots.flagsOf(slot);
      if ((flags & USED) === 0) this.dropValue(slot);
      else this.#slots.setFlags(slot, flags & ~USED);
    }
  }
}

/** What a table does whatever it remembers beside its entries. */
export type Slots = Pick<
  KeyTable<unknown>,
  | "beginFlush"
  | "endFlush"
  | "find"
  | "generationOf"
  | "hashesOf"
  | "removals"
  | "remove"
  | "scopeOf"
  | "touch"
  | "touchedOf"
>;
