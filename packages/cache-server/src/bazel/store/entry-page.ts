/** In the order in which {@link ENTRY_HEX} writes them: the hash, the scope, the size, the last use, the object. */
const ENTRY_BYTES = 52;
const SCOPE = 32;
const SIZE = 36;
const ACCESSED = 44;
const OBJECT = 48;
const TWO_TO_32 = 2 ** 32;

/** SQL for an entry in hexadecimal, of the columns hash, scope_id, size_bytes, accessed and object_id. */
export const ENTRY_HEX =
  "hex(hash) || printf('%08x%016x%08x%08x', scope_id, size_bytes, accessed, iif(object_id < 4294967296, object_id, 0))";

/** Rows of an index as one piece of memory: an object for each of a million rows would be garbage of 200 MiB. */
export class EntryPage {
  readonly length: number;
  /** The hashes begin at {@link hashAt}. */
  readonly words: Int32Array;
  readonly #bytes: Buffer;

  constructor(hex: string) {
    this.length = hex.length / (2 * ENTRY_BYTES);
    this.#bytes = Buffer.alloc(hex.length / 2);
    this.#bytes.write(hex, "hex");
    this.words = new Int32Array(this.#bytes.buffer, this.#bytes.byteOffset, hex.length / 8);
  }

  /** The word that a hash begins at. */
  hashAt(index: number): number {
    return (index * ENTRY_BYTES) / 4;
  }

  hash(index: number): Buffer {
    return this.#bytes.subarray(index * ENTRY_BYTES, index * ENTRY_BYTES + SCOPE);
  }

  scopeId(index: number): number {
    return this.#bytes.readUInt32BE(index * ENTRY_BYTES + SCOPE);
  }

  sizeBytes(index: number): number {
    const at = index * ENTRY_BYTES + SIZE;
    return this.#bytes.readUInt32BE(at) * TWO_TO_32 + this.#bytes.readUInt32BE(at + 4);
  }

  /** The id of the object with the bytes; 0 when it has none, or one beyond 32 bits. */
  objectId(index: number): number {
    return this.#bytes.readUInt32BE(index * ENTRY_BYTES + OBJECT);
  }

  accessed(index: number): number {
    return this.#bytes.readUInt32BE(index * ENTRY_BYTES + ACCESSED);
  }
}
