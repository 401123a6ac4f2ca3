import { HpackDecoder } from "../hpack/decoder.ts";
import type { HeaderList } from "../hpack/header-list.ts";
import type { ConnectionLimits } from "./limits.ts";
import { ERROR, FLAG, Http2ConnectionError, protocolError } from "./protocol.ts";

/** A CONTINUATION that goes on and is shorter than this is as good as an empty one for keeping us busy. */
const SHORT_PIECE_BYTES = 1024;

/** Puts header blocks together from HEADERS and CONTINUATION, and decodes them. */
export class HeaderBlockReader {
  /** The stream whose block goes on in CONTINUATION frames; 0 for none. Nothing else may come between. */
  streamId = 0;
  /** Whether the block that was read last came with END_STREAM. */
  isEnd = false;
  readonly #decoder: HpackDecoder;
  readonly #maxBytes: number;
  readonly #onShortPiece: () => void;
  #pieces: Buffer[] = [];
  #bytes = 0;

  constructor(limits: ConnectionLimits, onShortPiece: () => void) {
    this.#decoder = new HpackDecoder(limits.headerTableBytes, limits.maxHeaderListBytes);
    this.#maxBytes = limits.maxHeaderBlockBytes;
    this.#onShortPiece = onShortPiece;
  }

  /** @returns the fields, or undefined when the block goes on */
  readHeaders(
    flags: number,
    streamId: number,
    bytes: Uint8Array,
    start: number,
    end: number,
  ): HeaderList | undefined {
    if (streamId === 0) throw protocolError("HEADERS on stream 0");
    let from = start;
    let to = end;
    if ((flags & FLAG.PADDED) !== 0) {
      if (from >= to) throw tooShort();
      to -= bytes[from++] as number;
    }
    if ((flags & FLAG.PRIORITY) !== 0) from += 5;
    if (from > end) throw tooShort();
    if (from > to) throw protocolError("padding longer than its frame");
    this.isEnd = (flags & FLAG.END_STREAM) !== 0;
    this.#bytes = 0;
    this.#count(to - from);
    // Decoded whatever becomes of it: the tables of both ends must stay equal.
    if ((flags & FLAG.END_HEADERS) !== 0) return this.#decoder.decode(bytes, from, to);
    this.streamId = streamId;
    this.#pieces.push(Buffer.from(bytes.subarray(from, to)));
    return undefined;
  }

  /** @returns the fields, or undefined when the block goes on */
  readContinuation(
    flags: number,
    streamId: number,
    bytes: Uint8Array,
    start: number,
    end: number,
  ): HeaderList | undefined {
    if (this.streamId === 0 || streamId !== this.streamId) {
      throw protocolError("CONTINUATION without its HEADERS");
    }
    const isLast = (flags & FLAG.END_HEADERS) !== 0;
    if (!isLast && end - start < SHORT_PIECE_BYTES) this.#onShortPiece();
    this.#count(end - start);
    this.#pieces.push(Buffer.from(bytes.subarray(start, end)));
    if (!isLast) return undefined;
    const block = Buffer.concat(this.#pieces);
    this.#pieces = [];
    this.streamId = 0;
    return this.#decoder.decode(block, 0, block.length);
  }

  #count(length: number): void {
    this.#bytes += length;
    if (this.#bytes <= this.#maxBytes) return;
    throw new Http2ConnectionError(
      ERROR.ENHANCE_YOUR_CALM,
      `a header block of more than ${this.#maxBytes} bytes`,
    );
  }
}

function tooShort(): Http2ConnectionError {
  return new Http2ConnectionError(ERROR.FRAME_SIZE_ERROR, "HEADERS that are too short");
}
