import { Buffer } from "node:buffer";

import type { Actor } from "./actor.ts";

/** Reads that wait for the index; what is read beyond that until it is told is not recorded. */
const MAX_PENDING = 50_000;
const PLACES = 4096;
const HASH_WORDS = 8;

/** Who was given what in one scope, as the index is told. */
export interface ReadBatch {
  readonly scopeId: number;
  readonly actor: Actor;
  /** Of ActionResults, 32 bytes each. */
  readonly hashes: Uint8Array;
  /** Keys of values. */
  readonly keys: readonly string[];
}

/** Collects reads until the index is told; each reader's of an entry once in the meantime. Keeps nobody waiting. */
export class ReadBook {
  readonly isEnabled: boolean;
  /** Grows whenever the index was told. */
  epoch = 1;
  /** Reads that were too many to note. */
  dropped = 0;
  #pending = 0;
  #waiting: Set<ReadNotes> = new Set();

  constructor(isEnabled: boolean) {
    this.isEnabled = isEnabled;
  }

  /** Makes room for one read. */
  take(notes: ReadNotes): boolean {
    if (this.#pending >= MAX_PENDING) {
      this.dropped += 1;
      return false;
    }
    this.#pending += 1;
    this.#waiting.add(notes);
    return true;
  }

  /** What was noted since the last time. */
  drain(): ReadBatch[] {
    const batches = [...this.#waiting].map((notes) => notes.drain());
    this.#waiting = new Set();
    this.#pending = 0;
    this.dropped = 0;
    this.epoch += 1;
    return batches;
  }
}

/** The reads of one actor in one scope. */
export class ReadNotes {
  readonly #book: ReadBook;
  readonly #actor: Actor;
  readonly #scopeId: number;
  /** A second word of the hash that was noted last at the place that the first one gives. */
  #seen: Int32Array | undefined;
  #seenKeys: Set<string> = new Set();
  #epoch = 0;
  #hashes: Int32Array = new Int32Array(HASH_WORDS * 8);
  #count = 0;

  constructor(book: ReadBook, actor: Actor, scopeId: number) {
    this.#book = book;
    this.#actor = actor;
    this.#scopeId = scopeId;
  }

  /** An ActionResult was given, whose hash begins at a word. */
  noteAction(words: Int32Array, from: number): void {
    if (!this.#book.isEnabled) return;
    this.#begin();
    const seen = (this.#seen ??= new Int32Array(PLACES));
    const place = (words[from] as number) & (PLACES - 1);
    const mark = (words[from + 1] as number) | 1;
    if (seen[place] === mark || !this.#book.take(this)) return;
    seen[place] = mark;
    const at = HASH_WORDS * this.#count;
    if (at === this.#hashes.length) {
      const larger = new Int32Array(2 * at);
      larger.set(this.#hashes);
      this.#hashes = larger;
    }
    for (let word = 0; word < HASH_WORDS; word += 1) {
      this.#hashes[at + word] = words[from + word] as number;
    }
    this.#count += 1;
  }

  noteValue(key: string): void {
    if (!this.#book.isEnabled) return;
    this.#begin();
    if (this.#seenKeys.has(key) || !this.#book.take(this)) return;
    this.#seenKeys.add(key);
  }

  drain(): ReadBatch {
    const bytes = Buffer.from(this.#hashes.buffer, 0, 4 * HASH_WORDS * this.#count);
    const batch = {
      scopeId: this.#scopeId,
      actor: this.#actor,
      hashes: new Uint8Array(bytes),
      keys: [...this.#seenKeys],
    };
    this.#hashes = new Int32Array(HASH_WORDS * 8);
    this.#count = 0;
    this.#seenKeys = new Set();
    return batch;
  }

  /** Who was given something before the index was told may be given something else under its name since. */
  #begin(): void {
    if (this.#epoch === this.#book.epoch) return;
    this.#epoch = this.#book.epoch;
    this.#seen?.fill(0);
  }
}
