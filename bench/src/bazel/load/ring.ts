import { encodeFrame, FLAG, FRAME, FRAME_HEADER_BYTES, MAX_FRAME_BYTES } from "./frames.ts";

/** The body bytes of a right answer; 0 and 0 is an answer without a message, such as NOT_FOUND. */
export interface Expected {
  readonly minBytes: number;
  readonly maxBytes: number;
}

/**
 * What one connection sends, over and over: whole requests laid out one after the other, so that many go out in
 * one write. Only stream identifiers change from one round to the next.
 */
export interface Ring {
  readonly bytes: Buffer;
  /** Where each request starts, and the end of the last. */
  readonly offsets: Float64Array;
  /** Body bytes of each request, which flow control counts. */
  readonly bodyBytes: Int32Array;
  readonly minBytes: Float64Array;
  readonly maxBytes: Float64Array;
  readonly length: number;
}

/** Collects requests in the order in which they are to be sent. */
export class RingBuilder {
  readonly #parts: Buffer[] = [];
  readonly #offsets: number[] = [0];
  readonly #bodyBytes: number[] = [];
  readonly #expected: Expected[] = [];
  #size = 0;

  get sizeBytes(): number {
    return this.#size;
  }

  /** A call: its header block and its body with the messages' prefixes. */
  addCall(headers: Buffer, body: Buffer, expected: Expected): void {
    this.#push(encodeFrame(FRAME.headers, FLAG.endHeaders, 1, headers));
    for (let at = 0; at < body.length; at += MAX_FRAME_BYTES) {
      const end = Math.min(body.length, at + MAX_FRAME_BYTES);
      const flags = end === body.length ? FLAG.endStream : 0;
      this.#push(encodeFrame(FRAME.data, flags, 1, body.subarray(at, end)));
    }
    this.#end(body.length, expected);
  }

  /** Bytes that are a whole request by themselves: HTTP/1.1. */
  addBytes(parts: readonly Buffer[], expected: Expected): void {
    for (const part of parts) this.#push(part);
    this.#end(0, expected);
  }

  build(): Ring {
    return {
      bytes: Buffer.concat(this.#parts),
      offsets: Float64Array.from(this.#offsets),
      bodyBytes: Int32Array.from(this.#bodyBytes),
      minBytes: Float64Array.from(this.#expected, ({ minBytes }) => minBytes),
      maxBytes: Float64Array.from(this.#expected, ({ maxBytes }) => maxBytes),
      length: this.#bodyBytes.length,
    };
  }

  #push(part: Buffer): void {
    this.#parts.push(part);
    this.#size += part.length;
  }

  #end(bodyBytes: number, expected: Expected): void {
    this.#offsets.push(this.#size);
    this.#bodyBytes.push(bodyBytes);
    this.#expected.push(expected);
  }
}

/** Puts a stream identifier into all frames of a request. */
export function setStream(ring: Ring, index: number, stream: number): void {
  const { bytes, offsets } = ring;
  const end = offsets[index + 1] ?? 0;
  let at = offsets[index] ?? 0;
  while (at < end) {
    bytes[at + 5] = stream >>> 24;
    bytes[at + 6] = (stream >>> 16) & 0xff;
    bytes[at + 7] = (stream >>> 8) & 0xff;
    bytes[at + 8] = stream & 0xff;
    at += frameBytes(bytes, at);
  }
}

/** How long the frame that starts here is, with its header. */
export function frameBytes(bytes: Buffer, at: number): number {
  const payload = ((bytes[at] ?? 0) << 16) | ((bytes[at + 1] ?? 0) << 8) | (bytes[at + 2] ?? 0);
  return FRAME_HEADER_BYTES + payload;
}
