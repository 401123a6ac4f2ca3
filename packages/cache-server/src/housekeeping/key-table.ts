import { randomInt } from "node:crypto";

const EMPTY = 0;

/**
 * Numbers keys of a fixed length in the order in which they first come: 0, 1, 2, …
 *
 * Holds a million keys of 20 bytes in 32 MB, a third of what a `Map` of strings takes, and out of the way of the
 * garbage collector.
 */
export class KeyTable {
  readonly #words: number;
  /** Chance, so that nobody can choose keys that all fall onto one another. */
  readonly #seed = randomInt(2 ** 32);
  #keys: Uint32Array;
  /** A key's number plus one, where its hash points or soon after. */
  #slots: Uint32Array;
  #size = 0;

  /**
   * @param words How many 32-bit words a key has.
   * @param expected How many keys there is room for before the table must grow, which takes a while when it is large.
   */
  constructor(words: number, expected: number) {
    this.#words = words;
    this.#keys = new Uint32Array(Math.max(1024, expected) * words);
    this.#slots = new Uint32Array(2 ** Math.ceil(Math.log2(2 * Math.max(1024, expected))));
  }

  /** How many keys there are. */
  get size(): number {
    return this.#size;
  }

  /** The number of a key, a new one when it is new. */
  intern(key: Uint32Array): number {
    const mask = this.#slots.length - 1;
    let slot = this.#hash(key, 0) & mask;
    for (
      let found = this.#slots[slot] ?? EMPTY;
      found !== EMPTY;
      found = this.#slots[slot] ?? EMPTY
    ) {
      if (this.#isAt(found - 1, key)) return found - 1;
      slot = (slot + 1) & mask;
    }
    const id = this.#size;
    this.#size += 1;
    this.#slots[slot] = id + 1;
    this.#keys = grow(this.#keys, this.#size * this.#words);
    this.#keys.set(key, id * this.#words);
    if (2 * this.#size > this.#slots.length) this.#rehash();
    return id;
  }

  /** Copies the key of a number. */
  read(id: number, into: Uint32Array): void {
    into.set(this.#keys.subarray(id * this.#words, (id + 1) * this.#words));
  }

  #isAt(id: number, key: Uint32Array): boolean {
    const start = id * this.#words;
    for (let word = 0; word < this.#words; word += 1) {
      if (this.#keys[start + word] !== key[word]) return false;
    }
    return true;
  }

  #hash(words: Uint32Array, start: number): number {
    let hash = this.#seed;
    for (let word = 0; word < this.#words; word += 1) {
      hash = Math.imul(hash ^ (words[start + word] ?? 0), 0x9e_37_79_b1);
      hash ^= hash >>> 15;
    }
    return hash >>> 0;
  }

  #rehash(): void {
    const mask = 2 * this.#slots.length - 1;
    this.#slots = new Uint32Array(mask + 1);
    for (let id = 0; id < this.#size; id += 1) {
      let slot = this.#hash(this.#keys, id * this.#words) & mask;
      while (this.#slots[slot] !== EMPTY) slot = (slot + 1) & mask;
      this.#slots[slot] = id + 1;
    }
  }
}

/** The array, or a longer one with the same contents. */
export function grow<Numbers extends Uint32Array | Float64Array>(
  array: Numbers,
  length: number,
): Numbers {
  if (length <= array.length) return array;
  const size = Math.max(length, 2 * array.length);
  const longer = array instanceof Uint32Array ? new Uint32Array(size) : new Float64Array(size);
  longer.set(array);
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- it was made as the same kind
  return longer as Numbers;
}
