import type { DigestList } from "./digest-list.ts";
import { HASH_CHARACTERS, NOT_HEXADECIMAL, describeLength, describeSize } from "./digest.ts";
import type { WireReader } from "./wire-reader.ts";

const HASH = 0x0a;
const SIZE_BYTES = 0x10;
const KNOWN = (1 << 1) | (1 << 2);

/**
 * A `Digest` that is being read. A message may hold the parts of one digest in several places;
 * what comes later wins, part by part.
 */
export class DigestFields {
  #hashAt = 0;
  #hashLength = 0;
  #sizeBytes = 0;

  /** Reads a digest of its own. */
  read(reader: WireReader): void {
    this.clear();
    this.merge(reader);
  }

  /** Reads more of the same digest. */
  merge(reader: WireReader): void {
    const outer = reader.enter();
    for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
      if (tag === HASH) {
        this.#hashLength = reader.length();
        this.#hashAt = reader.offset;
        reader.offset += this.#hashLength;
      } else if (tag === SIZE_BYTES) this.#sizeBytes = reader.int64();
      else reader.skip(tag, KNOWN);
    }
    reader.leave(outer);
  }

  /** Forgets what was read. */
  clear(): void {
    this.#hashLength = 0;
    this.#sizeBytes = 0;
  }

  /** Nothing was read, or a digest without any part, which some clients write for "none". */
  get isAbsent(): boolean {
    return this.#hashLength === 0 && this.#sizeBytes === 0;
  }

  /**
   * Adds the digest to `list`.
   *
   * @throws {CacheError} `INVALID` when it is no SHA-256 with a size; `field` says where it stood.
   */
  pushTo(list: DigestList, reader: WireReader, field: string, index?: number): void {
    if (this.#hashLength !== HASH_CHARACTERS) {
      throw reader.invalidField(at(field, index), describeLength(this.#hashLength));
    }
    const problem = describeSize(this.#sizeBytes);
    if (problem !== undefined) throw reader.invalidField(at(field, index), problem);
    if (!list.tryPushHash(reader.bytes, this.#hashAt, this.#sizeBytes)) {
      throw reader.invalidField(at(field, index), NOT_HEXADECIMAL);
    }
  }
}

function at(field: string, index: number | undefined): string {
  return index === undefined ? field : `${field}[${index}]`;
}
