import type { OutputBuffer } from "./output-buffer.ts";
import { FLAG, FRAME, FRAME_HEADER_BYTES } from "./protocol.ts";

/** Writes every frame that is not DATA. */
export class FrameWriter {
  readonly #output: OutputBuffer;
  /** Bytes of frames that answer the other end's, since the output was taken last. */
  controlBytes = 0;

  constructor(output: OutputBuffer) {
    this.#output = output;
  }

  settings(entries: ReadonlyArray<readonly [id: number, value: number]>): void {
    this.#begin(entries.length * 6, FRAME.SETTINGS, 0, 0);
    for (const [id, value] of entries) {
      this.#output.position = this.#output.slab.writeUInt16BE(id, this.#output.position);
      this.#output.uint32(value);
    }
  }

  settingsAck(): void {
    this.#begin(0, FRAME.SETTINGS, FLAG.ACK, 0);
  }

  ping(bytes: Uint8Array, start: number, isAck: boolean): void {
    this.#begin(8, FRAME.PING, isAck ? FLAG.ACK : 0, 0);
    this.#output.copy(bytes, start, start + 8);
  }

  goAway(lastStreamId: number, code: number, message: string): void {
    const debug = Buffer.from(message, "latin1");
    this.#begin(8 + debug.length, FRAME.GOAWAY, 0, 0);
    this.#output.uint32(lastStreamId);
    this.#output.uint32(code);
    this.#output.copy(debug, 0, debug.length);
  }

  resetStream(streamId: number, code: number): void {
    this.#begin(4, FRAME.RST_STREAM, 0, streamId);
    this.#output.uint32(code);
  }

  windowUpdate(streamId: number, bytes: number): void {
    this.#begin(4, FRAME.WINDOW_UPDATE, 0, streamId);
    this.#output.uint32(bytes);
  }

  /** One header block, continued in further frames when the other end's frame size demands it. */
  headers(streamId: number, block: Uint8Array, isEnd: boolean, maxFrameBytes: number): void {
    const output = this.#output;
    let end = Math.min(block.length, maxFrameBytes);
    let flags = (isEnd ? FLAG.END_STREAM : 0) | (end === block.length ? FLAG.END_HEADERS : 0);
    output.reserve(FRAME_HEADER_BYTES + end);
    output.frameHeader(end, FRAME.HEADERS, flags, streamId);
    output.copy(block, 0, end);
    while (end < block.length) {
      const start = end;
      end = Math.min(block.length, start + maxFrameBytes);
      flags = end === block.length ? FLAG.END_HEADERS : 0;
      output.reserve(FRAME_HEADER_BYTES + end - start);
      output.frameHeader(end - start, FRAME.CONTINUATION, flags, streamId);
      output.copy(block, start, end);
    }
  }

  #begin(length: number, type: number, flags: number, streamId: number): void {
    this.controlBytes += FRAME_HEADER_BYTES + length;
    this.#output.reserve(FRAME_HEADER_BYTES + length);
    this.#output.frameHeader(length, type, flags, streamId);
  }
}
