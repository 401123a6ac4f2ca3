import { DynamicTable } from "./dynamic-table.ts";
import { createHeaderField, type HeaderField } from "./header-field.ts";
import { encodeHuffman, huffmanLength } from "./huffman.ts";
import { writeInteger } from "./integer.ts";
import { STATIC_TABLE } from "./static-table.ts";

/** Names and values to send; names in lower case, values as characters 0 to 255. */
export type FieldList = ReadonlyArray<readonly [name: string, value: string]>;

/** Values that hardly repeat would only push out those that do. */
const UNINDEXED = new Set(["grpc-message", "grpc-timeout", "content-length"]);

const STATIC_INDEX = new Map<string, number>();
const STATIC_NAME_INDEX = new Map<string, number>();
for (const [index, [name, value]] of STATIC_TABLE.entries()) {
  STATIC_INDEX.set(keyOf(name, value), index + 1);
  if (!STATIC_NAME_INDEX.has(name)) STATIC_NAME_INDEX.set(name, index + 1);
}

interface MemoEntry {
  readonly generation: number;
  readonly block: Buffer;
}

/** The encoding half of HPACK (RFC 7541) for one connection. Blocks must be sent in the order they were made. */
export class HpackEncoder {
  readonly #maxTableBytes: number;
  /** Insertion numbers, counted from the first. */
  readonly #entries = new Map<string, number>();
  readonly #table: DynamicTable;
  readonly #memo = new Map<FieldList, MemoEntry>();
  #insertions = 0;
  /** Table sizes to announce at the start of the next block: the smallest since the last one, and the current. */
  #smallestBytes: number | undefined;
  #target: Buffer = Buffer.allocUnsafe(1024);

  /** @param maxTableBytes how much memory the table may take, whatever the other end allows */
  constructor(maxTableBytes: number) {
    this.#maxTableBytes = maxTableBytes;
    this.#table = new DynamicTable(4096, (field) => {
      this.#entries.delete(keyOf(field.name, field.value));
    });
    if (maxTableBytes < 4096) this.setPeerTableBytes(4096);
  }

  /** Applies the other end's SETTINGS_HEADER_TABLE_SIZE. */
  setPeerTableBytes(bytes: number): void {
    const sizeBytes = Math.min(bytes, this.#maxTableBytes);
    if (sizeBytes === this.#table.maxBytes) return;
    this.#smallestBytes = Math.min(this.#smallestBytes ?? sizeBytes, sizeBytes);
    this.#table.resize(sizeBytes);
  }

  /**
   * Encodes a list that the caller keeps and sends again: while the table stays as it is, the bytes of last time
   * are returned. The number of such lists must be bounded.
   */
  encodeKept(fields: FieldList): Buffer {
    const known = this.#memo.get(fields);
    if (known?.generation === this.#table.generation && this.#smallestBytes === undefined) {
      return known.block;
    }
    const generation = this.#table.generation;
    const isPlain = this.#smallestBytes === undefined;
    const block = this.encode(fields);
    if (isPlain && this.#table.generation === generation)
      this.#memo.set(fields, { generation, block });
    return block;
  }

  /** Encodes one list into a buffer of its own. */
  encode(fields: FieldList): Buffer {
    let bound = 16;
    for (const [name, value] of fields) bound += name.length + value.length + 16;
    if (this.#target.length < bound) this.#target = Buffer.allocUnsafe(bound * 2);
    let position = this.#writeSizeUpdates();
    for (const [name, value] of fields) position = this.#writeField(position, name, value);
    return Buffer.from(this.#target.subarray(0, position));
  }

  #writeSizeUpdates(): number {
    if (this.#smallestBytes === undefined) return 0;
    let position = 0;
    if (this.#smallestBytes < this.#table.maxBytes) {
      position = writeInteger(this.#target, position, 0x20, 5, this.#smallestBytes);
    }
    this.#smallestBytes = undefined;
    return writeInteger(this.#target, position, 0x20, 5, this.#table.maxBytes);
  }

  #writeField(start: number, name: string, value: string): number {
    const key = keyOf(name, value);
    const index = STATIC_INDEX.get(key) ?? this.#dynamicIndex(key);
    if (index !== undefined) return writeInteger(this.#target, start, 0x80, 7, index);
    const field = createHeaderField(name, value);
    const nameIndex = STATIC_NAME_INDEX.get(name) ?? 0;
    const isIndexed = this.#isWorthIndexing(field);
    let position = isIndexed
      ? writeInteger(this.#target, start, 0x40, 6, nameIndex)
      : writeInteger(this.#target, start, 0, 4, nameIndex);
    if (nameIndex === 0) position = this.#writeString(position, name);
    position = this.#writeString(position, value);
    if (isIndexed && this.#insert(field)) this.#entries.set(key, this.#insertions - 1);
    return position;
  }

  #insert(field: HeaderField): boolean {
    const isInserted = this.#table.insert(field);
    if (isInserted) this.#insertions += 1;
    return isInserted;
  }

  #isWorthIndexing({ name, sizeBytes }: HeaderField): boolean {
    return !UNINDEXED.has(name) && sizeBytes * 2 <= this.#table.maxBytes;
  }

  #dynamicIndex(key: string): number | undefined {
    const insertion = this.#entries.get(key);
    if (insertion === undefined) return undefined;
    return STATIC_TABLE.length + this.#insertions - insertion;
  }

  #writeString(start: number, text: string): number {
    const coded = huffmanLength(text);
    if (coded < text.length) {
      return encodeHuffman(text, this.#target, writeInteger(this.#target, start, 0x80, 7, coded));
    }
    const position = writeInteger(this.#target, start, 0, 7, text.length);
    return position + this.#target.write(text, position, "latin1");
  }
}

function keyOf(name: string, value: string): string {
  return `${name}\0${value}`;
}
