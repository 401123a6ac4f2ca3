import { isUtf8 } from "node:buffer";

import { CacheError } from "@glorious/core";

/** Wire types of protobuf; groups (3 and 4) are no part of any contract here. */
export const VARINT = 0;
export const FIXED64 = 1;
export const BYTES = 2;
export const FIXED32 = 5;

const MAX_VARINT_BYTES = 10;
const MAX_TAG_BYTES = 5;
const TWO_TO_32 = 2 ** 32;

/**
 * Reads a protobuf message in place: no objects, no copies, every length checked against what is
 * there before it is believed.
 *
 * A field of the contract with another wire type than the contract's is refused, where protobuf
 * would call it unknown: no client sends one, and what we store is read by others.
 */
export class WireReader {
  readonly bytes: Buffer;
  /** The next byte to read. */
  offset = 0;
  /** Where the message that is being read ends. */
  end: number;
  readonly #name: string;
  /** Low half of the last number of more than one byte. */
  #low = 0;

  /** @param name The message's name, for errors. */
  constructor(message: Uint8Array, name: string) {
    this.bytes = Buffer.isBuffer(message)
      ? message
      : Buffer.from(message.buffer, message.byteOffset, message.length);
    this.end = this.bytes.length;
    this.#name = name;
  }

  /** The next field's number and wire type, as on the wire; 0 at the end of the message. */
  tag(): number {
    if (this.offset >= this.end) return 0;
    const first = this.bytes[this.offset]!;
    if (first < 0x80 && first > 7) {
      this.offset++;
      return first;
    }
    const start = this.offset;
    const tag = this.#varint();
    if (tag < 8 || tag >= TWO_TO_32 || this.offset - start > MAX_TAG_BYTES) {
      throw this.invalid("what should be a field is none", start);
    }
    return tag;
  }

  /** A length, which the message is long enough for. */
  length(): number {
    const start = this.offset;
    const length = this.#varint();
    if (length < 0 || length > this.end - this.offset) {
      throw this.invalid(
        `a field says it has ${length} bytes where ${this.end - this.offset} are left`,
        start,
      );
    }
    return length;
  }

  /** Narrows the reader to the message that starts here; {@link leave} takes what this returns. */
  enter(): number {
    const size = this.length();
    const outer = this.end;
    this.end = this.offset + size;
    return outer;
  }

  /** Goes on after a message that was read to its end. */
  leave(outer: number): void {
    this.end = outer;
  }

  /** A view of the bytes of a field. */
  view(): Buffer {
    const size = this.length();
    const view = this.bytes.subarray(this.offset, this.offset + size);
    this.offset += size;
    return view;
  }

  /** A text field. */
  text(): string {
    const size = this.length();
    const from = this.offset;
    this.offset += size;
    return this.textBetween(from, from + size);
  }

  /** The text in a range of the bytes. */
  textBetween(from: number, to: number): string {
    for (let at = from; at < to; at++) {
      if (this.bytes[at]! >= 0x80) {
        this.requireUtf8(from, to);
        return this.bytes.toString("utf8", from, to);
      }
    }
    return this.bytes.toString("latin1", from, to);
  }

  /** Refuses a range that is not UTF-8. */
  requireUtf8(from: number, to: number): void {
    if (!isUtf8(this.bytes.subarray(from, to))) throw this.invalid("a text is not UTF-8", from);
  }

  /** A signed 64-bit number, exact up to 2^53. */
  int64(): number {
    return this.#varint();
  }

  /** A signed 32-bit number or a value of an enum. */
  int32(): number {
    // What does not fit is cut to its low half, as protobuf does.
    const value = this.#varint();
    return value >= 0 && value < 0x80 ? value : this.#low;
  }

  /** A truth value. */
  bool(): boolean {
    return this.#varint() !== 0;
  }

  /** Steps over a field that the contract of the message does not have. */
  skip(tag: number, known: number): void {
    const number = tag >>> 3;
    if (number < 32 && (known >>> number) & 1) {
      throw this.invalid(`field ${number} is encoded with wire type ${tag & 7}`);
    }
    this.skipValue(tag);
  }

  /** Steps over the value of a field. */
  skipValue(tag: number): void {
    switch (tag & 7) {
      case VARINT:
        this.#varint();
        return;
      case FIXED64:
        this.#advance(8);
        return;
      case BYTES: {
        const size = this.length();
        this.offset += size;
        return;
      }
      case FIXED32:
        this.#advance(4);
        return;
      default:
        throw this.invalid(`field ${tag >>> 3} has the wire type ${tag & 7}`);
    }
  }

  /** The error for what is wrong here. */
  invalid(problem: string, offset: number = this.offset): CacheError {
    return new CacheError("INVALID", `${this.#name}: ${problem} (byte ${offset})`);
  }

  /** The error for what is wrong with a field. */
  invalidField(field: string, problem: string): CacheError {
    return new CacheError("INVALID", `${this.#name}.${field}: ${problem}`);
  }

  #advance(size: number): void {
    if (this.end - this.offset < size) throw this.invalid("the message ends within a field");
    this.offset += size;
  }

  #varint(): number {
    let low = 0;
    let high = 0;
    const start = this.offset;
    for (let count = 0; count < MAX_VARINT_BYTES; count++) {
      if (this.offset >= this.end) throw this.invalid("the message ends within a number", start);
      const byte = this.bytes[this.offset++]!;
      if (byte < 0x80 && count === 0) return byte;
      const bits = byte & 0x7f;
      if (count < 4) low |= bits << (7 * count);
      else if (count === 4) {
        low |= bits << 28;
        high = bits >>> 4;
      } else high |= bits << (7 * count - 32);
      if (byte < 0x80) {
        this.#low = low;
        return high * TWO_TO_32 + (low >>> 0);
      }
    }
    throw this.invalid("a number has more than 10 bytes", start);
  }
}
