import { CacheError } from "@glorious/core";

import {
  type DigestKey,
  EMPTY_DIGEST,
  HASH_CHARACTERS,
  KEY_BYTES,
  NOT_HEXADECIMAL,
  decodeHash,
  describeLength,
  describeSize,
  formatHash,
  parseHash,
} from "./digest.ts";

const KEY_WORDS: number = KEY_BYTES / Int32Array.BYTES_PER_ELEMENT;
const FIRST_CAPACITY = 16;
/** A list that was longer does not keep its memory. */
const MAX_KEPT_CAPACITY = 16_384;
/** Many lists stay empty, such as those of the trees of an ActionResult without any. */
const NO_WORDS = new Int32Array();
const NO_BYTES = new Uint8Array(NO_WORDS.buffer);
const NO_SIZES = new Float64Array();
const EMPTY_KEY = parseHash(EMPTY_DIGEST.hash);

/**
 * Digests side by side in one piece of memory, for use over and over: a message with thousands of
 * them is read without making one object for each.
 */
export class DigestList {
  /** How many there are. */
  length = 0;
  /** The keys as words, eight each, to hash and compare; replaced when the list grows. */
  words: Int32Array = NO_WORDS;
  /** The keys as bytes, over the same memory. */
  bytes: Uint8Array = NO_BYTES;
  #sizes = NO_SIZES;

  /** Forgets them all; the memory stays, unless it is much. */
  clear(): void {
    this.length = 0;
    if (this.#sizes.length > MAX_KEPT_CAPACITY) this.#allocate(FIRST_CAPACITY);
  }

  /** Adds a key of 32 bytes. */
  push(key: DigestKey, sizeBytes: number): void {
    if (key.length !== KEY_BYTES) throw new Error(`a key has 32 bytes, this one ${key.length}`);
    this.#grow();
    this.bytes.set(key, this.length * KEY_BYTES);
    this.#sizes[this.length++] = sizeBytes;
  }

  /**
   * Adds a hash in hexadecimal.
   *
   * @throws {CacheError} `INVALID` when it is not 64 lowercase hexadecimal characters.
   */
  pushHash(hash: string, sizeBytes: number): void {
    if (hash.length !== HASH_CHARACTERS) {
      throw new CacheError("INVALID", describeLength(hash.length));
    }
    if (!this.tryPushHash(Buffer.from(hash, "utf8"), 0, sizeBytes)) {
      throw new CacheError("INVALID", NOT_HEXADECIMAL);
    }
  }

  /**
   * Adds the digest of a message that the generated code read; `field` says where it stood.
   *
   * @throws {CacheError} `INVALID` when it is no SHA-256 with a size.
   */
  pushMessage(
    digest: { readonly hash: string; readonly sizeBytes: bigint } | undefined,
    field: string,
  ): void {
    const { hash, sizeBytes } = digest ?? { hash: "", sizeBytes: 0n };
    const size = Number(sizeBytes);
    const problem =
      hash.length === HASH_CHARACTERS ? describeSize(size) : describeLength(hash.length);
    if (problem !== undefined) throw new CacheError("INVALID", `${field}: ${problem}`);
    if (this.tryPushHash(Buffer.from(hash, "utf8"), 0, size)) return;
    throw new CacheError("INVALID", `${field}: ${NOT_HEXADECIMAL}`);
  }

  /** Adds the 64 characters at `offset`; false, and nothing added, when they are not a hash. */
  tryPushHash(source: Uint8Array, offset: number, sizeBytes: number): boolean {
    this.#grow();
    if (!decodeHash(source, offset, this.bytes, this.length * KEY_BYTES)) return false;
    this.#sizes[this.length++] = sizeBytes;
    return true;
  }

  /** Adds all of another list. */
  append(other: DigestList): void {
    for (let index = 0; index < other.length; index++) {
      this.push(other.keyView(index), other.sizeBytes(index));
    }
  }

  /** A copy of a key, to keep. */
  key(index: number): DigestKey {
    return this.bytes.slice(index * KEY_BYTES, (index + 1) * KEY_BYTES);
  }

  /** A look at a key, good until the list changes: to bind in a statement at once. */
  keyView(index: number): DigestKey {
    return this.bytes.subarray(index * KEY_BYTES, (index + 1) * KEY_BYTES);
  }

  /** A hash in hexadecimal. */
  hash(index: number): string {
    return formatHash(this.keyView(index));
  }

  /** The size that belongs to a key, in bytes. */
  sizeBytes(index: number): number {
    return this.#sizes[index]!;
  }

  /** Whether this is {@link EMPTY_DIGEST}, which is there without being stored. */
  isEmptyBlob(index: number): boolean {
    if (this.#sizes[index] !== 0) return false;
    const start = index * KEY_BYTES;
    return EMPTY_KEY.every((byte, offset) => this.bytes[start + offset] === byte);
  }

  #grow(): void {
    if (this.length < this.#sizes.length) return;
    const { words } = this;
    const sizes = this.#sizes;
    this.#allocate(Math.max(FIRST_CAPACITY, sizes.length * 2));
    this.words.set(words);
    this.#sizes.set(sizes);
  }

  #allocate(capacity: number): void {
    this.words = new Int32Array(capacity * KEY_WORDS);
    this.bytes = new Uint8Array(this.words.buffer);
    this.#sizes = new Float64Array(capacity);
  }
}
