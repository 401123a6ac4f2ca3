import type { HeaderField } from "./header-field.ts";

/** The dynamic table of RFC 7541, section 2.3.2: first in, first out, bounded by the size of its entries. */
export class DynamicTable {
  /** Grows with every change, so that what was computed from the table can tell whether it still holds. */
  generation = 0;
  maxBytes: number;
  sizeBytes = 0;
  length = 0;
  readonly #onEvict: ((field: HeaderField) => void) | undefined;
  #ring: Array<HeaderField | undefined> = Array.from({ length: 16 });
  /** Where the next entry goes. */
  #head = 0;

  constructor(maxBytes: number, onEvict?: (field: HeaderField) => void) {
    this.maxBytes = maxBytes;
    this.#onEvict = onEvict;
  }

  /** The entry that was inserted `age` insertions before the newest. */
  at(age: number): HeaderField | undefined {
    if (age >= this.length) return undefined;
    return this.#ring[(this.#head - 1 - age) & (this.#ring.length - 1)];
  }

  /** Adds an entry; one that is larger than the table empties it, which is no error. */
  insert(field: HeaderField): boolean {
    this.generation += 1;
    this.#evictTo(this.maxBytes - field.sizeBytes);
    if (field.sizeBytes > this.maxBytes) return false;
    if (this.length === this.#ring.length) this.#grow();
    this.#ring[this.#head] = field;
    this.#head = (this.#head + 1) & (this.#ring.length - 1);
    this.length += 1;
    this.sizeBytes += field.sizeBytes;
    return true;
  }

  resize(maxBytes: number): void {
    this.generation += 1;
    this.maxBytes = maxBytes;
    this.#evictTo(maxBytes);
  }

  #evictTo(sizeBytes: number): void {
    while (this.sizeBytes > sizeBytes && this.length > 0) {
      const slot = (this.#head - this.length) & (this.#ring.length - 1);
      const field = this.#ring[slot] as HeaderField;
      this.#ring[slot] = undefined;
      this.length -= 1;
      this.sizeBytes -= field.sizeBytes;
      this.#onEvict?.(field);
    }
  }

  #grow(): void {
    const entries = Array.from({ length: this.length }, (_, index) =>
      this.at(this.length - 1 - index),
    );
    this.#ring = [...entries, ...Array.from<undefined>({ length: this.length })];
    this.#head = this.length;
  }
}
