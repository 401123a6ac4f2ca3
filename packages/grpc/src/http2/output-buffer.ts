import { FRAME_HEADER_BYTES } from "./protocol.ts";

/** A connection that says little needs little; each further buffer is twice as large. */
const FIRST_SLAB_BYTES = 2 * 1024;
const LARGEST_SLAB_BYTES = 64 * 1024;
/** Below it a copy costs less than one more piece for the transport. */
export const COPY_BELOW_BYTES = 4096;

/** Called when the bytes before it were written, and may be used for something else. */
export type SentMark = () => void;

/** What is to be written next: small things side by side in one buffer, large ones as they are. */
export class OutputBuffer {
  /** Everything that was not taken. */
  pendingBytes = 0;
  /** The buffer to write into after {@link reserve}. */
  slab: Buffer = EMPTY;
  /** Where the next byte goes; the writer moves it. */
  position = 0;
  #slabBytes = FIRST_SLAB_BYTES;
  #start = 0;
  #pieces: Uint8Array[] = [];
  #marks: SentMark[] = [];

  /** Makes room for `length` bytes in {@link slab} at {@link position}, and counts them as written. */
  reserve(length: number): void {
    this.pendingBytes += length;
    if (this.position + length <= this.slab.length) return;
    this.#endPiece();
    this.slab = Buffer.allocUnsafeSlow(Math.max(this.#slabBytes, length));
    this.#slabBytes = Math.min(LARGEST_SLAB_BYTES, this.#slabBytes * 2);
    this.position = 0;
    this.#start = 0;
  }

  /** Appends bytes that do not change afterwards: by copy when they are few. */
  append(bytes: Uint8Array, start: number, end: number): void {
    const length = end - start;
    if (length < COPY_BELOW_BYTES) {
      this.reserve(length);
      this.copy(bytes, start, end);
    } else {
      this.#endPiece();
      this.pendingBytes += length;
      this.#pieces.push(length === bytes.length ? bytes : bytes.subarray(start, end));
    }
  }

  /** Copies into reserved room. */
  copy(bytes: Uint8Array, start: number, end: number): void {
    const slab = this.slab;
    let position = this.position;
    if (end - start <= 48) {
      for (let index = start; index < end; index += 1) slab[position++] = bytes[index] as number;
    } else {
      slab.set(end - start === bytes.length ? bytes : bytes.subarray(start, end), position);
      position += end - start;
    }
    this.position = position;
  }

  /** Writes a frame header into reserved room. */
  frameHeader(length: number, type: number, flags: number, streamId: number): void {
    const slab = this.slab;
    const position = this.position;
    slab[position] = length >>> 16;
    slab[position + 1] = length >>> 8;
    slab[position + 2] = length;
    slab[position + 3] = type;
    slab[position + 4] = flags;
    slab[position + 5] = streamId >>> 24;
    slab[position + 6] = streamId >>> 16;
    slab[position + 7] = streamId >>> 8;
    slab[position + 8] = streamId;
    this.position = position + FRAME_HEADER_BYTES;
  }

  /** Writes 32 bits into reserved room. */
  uint32(value: number): void {
    this.position = this.slab.writeUInt32BE(value, this.position);
  }

  /** Has somebody called when everything so far was written. */
  mark(mark: SentMark): void {
    this.#marks.push(mark);
  }

  /** Who is to be called when what {@link take} gave was written. */
  takeMarks(): readonly SentMark[] {
    if (this.#marks.length === 0) return NOBODY;
    const marks = this.#marks;
    this.#marks = [];
    return marks;
  }

  /** Everything in order; the caller owns it. */
  take(): Uint8Array[] {
    this.#endPiece();
    const pieces = this.#pieces;
    this.#pieces = [];
    this.pendingBytes = 0;
    return pieces;
  }

  #endPiece(): void {
    if (this.position > this.#start)
      this.#pieces.push(this.slab.subarray(this.#start, this.position));
    this.#start = this.position;
  }
}

const EMPTY = Buffer.alloc(0);
const NOBODY: readonly SentMark[] = [];
