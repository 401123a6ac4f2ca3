import { DynamicTable } from "./dynamic-table.ts";
import { createHeaderField, type HeaderField, withValue } from "./header-field.ts";
import { HeaderList } from "./header-list.ts";
import { BAD_HUFFMAN, decodeHuffman, huffmanRoom } from "./huffman.ts";
import { IntegerReader } from "./integer.ts";
import { STATIC_TABLE } from "./static-table.ts";

const STATIC_FIELDS = STATIC_TABLE.map(([name, value]) => createHeaderField(name, value));

const MEMO_SLOTS = 32;
const MEMO_MAX_BLOCK_BYTES = 1024;
const MEMO_MAX_LIST_BYTES = 4096;
const HASHED_BYTES = 48;
/** From here on a call of Node's compares faster than a loop. */
const LONG_BLOCK_BYTES = 64;

interface MemoEntry {
  readonly generation: number;
  readonly block: Buffer;
  readonly list: HeaderList;
}

/** A header block that cannot be decoded: the tables of the two ends differ from here on. */
export class CompressionError extends Error {
  override readonly name = "CompressionError";
}

/** The decoding half of HPACK (RFC 7541) for one connection. Blocks come whole and in the order they arrived. */
export class HpackDecoder {
  readonly #table: DynamicTable;
  readonly #maxTableBytes: number;
  readonly #maxListBytes: number;
  readonly #integers = new IntegerReader();
  readonly #memo: Array<MemoEntry | undefined> = Array.from({ length: MEMO_SLOTS });
  #scratch: Buffer = Buffer.allocUnsafe(512);

  /**
   * @param maxTableBytes what our SETTINGS_HEADER_TABLE_SIZE allows, 4096 at least: the other end may use that
   * much before it has seen our settings
   * @param maxListBytes above it a list is dropped and marked; the block is decoded to its end all the same
   */
  constructor(maxTableBytes: number, maxListBytes: number) {
    this.#table = new DynamicTable(4096);
    this.#maxTableBytes = maxTableBytes;
    this.#maxListBytes = maxListBytes;
  }

  /** @throws {CompressionError} for whatever RFC 7541 calls a decoding error. */
  decode(bytes: Uint8Array, start: number, end: number): HeaderList {
    const length = end - start;
    if (length > MEMO_MAX_BLOCK_BYTES) return this.#decodeBlock(bytes, start, end);
    // Some of the bytes tell a client's blocks apart; whether it is the very block is looked at afterwards.
    const step = length <= HASHED_BYTES ? 1 : Math.floor(length / HASHED_BYTES);
    let hash = length;
    for (let index = start; index < end; index += step) {
      hash = (Math.imul(hash, 31) + (bytes[index] as number)) | 0;
    }
    const slot = (hash ^ (hash >>> 15)) & (MEMO_SLOTS - 1);
    const known = this.#memo[slot];
    const generation = this.#table.generation;
    if (known?.generation === generation && isEqual(known.block, bytes, start, length)) {
      return known.list;
    }
    const list = this.#decodeBlock(bytes, start, end);
    // Only a block that left the table alone means the same when it comes again.
    if (this.#table.generation === generation && list.sizeBytes <= MEMO_MAX_LIST_BYTES) {
      this.#memo[slot] = {
        generation,
        block: Buffer.from(bytes.subarray(start, end)),
        list,
      };
    }
    return list;
  }

  #decodeBlock(bytes: Uint8Array, start: number, end: number): HeaderList {
    const integers = this.#integers;
    integers.position = start;
    let fields: HeaderField[] = [];
    let sizeBytes = 0;
    let mayResize = true;
    while (integers.position < end) {
      const byte = bytes[integers.position] as number;
      let field: HeaderField;
      if (byte >= 0x80) {
        field = this.#at(integers.read(bytes, end, 7));
      } else if (byte >= 0x40) {
        field = this.#literal(bytes, end, 6);
        this.#table.insert(field);
      } else if (byte >= 0x20) {
        const size = integers.read(bytes, end, 5);
        if (!mayResize) throw new CompressionError("a table size update inside a header block");
        if (size < 0 || size > this.#maxTableBytes) {
          throw new CompressionError("a table size update above the allowed size");
        }
        this.#table.resize(size);
        continue;
      } else {
        field = this.#literal(bytes, end, 4);
      }
      mayResize = false;
      sizeBytes += field.sizeBytes;
      if (sizeBytes <= this.#maxListBytes) fields.push(field);
      else fields = [];
    }
    const isTooLarge = sizeBytes > this.#maxListBytes;
    return new HeaderList(isTooLarge ? [] : fields, sizeBytes, isTooLarge);
  }

  #at(index: number): HeaderField {
    const field =
      index > STATIC_FIELDS.length
        ? this.#table.at(index - STATIC_FIELDS.length - 1)
        : STATIC_FIELDS[index - 1];
    if (field === undefined) throw new CompressionError("an index that no table has");
    return field;
  }

  #literal(bytes: Uint8Array, end: number, prefixBits: number): HeaderField {
    const index = this.#integers.read(bytes, end, prefixBits);
    if (index < 0) throw new CompressionError("an integer that does not end or is too large");
    if (index > 0) return withValue(this.#at(index), this.#string(bytes, end));
    return createHeaderField(this.#string(bytes, end), this.#string(bytes, end));
  }

  #string(bytes: Uint8Array, end: number): string {
    const integers = this.#integers;
    const isHuffman = ((bytes[integers.position] as number) & 0x80) !== 0;
    const length = integers.read(bytes, end, 7);
    const start = integers.position;
    if (length < 0 || start + length > end) {
      throw new CompressionError("a string that ends beyond its header block");
    }
    integers.position = start + length;
    if (!isHuffman) return latin1(bytes, start, start + length);
    const room = huffmanRoom(length);
    if (this.#scratch.length < room) this.#scratch = Buffer.allocUnsafe(room);
    const decoded = decodeHuffman(bytes, start, start + length, this.#scratch);
    if (decoded === BAD_HUFFMAN) throw new CompressionError("a string that is no Huffman code");
    return this.#scratch.toString("latin1", 0, decoded);
  }
}

function latin1(bytes: Uint8Array, start: number, end: number): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset + start, end - start).toString("latin1");
}

function isEqual(known: Buffer, bytes: Uint8Array, start: number, length: number): boolean {
  if (known.length !== length) return false;
  if (length >= LONG_BLOCK_BYTES) return known.compare(bytes, start, start + length) === 0;
  for (let index = 0; index < length; index += 1) {
    if (known[index] !== bytes[start + index]) return false;
  }
  return true;
}
