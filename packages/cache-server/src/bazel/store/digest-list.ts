import type { Sha256Key } from "./sha256-key.ts";

/** A hash and a size. */
const RECORD_BYTES = 40;

/**
 * Digests in one piece of memory, 32 bytes of hash and 8 of size each: the form in which the index keeps what
 * an ActionResult refers to, compact for trees of a hundred thousand files.
 */
export class DigestList {
  #bytes: Buffer;
  #length = 0;

  constructor(bytes: Uint8Array = new Uint8Array(0)) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#length = bytes.byteLength / RECORD_BYTES;
  }

  get length(): number {
    return this.#length;
  }

  push(key: Sha256Key, sizeBytes: number): void {
    const at = this.#length * RECORD_BYTES;
    if (at === this.#bytes.length) this.#grow();
    this.#bytes.set(key.bytes, at);
    this.#bytes.writeDoubleLE(sizeBytes, at + 32);
    this.#length += 1;
  }

  /** Fills `key` with a digest's hash and gives its size. */
  read(index: number, key: Sha256Key): number {
    const at = index * RECORD_BYTES;
    key.readBytes(this.#bytes, at);
    return this.#bytes.readDoubleLE(at + 32);
  }

  /** A copy of exactly its bytes, as the index keeps them. */
  toBytes(): Uint8Array {
    return new Uint8Array(this.#bytes.subarray(0, this.#length * RECORD_BYTES));
  }

  #grow(): void {
    const larger = Buffer.allocUnsafeSlow(Math.max(4 * RECORD_BYTES, 2 * this.#bytes.length));
    larger.set(this.#bytes);
    this.#bytes = larger;
  }
}
