import { randomBytes } from "node:crypto";

/** Words of an entry: its scope, the eight of its hash, its size in two, its last use, its generation, its place. */
const STRIDE = 14;
const HASH = 1;
const SIZE_LOW = 9;
/** The upper half of a size, which has 21 bits, and the flags above it. */
const SIZE_HIGH = 10;
const TOUCHED = 11;
const GENERATION = 12;
const PLACE = 13;
const FLAG_SHIFT = 24;
const SIZE_HIGH_MASK = 2 ** 21 - 1;
const TWO_TO_32 = 2 ** 32;

/** Entries lie in pieces of memory of this many, so that more of them never means a copy of all. */
const PIECE_BITS = 9;
const PIECE_MASK = 2 ** PIECE_BITS - 1;
const FIRST_INDEX_BITS = 10;
const MAX_LOAD = 0.6;
const SEEDS = 9;

/** Bytes of memory for one entry, with its part of the index. */
export const ENTRY_BYTES = 68;
/** Entries that take and give back memory together. */
export const PIECE_ENTRIES: number = 2 ** PIECE_BITS;

/** Stands where a piece was given back: who kept a slot of it sees that it holds something else. */
const GONE_PIECE: Int32Array = new Int32Array(PIECE_ENTRIES * STRIDE);
for (let slot = 0; slot < PIECE_ENTRIES; slot += 1) GONE_PIECE[slot * STRIDE + GENERATION] = -1;

/** What is noted of an entry when it is added. */
export interface NewEntry {
  readonly sizeBytes: number;
  readonly accessed: number;
  /** See `placeOf`; 0 by default. */
  readonly place?: number;
}

/**
 * Entries by scope and hash, in about {@link ENTRY_BYTES} each and without an object for any: millions of them
 * cost the garbage collector nothing.
 *
 * The index in front of them is a table of numbers with linear probing (Knuth, TAOCP 3, 6.4). A number is a slot
 * below some bits of the hash, so what is absent is nearly always known so from one line of the processor's cache.
 */
export class KeySlots {
  /** Slots were handed out below it. */
  unused = 1;
  count = 0;
  readonly #pieces: Int32Array[] = [];
  readonly #seed: Int32Array;
  #indexBits = FIRST_INDEX_BITS;
  #index: Int32Array = new Int32Array(2 ** FIRST_INDEX_BITS);
  /** The first of the slots that were freed; each has the next one in place of its scope. */
  #free = 0;
  /** Numbers of pieces that were given back. */
  readonly #gone: number[] = [];
  /** Of slots in pieces to come: one that no slot has had. */
  #newGeneration = 0;

  constructor() {
    // Clients choose hashes: with multipliers that nobody knows they cannot choose one place for all of them.
    this.#seed = new Int32Array(SEEDS);
    for (let at = 0; at < SEEDS; at += 1) this.#seed[at] = randomBytes(4).readInt32LE() | 1;
  }

  /** The slot of the entry whose hash begins at a word, 0 when there is none. */
  find(scopeId: number, words: Int32Array, from: number): number {
    const index = this.#index;
    const bits = this.#indexBits;
    const mask = index.length - 1;
    const hash = this.#hashOf(scopeId, words, from);
    const tag = hash >>> bits;
    for (let at = hash & mask; ; at = (at + 1) & mask) {
      const cell = index[at] as number;
      if (cell === 0) return 0;
      if (cell >>> bits === tag && this.#is(cell & mask, scopeId, words, from)) return cell & mask;
    }
  }

  /** Adds an entry that `find` does not find, and returns its slot. */
  add(
    scopeId: number,
    words: Int32Array,
    from: number,
    { sizeBytes, accessed, place = 0 }: NewEntry,
  ): number {
    this.reserve(this.count + 1);
    const slot = this.#takeSlot();
    const piece = this.#pieces[slot >>> PIECE_BITS] as Int32Array;
    const at = (slot & PIECE_MASK) * STRIDE;
    piece[at] = scopeId;
    for (let word = 0; word < 8; word += 1) piece[at + HASH + word] = words[from + word] as number;
    piece[at + SIZE_LOW] = sizeBytes;
    piece[at + SIZE_HIGH] = sizeBytes / TWO_TO_32;
    piece[at + TOUCHED] = accessed;
    piece[at + PLACE] = place;
    this.#enter(slot, this.#hashOf(scopeId, words, from));
    this.count += 1;
    return slot;
  }

  /** Removes an entry; its slot then has another generation. */
  remove(slot: number): void {
    const index = this.#index;
    const mask = index.length - 1;
    let hole = this.#homeOf(slot) & mask;
    while (((index[hole] as number) & mask) !== slot) hole = (hole + 1) & mask;
    // What was pushed on by this entry moves back, so that no search ends too early.
    for (let at = (hole + 1) & mask; index[at] !== 0; at = (at + 1) & mask) {
      const cell = index[at] as number;
      const home = this.#homeOf(cell & mask) & mask;
      if (((at - home) & mask) < ((at - hole) & mask)) continue;
      index[hole] = cell;
      hole = at;
    }
    index[hole] = 0;
    const piece = this.#pieces[slot >>> PIECE_BITS] as Int32Array;
    const at = (slot & PIECE_MASK) * STRIDE;
    piece[at] = this.#free;
    piece[at + SIZE_HIGH] = 0;
    piece[at + GENERATION] = (piece[at + GENERATION] as number) + 1;
    this.#free = slot;
    this.count -= 1;
  }

  /** Whether one more entry takes memory for a piece. */
  get isFull(): boolean {
    return this.#free === 0 && this.unused >>> PIECE_BITS === this.#pieces.length;
  }

  /** Numbers of pieces are below it, whether they take memory or not. */
  get pieceNumbers(): number {
    return this.#pieces.length;
  }

  /** Pieces that take memory. */
  get pieceCount(): number {
    return this.#pieces.length - this.#gone.length;
  }

  /** The slots of the piece with this number, `undefined` when it takes no memory; slots begin at 1. */
  slotsOfPiece(number: number): { readonly from: number; readonly to: number } | undefined {
    const piece = this.#pieces[number];
    if (piece === undefined || piece === GONE_PIECE) return undefined;
    const from = number << PIECE_BITS;
    return { from: Math.max(1, from), to: Math.min(this.unused, from + PIECE_ENTRIES) };
  }

  /** Gives back the memory of a piece in which no entry is left. */
  dropPiece(number: number): void {
    const piece = this.#pieces[number] as Int32Array;
    for (let at = GENERATION; at < piece.length; at += STRIDE) {
      this.#newGeneration = Math.max(this.#newGeneration, (piece[at] as number) + 1);
    }
    // Its slots leave the chain of free ones.
    let before = 0;
    for (let slot = this.#free; slot !== 0;) {
      const next = this.#word(slot, 0);
      if (slot >>> PIECE_BITS !== number) before = slot;
      else if (before === 0) this.#free = next;
      else this.#set(before, 0, next);
      slot = next;
    }
    // None of it is handed out singly any more, those included that never were.
    if (number === this.#pieces.length - 1) this.unused = (number + 1) << PIECE_BITS;
    this.#pieces[number] = GONE_PIECE;
    this.#gone.push(number);
    if (this.pieceCount > 0) return;
    this.#indexBits = FIRST_INDEX_BITS;
    this.#index = new Int32Array(2 ** FIRST_INDEX_BITS);
  }

  /** Makes the index large enough for so many entries. */
  reserve(entries: number): void {
    let bits = this.#indexBits;
    while (entries > 2 ** bits * MAX_LOAD) bits += 1;
    if (bits === this.#indexBits) return;
    const before = this.#index;
    const mask = before.length - 1;
    this.#indexBits = bits;
    this.#index = new Int32Array(2 ** bits);
    for (const cell of before) {
      if (cell !== 0) this.#enter(cell & mask, this.#homeOf(cell & mask));
    }
  }

  scopeOf(slot: number): number {
    return this.#word(slot, 0);
  }

  /** In bytes. */
  sizeOf(slot: number): number {
    const high = this.#word(slot, SIZE_HIGH) & SIZE_HIGH_MASK;
    return high * TWO_TO_32 + (this.#word(slot, SIZE_LOW) >>> 0);
  }

  /** The period of the last use; see `touches.ts`. */
  touchedOf(slot: number): number {
    return this.#word(slot, TOUCHED);
  }

  setTouched(slot: number, period: number): void {
    this.#set(slot, TOUCHED, period);
  }

  generationOf(slot: number): number {
    return this.#word(slot, GENERATION);
  }

  /** A number below 2^32 that the entry's owner gives a meaning; 0 at first. */
  placeOf(slot: number): number {
    return this.#word(slot, PLACE) >>> 0;
  }

  setPlace(slot: number, place: number): void {
    this.#set(slot, PLACE, place);
  }

  /** Up to eight bits that the entry's owner gives a meaning; none is set at first. */
  flagsOf(slot: number): number {
    return this.#word(slot, SIZE_HIGH) >>> FLAG_SHIFT;
  }

  setFlags(slot: number, flags: number): void {
    const high = this.#word(slot, SIZE_HIGH) & SIZE_HIGH_MASK;
    this.#set(slot, SIZE_HIGH, high | (flags << FLAG_SHIFT));
  }

  /** Puts the eight words of an entry's hash at a place. */
  copyHash(slot: number, target: Int32Array, to: number): void {
    const piece = this.#pieces[slot >>> PIECE_BITS] as Int32Array;
    const at = (slot & PIECE_MASK) * STRIDE + HASH;
    for (let word = 0; word < 8; word += 1) target[to + word] = piece[at + word] as number;
  }

  #word(slot: number, word: number): number {
    const piece = this.#pieces[slot >>> PIECE_BITS] as Int32Array;
    return piece[(slot & PIECE_MASK) * STRIDE + word] as number;
  }

  #set(slot: number, word: number, value: number): void {
    const piece = this.#pieces[slot >>> PIECE_BITS] as Int32Array;
    piece[(slot & PIECE_MASK) * STRIDE + word] = value;
  }

  #is(slot: number, scopeId: number, words: Int32Array, from: number): boolean {
    const piece = this.#pieces[slot >>> PIECE_BITS] as Int32Array;
    const at = (slot & PIECE_MASK) * STRIDE;
    return (
      piece[at] === scopeId &&
      piece[at + 1] === words[from] &&
      piece[at + 2] === words[from + 1] &&
      piece[at + 3] === words[from + 2] &&
      piece[at + 4] === words[from + 3] &&
      piece[at + 5] === words[from + 4] &&
      piece[at + 6] === words[from + 5] &&
      piece[at + 7] === words[from + 6] &&
      piece[at + 8] === words[from + 7]
    );
  }

  #takeSlot(): number {
    if (this.isFull) this.#addPiece();
    const freed = this.#free;
    if (freed !== 0) {
      this.#free = this.#word(freed, 0);
      return freed;
    }
    const slot = this.unused;
    this.unused += 1;
    return slot;
  }

  #addPiece(): void {
    const piece = new Int32Array(PIECE_ENTRIES * STRIDE);
    for (let at = GENERATION; at < piece.length; at += STRIDE) piece[at] = this.#newGeneration;
    if (this.#gone.length === 0) {
      this.#pieces.push(piece);
      return;
    }
    // The lowest first: the index has room for no slot far above the count of entries.
    const number = Math.min(...this.#gone);
    this.#gone.splice(this.#gone.indexOf(number), 1);
    this.#pieces[number] = piece;
    for (let at = number === 0 ? 1 : 0; at < PIECE_ENTRIES; at += 1) {
      piece[at * STRIDE] = this.#free;
      this.#free = (number << PIECE_BITS) + at;
    }
  }

  #enter(slot: number, hash: number): void {
    const index = this.#index;
    const mask = index.length - 1;
    let at = hash & mask;
    while (index[at] !== 0) at = (at + 1) & mask;
    index[at] = (hash & ~mask) | slot;
  }

  #homeOf(slot: number): number {
    const piece = this.#pieces[slot >>> PIECE_BITS] as Int32Array;
    const at = (slot & PIECE_MASK) * STRIDE;
    return this.#hashOf(piece[at] as number, piece, at + HASH);
  }

  #hashOf(scopeId: number, words: Int32Array, from: number): number {
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
    return hash ^ (hash >>> 16);
  }
}
