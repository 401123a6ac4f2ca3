import type { OutputBuffer, SentMark } from "./output-buffer.ts";
import { FLAG, FRAME, FRAME_HEADER_BYTES } from "./protocol.ts";
import type { Http2Stream } from "./stream.ts";

/** What the scheduler asks of its connection. */
export interface SendHost {
  readonly output: OutputBuffer;
  readonly maxOutputBytes: number;
  readonly peerMaxFrameBytes: number;
  /** The stream's queue is empty and `trailers` or `endsWithQueue` say that something follows. */
  onQueueSent(stream: Http2Stream): void;
}

/** Cuts the streams' queues into DATA frames, one frame a turn for each, as far as all windows and the output go. */
export class SendScheduler {
  /** What the other end takes on the whole connection. */
  windowBytes: number;
  readonly #host: SendHost;
  readonly #lowWaterBytes: number;
  #line: Http2Stream[] = [];
  #head = 0;
  #owed: Http2Stream[] = [];

  constructor(host: SendHost, windowBytes: number, lowWaterBytes: number) {
    this.#host = host;
    this.windowBytes = windowBytes;
    this.#lowWaterBytes = lowWaterBytes;
  }

  /** Whether a stream waits for the connection's window, or for the output. */
  get isWaiting(): boolean {
    return this.#head < this.#line.length;
  }

  /** Whether {@link pump} would get anywhere. */
  get isReady(): boolean {
    return this.isWaiting && this.windowBytes > 0;
  }

  /** Puts a stream in line when it has something that its own window lets through. */
  enqueue(stream: Http2Stream): void {
    if (stream.isInLine || stream.queuedBytes === 0 || stream.sendWindowBytes <= 0) return;
    stream.isInLine = true;
    this.#line.push(stream);
  }

  /** Appends a piece to a stream's queue. */
  push(stream: Http2Stream, piece: Uint8Array): void {
    if (piece.length === 0) return;
    if (stream.queuedBytes === 0) stream.queue = [];
    stream.queue.push(piece);
    stream.queuedBytes += piece.length;
  }

  /** Has somebody called when what is in a stream's queue was written; never when the stream ends before. */
  mark(stream: Http2Stream, mark: SentMark): void {
    if (stream.queuedBytes === 0) this.#host.output.mark(mark);
    else stream.queue.push(mark);
  }

  /** Frames what may go out now. */
  pump(): void {
    const host = this.#host;
    while (this.isReady && host.output.pendingBytes < host.maxOutputBytes) {
      const stream = this.#line[this.#head++] as Http2Stream;
      stream.isInLine = false;
      if (!stream.isLocalClosed) this.#sendFrame(stream);
    }
    if (this.#head === this.#line.length) {
      this.#line = this.#head === 0 ? this.#line : [];
      this.#head = 0;
    } else if (this.#head > 1024) {
      this.#line = this.#line.slice(this.#head);
      this.#head = 0;
    }
  }

  /** Tells streams that they may send again; they do so at once, so this comes after {@link pump}. */
  payDrains(): void {
    if (this.#owed.length === 0) return;
    const owed = this.#owed;
    this.#owed = [];
    for (const stream of owed) {
      if (!stream.isLocalClosed) stream.onDrain();
    }
  }

  #sendFrame(stream: Http2Stream): void {
    const host = this.#host;
    const output = host.output;
    const window = Math.min(stream.sendWindowBytes, this.windowBytes);
    const length = Math.min(stream.queuedBytes, window, host.peerMaxFrameBytes);
    if (length <= 0) return;
    const isLast = length === stream.queuedBytes && stream.endsWithQueue;
    output.reserve(FRAME_HEADER_BYTES);
    output.frameHeader(length, FRAME.DATA, isLast ? FLAG.END_STREAM : 0, stream.id);
    this.#moveQueue(stream, length);
    this.account(stream, length);
    if (stream.queuedBytes > 0) this.enqueue(stream);
    else if (stream.endsWithQueue || stream.trailers !== undefined) host.onQueueSent(stream);
    if (stream.owesDrain && stream.queuedBytes <= this.#lowWaterBytes) {
      stream.owesDrain = false;
      this.#owed.push(stream);
    }
  }

  /** Counts bytes of DATA against both windows. */
  account(stream: Http2Stream, length: number): void {
    stream.sendWindowBytes -= length;
    stream.sentBytes += length;
    this.windowBytes -= length;
  }

  #moveQueue(stream: Http2Stream, length: number): void {
    let left = length;
    let index = 0;
    // What follows the last piece as well: all of it is gone then.
    while (left > 0 || typeof stream.queue[index] === "function") {
      const piece = stream.queue[index] as Uint8Array | SentMark;
      if (typeof piece === "function") {
        this.#host.output.mark(piece);
        index += 1;
        continue;
      }
      const start = stream.queueOffset;
      const end = Math.min(piece.length, start + left);
      this.#host.output.append(piece, start, end);
      left -= end - start;
      if (end === piece.length) {
        index += 1;
        stream.queueOffset = 0;
      } else {
        stream.queueOffset = end;
      }
    }
    if (index > 0) stream.queue.splice(0, index);
    stream.queuedBytes -= length;
  }
}
