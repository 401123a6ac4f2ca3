import type { MemoryShare } from "../memory/memory-pool.ts";

const HEADER_BYTES = 8;
const ALIGNMENT = 8;
/** No second part: what a length of it says otherwise. */
const NONE = 2 ** 32 - 1;

/** Two pieces of bytes that belong together. */
export interface LoggedRecord {
  readonly main: Uint8Array;
  /** Begins at a multiple of eight bytes of its memory. */
  readonly extra: Uint8Array | null;
}

/**
 * Keeps records in memory, one behind the other in large pieces and without an object for any: hundreds of
 * thousands cost the garbage collector nothing. The oldest go when the newest need their room.
 *
 * A record is asked for by its place, a number from 1 to below 2^32 that no other record gets.
 */
export class RecordLog {
  readonly #pieceBytes: number;
  readonly #maxPieces: number;
  readonly #maxRecordBytes: number;
  readonly #pieces: Buffer[] = [];
  /** How many pieces went before the first one here. */
  #goneBefore = 0;
  /** Where the next record begins in the last piece. */
  #end: number;

  readonly #memory: MemoryShare;

  constructor(options: {
    readonly maxBytes: number;
    readonly pieceBytes?: number;
    readonly memory: MemoryShare;
  }) {
    const { maxBytes, pieceBytes = 2 ** 18 } = options;
    this.#memory = options.memory;
    this.#pieceBytes = pieceBytes;
    this.#maxPieces = Math.floor(maxBytes / pieceBytes);
    // A piece is left with room to spare when the next record is too long for it.
    this.#maxRecordBytes = pieceBytes / 16;
    this.#end = pieceBytes;
  }

  /** Whether a record of this many bytes would make another go. */
  isFullFor(bytes: number): boolean {
    if (this.#end + aligned(bytes) <= this.#pieceBytes) return false;
    return this.#pieces.length >= this.#maxPieces || !this.#memory.hasRoom(this.#pieceBytes);
  }

  /** Bytes of memory that it takes. */
  get bytes(): number {
    return this.#pieces.length * this.#pieceBytes;
  }

  /** Gives back at least so many bytes, as far as it has them: the oldest records go. */
  release(sizeBytes: number): void {
    const leftBytes = this.bytes - sizeBytes;
    while (this.#pieces.length > 0 && this.bytes > leftBytes) this.#dropPiece();
  }

  /** Adds a record and returns its place; 0 when it is too long, or the places are used up. */
  append({ main, extra }: LoggedRecord): number {
    const bytes = aligned(main.length + (extra?.length ?? 0));
    if (bytes > this.#maxRecordBytes || this.#maxPieces === 0) return 0;
    const isNext = this.#end + bytes > this.#pieceBytes;
    const numbers = (2 ** 32 * ALIGNMENT) / this.#pieceBytes;
    if (this.#goneBefore + this.#pieces.length + (isNext ? 1 : 0) >= numbers) return 0;
    if (isNext && !this.#addPiece()) return 0;
    const number = this.#goneBefore + this.#pieces.length;
    const at = this.#end;
    const piece = this.#pieces.at(-1) as Buffer;
    piece.writeUInt32LE(main.length, at);
    piece.writeUInt32LE(extra === null ? NONE : extra.length, at + 4);
    if (extra !== null) piece.set(extra, at + HEADER_BYTES);
    piece.set(main, at + HEADER_BYTES + (extra?.length ?? 0));
    this.#end += bytes;
    return (number * this.#pieceBytes + at) / ALIGNMENT;
  }

  /** The record of a place, as it lies in memory, which does not change; `undefined` when it went. */
  read(place: number): LoggedRecord | undefined {
    const position = place * ALIGNMENT;
    const number = Math.floor(position / this.#pieceBytes);
    const piece = this.#pieces[number - this.#goneBefore - 1];
    if (piece === undefined) return undefined;
    const at = position - number * this.#pieceBytes;
    const mainBytes = piece.readUInt32LE(at);
    const extraBytes = piece.readUInt32LE(at + 4);
    const start = at + HEADER_BYTES;
    const mainAt = extraBytes === NONE ? start : start + extraBytes;
    return {
      main: piece.subarray(mainAt, mainAt + mainBytes),
      extra: extraBytes === NONE ? null : piece.subarray(start, mainAt),
    };
  }

  /** False when there is no memory for it. */
  #addPiece(): boolean {
    const isFull = this.#pieces.length >= this.#maxPieces;
    if (isFull || !this.#memory.makeRoom(this.#pieceBytes)) {
      if (this.#pieces.length === 0) return false;
      this.#dropPiece();
    }
    this.#memory.take(this.#pieceBytes);
    this.#pieces.push(Buffer.allocUnsafeSlow(this.#pieceBytes));
    this.#end = 0;
    return true;
  }

  /** Never written over: answers that are on their way may still be parts of it. */
  #dropPiece(): void {
    this.#pieces.shift();
    this.#goneBefore += 1;
    this.#memory.take(-this.#pieceBytes);
    if (this.#pieces.length === 0) this.#end = this.#pieceBytes;
  }
}

function aligned(bytes: number): number {
  return Math.ceil((HEADER_BYTES + bytes) / ALIGNMENT) * ALIGNMENT;
}
