import {
  ERROR,
  FLAG,
  FRAME,
  FRAME_HEADER_BYTES,
  Http2ConnectionError,
  PREFACE,
} from "./protocol.ts";

/** Who takes the frames. Byte ranges are views of what was received and hold during the call only. */
export interface FrameSink {
  /** Set by the sink when nothing more is to be parsed. */
  readonly isClosed: boolean;
  /** A DATA frame begins; `length` counts against flow control, `paddingBytes` of it carry nothing. */
  onDataStart(streamId: number, flags: number, length: number, paddingBytes: number): void;
  /** Bytes of the DATA frame that began last, as they come. */
  onDataBytes(bytes: Uint8Array, start: number, end: number): void;
  onDataEnd(streamId: number, flags: number): void;
  /** Any other frame of a known type, whole. */
  onFrame(
    type: number,
    flags: number,
    streamId: number,
    bytes: Uint8Array,
    start: number,
    end: number,
  ): void;
  /** The header of a frame whose type we do not know; its payload is skipped. */
  onUnknownFrame(type: number): void;
}

const MODE_PREFACE = 0;
const MODE_HEADER = 1;
const MODE_PAYLOAD = 2;
const MODE_PAD_LENGTH = 3;
const MODE_DATA = 4;
const MODE_SKIP = 5;

/** Cuts bytes into frames, however they arrive. DATA passes through without being gathered. */
export class FrameParser {
  readonly #sink: FrameSink;
  readonly #maxFrameBytes: number;
  #mode: number;
  /** Preface bytes seen, or bytes of {@link #carry} filled. */
  #filled = 0;
  #carry: Buffer = Buffer.allocUnsafe(FRAME_HEADER_BYTES);
  readonly #header: Buffer = this.#carry;
  #length = 0;
  #type = 0;
  #flags = 0;
  #streamId = 0;
  /** DATA: payload that is left without padding, and padding that is left. */
  #dataLeft = 0;
  #skipLeft = 0;
  /** Frames that began, the current one included. */
  frames = 0;

  /** @param expectsPreface whether the other end is a client */
  constructor(sink: FrameSink, maxFrameBytes: number, expectsPreface: boolean) {
    this.#sink = sink;
    this.#maxFrameBytes = maxFrameBytes;
    this.#mode = expectsPreface ? MODE_PREFACE : MODE_HEADER;
  }

  /** Whether a frame that must come whole has begun and is not complete. */
  get isInsideFrame(): boolean {
    return this.#mode === MODE_PAYLOAD || this.#filled > 0;
  }

  /** @throws {Http2ConnectionError} when the bytes are not frames, or the sink refuses one */
  receive(bytes: Uint8Array): void {
    let position = 0;
    while (!this.#sink.isClosed && (position < bytes.length || this.#isEmptyStep())) {
      switch (this.#mode) {
        case MODE_HEADER:
          position = this.#readHeader(bytes, position);
          break;
        case MODE_PAYLOAD:
          position = this.#readPayload(bytes, position);
          break;
        case MODE_DATA:
          position = this.#readData(bytes, position);
          break;
        case MODE_PAD_LENGTH:
          this.#startData(bytes[position++] as number, 1);
          break;
        case MODE_SKIP: {
          const end = Math.min(bytes.length, position + this.#skipLeft);
          this.#skipLeft -= end - position;
          position = end;
          if (this.#skipLeft === 0) this.#mode = MODE_HEADER;
          break;
        }
        default:
          position = this.#readPreface(bytes, position);
      }
    }
  }

  /** A frame, or what is left of it, may be empty: it is then complete without a further byte. */
  #isEmptyStep(): boolean {
    switch (this.#mode) {
      case MODE_PAYLOAD:
        return this.#length === 0;
      case MODE_DATA:
        return this.#dataLeft === 0;
      case MODE_SKIP:
        return this.#skipLeft === 0;
      default:
        return false;
    }
  }

  #readPreface(bytes: Uint8Array, start: number): number {
    let position = start;
    while (position < bytes.length && this.#filled < PREFACE.length) {
      if (bytes[position++] !== PREFACE[this.#filled++]) {
        throw new Http2ConnectionError(ERROR.PROTOCOL_ERROR, "no HTTP/2 connection preface");
      }
    }
    if (this.#filled === PREFACE.length) {
      this.#filled = 0;
      this.#mode = MODE_HEADER;
    }
    return position;
  }

  #readHeader(bytes: Uint8Array, start: number): number {
    if (this.#filled === 0 && bytes.length - start >= FRAME_HEADER_BYTES) {
      this.#beginFrame(bytes, start);
      return start + FRAME_HEADER_BYTES;
    }
    let position = start;
    while (position < bytes.length && this.#filled < FRAME_HEADER_BYTES) {
      this.#header[this.#filled++] = bytes[position++] as number;
    }
    if (this.#filled === FRAME_HEADER_BYTES) {
      this.#filled = 0;
      this.#beginFrame(this.#header, 0);
    }
    return position;
  }

  #beginFrame(bytes: Uint8Array, at: number): void {
    const length =
      ((bytes[at] as number) << 16) | ((bytes[at + 1] as number) << 8) | (bytes[at + 2] as number);
    const type = bytes[at + 3] as number;
    const flags = bytes[at + 4] as number;
    this.#length = length;
    this.#type = type;
    this.#flags = flags;
    // The reserved bit must be ignored.
    this.#streamId =
      (((bytes[at + 5] as number) & 0x7f) << 24) |
      ((bytes[at + 6] as number) << 16) |
      ((bytes[at + 7] as number) << 8) |
      (bytes[at + 8] as number);
    if (length > this.#maxFrameBytes) {
      throw new Http2ConnectionError(ERROR.FRAME_SIZE_ERROR, `a frame of ${length} bytes`);
    }
    this.frames += 1;
    if (this.frames === 1) {
      if (type !== FRAME.SETTINGS || (flags & FLAG.ACK) !== 0) {
        throw new Http2ConnectionError(ERROR.PROTOCOL_ERROR, "the first frame is not SETTINGS");
      }
    }
    if (type === FRAME.DATA) {
      if ((flags & FLAG.PADDED) === 0) {
        this.#startData(0, 0);
      } else if (length === 0) {
        throw new Http2ConnectionError(ERROR.FRAME_SIZE_ERROR, "a padded DATA frame without room");
      } else {
        this.#mode = MODE_PAD_LENGTH;
      }
    } else if (type > FRAME.CONTINUATION) {
      this.#skipLeft = length;
      this.#mode = MODE_SKIP;
      this.#sink.onUnknownFrame(type);
    } else {
      this.#mode = MODE_PAYLOAD;
    }
  }

  #startData(padLength: number, padLengthBytes: number): void {
    if (padLength + padLengthBytes > this.#length) {
      throw new Http2ConnectionError(ERROR.PROTOCOL_ERROR, "padding longer than its frame");
    }
    this.#dataLeft = this.#length - padLength - padLengthBytes;
    this.#skipLeft = padLength;
    this.#mode = MODE_DATA;
    this.#sink.onDataStart(this.#streamId, this.#flags, this.#length, padLength + padLengthBytes);
  }

  #readData(bytes: Uint8Array, start: number): number {
    const end = Math.min(bytes.length, start + this.#dataLeft);
    if (end > start) {
      this.#dataLeft -= end - start;
      this.#sink.onDataBytes(bytes, start, end);
    }
    if (this.#dataLeft === 0) {
      this.#mode = this.#skipLeft > 0 ? MODE_SKIP : MODE_HEADER;
      this.#sink.onDataEnd(this.#streamId, this.#flags);
    }
    return end;
  }

  #readPayload(bytes: Uint8Array, start: number): number {
    const length = this.#length;
    if (this.#filled === 0 && bytes.length - start >= length) {
      this.#mode = MODE_HEADER;
      this.#sink.onFrame(this.#type, this.#flags, this.#streamId, bytes, start, start + length);
      return start + length;
    }
    if (this.#filled === 0) this.#carry = Buffer.allocUnsafe(length);
    const end = Math.min(bytes.length, start + length - this.#filled);
    this.#carry.set(bytes.subarray(start, end), this.#filled);
    this.#filled += end - start;
    if (this.#filled === length) {
      this.#filled = 0;
      this.#mode = MODE_HEADER;
      this.#sink.onFrame(this.#type, this.#flags, this.#streamId, this.#carry, 0, length);
    }
    return end;
  }
}
