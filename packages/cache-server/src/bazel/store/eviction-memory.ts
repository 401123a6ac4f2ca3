const PLACES = 2 ** 16;

/**
 * Remembers which ActionResults were evicted lately, in 256 KiB at most: of two that fall on one place the later one.
 * Only figures are made from it; a few of them may be wrong.
 */
export class EvictionMemory {
  /** A second word of the hash at the place that the first one gives; made when something is evicted. */
  #marks: Int32Array | undefined;

  add(scopeId: number, words: Int32Array): void {
    this.#marks ??= new Int32Array(PLACES);
    this.#marks[placeOf(scopeId, words)] = markOf(words);
  }

  has(scopeId: number, words: Int32Array): boolean {
    return this.#marks?.[placeOf(scopeId, words)] === markOf(words);
  }
}

function placeOf(scopeId: number, words: Int32Array): number {
  return ((words[0] as number) ^ Math.imul(scopeId, 0x9e3779b1)) & (PLACES - 1);
}

function markOf(words: Int32Array): number {
  return (words[1] as number) | 1;
}
