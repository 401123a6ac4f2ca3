import { randomBytes } from "node:crypto";

import { type DigestList, KEY_WORDS } from "./digest-list.ts";
import type { DigestKey } from "./digest.ts";

/** What {@link DigestTable.find} answers for a digest that is not there. */
const ABSENT = -1;

/**
 * Gives every digest a small number, in memory of its own: a look-up makes no string and leaves no
 * garbage, a million digests take about 50 MB. Whatever belongs to a digest lives in arrays of the
 * caller's, at that number; the numbers of deleted digests are given out again.
 *
 * Sizes are no part of it: the hash alone is the key.
 */
export class DigestTable {
  #words: Int32Array;
  /** Open addressing with linear probing; 0 is free, otherwise the number plus one. */
  #slots: Int32Array;
  #shift: number;
  #used = 0;
  #free: number[] = [];
  // Keys of actions are the caller's to choose. Without a secret in the hash he could choose such
  // as all meet in one slot.
  readonly #multipliers: Int32Array = Int32Array.from({ length: KEY_WORDS }, () => randomInt32());

  /** @param options.capacity How many digests fit before the table has to grow; 1024 by default. */
  constructor(options: { readonly capacity?: number } = {}) {
    const bits = Math.max(4, Math.ceil(Math.log2((options.capacity ?? 1024) * 1.5)));
    this.#slots = new Int32Array(2 ** bits);
    this.#shift = 32 - bits;
    this.#words = new Int32Array(Math.ceil((2 ** bits * 2) / 3) * KEY_WORDS);
  }

  /** How many digests there are. */
  get size(): number {
    return this.#used - this.#free.length;
  }

  /** The number of a list's digest, or -1. */
  find(list: DigestList, index: number): number {
    return this.#slots[this.#locate(list.words, index * KEY_WORDS)]! - 1;
  }

  /** The number of a list's digest, which is added when it is new. */
  add(list: DigestList, index: number): number {
    const from = index * KEY_WORDS;
    let slot = this.#locate(list.words, from);
    const found = this.#slots[slot]! - 1;
    if (found !== ABSENT) return found;
    if ((this.size + 1) * 3 > this.#slots.length * 2) {
      this.#grow();
      slot = this.#locate(list.words, from);
    }
    const id = this.#free.pop() ?? this.#used++;
    this.#words.set(list.words.subarray(from, from + KEY_WORDS), id * KEY_WORDS);
    this.#slots[slot] = id + 1;
    return id;
  }

  /** Deletes the digest with this number; the number must be one in use. */
  delete(id: number): void {
    const mask = this.#slots.length - 1;
    let hole = this.#locate(this.#words, id * KEY_WORDS);
    if (this.#slots[hole] !== id + 1) throw new Error(`no digest has the number ${id}`);
    // Moves back what had to give way, so that no look-up ends too early and no mark is left.
    for (let slot = (hole + 1) & mask; this.#slots[slot] !== 0; slot = (slot + 1) & mask) {
      const home = this.#home(this.#words, (this.#slots[slot]! - 1) * KEY_WORDS);
      if (((slot - home) & mask) < ((slot - hole) & mask)) continue;
      this.#slots[hole] = this.#slots[slot]!;
      hole = slot;
    }
    this.#slots[hole] = 0;
    this.#free.push(id);
  }

  /** A copy of the key with this number. */
  key(id: number): DigestKey {
    const words = this.#words.slice(id * KEY_WORDS, (id + 1) * KEY_WORDS);
    return new Uint8Array(words.buffer);
  }

  /** The slot that holds a key, or else the free one where it would go. */
  #locate(words: Int32Array, from: number): number {
    const slots = this.#slots;
    const keys = this.#words;
    const mask = slots.length - 1;
    let slot = this.#home(words, from);
    for (;;) {
      const id = slots[slot]! - 1;
      if (id === ABSENT) return slot;
      const at = id * KEY_WORDS;
      let word = 0;
      while (word < KEY_WORDS && keys[at + word] === words[from + word]) word++;
      if (word === KEY_WORDS) return slot;
      slot = (slot + 1) & mask;
    }
  }

  #home(words: Int32Array, from: number): number {
    const multipliers = this.#multipliers;
    let sum = 0;
    for (let word = 0; word < KEY_WORDS; word++) {
      sum = (sum + Math.imul(words[from + word]!, multipliers[word]!)) | 0;
    }
    return sum >>> this.#shift;
  }

  #grow(): void {
    const slots = this.#slots;
    const words = this.#words;
    this.#slots = new Int32Array(slots.length * 2);
    this.#shift -= 1;
    this.#words = new Int32Array(Math.ceil((this.#slots.length * 2) / 3) * KEY_WORDS);
    this.#words.set(words);
    for (const held of slots) {
      if (held !== 0) this.#slots[this.#locate(this.#words, (held - 1) * KEY_WORDS)] = held;
    }
  }
}

/** Odd, so that it loses none of the bits it is multiplied with. */
function randomInt32(): number {
  return randomBytes(4).readInt32LE() | 1;
}
