import { CompressionError } from "../hpack/decoder.ts";
import { type FieldList, HpackEncoder } from "../hpack/encoder.ts";
import { ClosedStreams } from "./closed-streams.ts";
import { FrameWriter } from "./frame-writer.ts";
import type { ConnectionLimits } from "./limits.ts";
import { COPY_BELOW_BYTES, OutputBuffer, type SentMark } from "./output-buffer.ts";
import {
  DEFAULT_WINDOW_BYTES,
  ERROR,
  FLAG,
  FRAME,
  FRAME_HEADER_BYTES,
  Http2ConnectionError,
  MAX_STREAM_ID,
  SETTING,
} from "./protocol.ts";
import { RateBudget } from "./rate-budget.ts";
import { type SendHost, SendScheduler } from "./send-scheduler.ts";
import { createPeerSettings, type PeerSettings } from "./settings.ts";
import type { Http2Stream } from "./stream.ts";
import { ConnectionTimers } from "./timers.ts";

const MESSAGE_PREFIX_BYTES = 5;
export const DRAIN_PING: Uint8Array = Buffer.from("draining", "latin1");

/** How a connection ended, for logs. */
export interface ConnectionEnd {
  /** An HTTP/2 error code; 0 is an orderly end. */
  readonly code: number;
  readonly message: string;
  /** Whether the other end said so (its GOAWAY), or we did. */
  readonly isByPeer: boolean;
}

/** What both roles are given. */
export interface Http2ConnectionOptions {
  readonly limits: ConnectionLimits;
  readonly nowMs: number;
  readonly firstWindowBytes: number;
  /** There is output: called once until `takeOutput`. Must not call back; schedule the writing. */
  readonly onOutput: (() => void) | undefined;
  readonly onEnd: ((end: ConnectionEnd) => void) | undefined;
}

/** What a connection is without its input: its streams, what it sends, and how it ends. */
export abstract class ConnectionCore implements SendHost {
  readonly output: OutputBuffer = new OutputBuffer();
  readonly maxOutputBytes: number;
  /** What the other end may send on a new stream. */
  readonly firstWindowBytes: number;
  readonly limits: ConnectionLimits;
  isClosed = false;
  /** We sent GOAWAY and finish what is open. */
  isDraining = false;
  protected nowMs: number;
  protected readonly isServer: boolean;
  protected readonly streams: Map<number, Http2Stream> = new Map();
  protected readonly closedStreams: ClosedStreams = new ClosedStreams();
  protected readonly encoder: HpackEncoder;
  protected readonly writer: FrameWriter;
  protected readonly scheduler: SendScheduler;
  protected readonly peer: PeerSettings = createPeerSettings();
  protected readonly timers: ConnectionTimers;
  /** The highest stream the other end opened. */
  protected lastPeerStreamId = 0;
  /** Streams up to this id are processed once the last GOAWAY was sent. */
  protected goAwayStreamId: number = MAX_STREAM_ID;
  protected hasPeerGoneAway = false;
  readonly #controlBudget: RateBudget;
  readonly #failureBudget: RateBudget;
  readonly #onOutput: (() => void) | undefined;
  readonly #onEnd: ((end: ConnectionEnd) => void) | undefined;
  #isOutputSignalled = false;
  #takenMarks: readonly SentMark[] = [];

  protected constructor(isServer: boolean, options: Http2ConnectionOptions) {
    const { limits, nowMs } = options;
    this.isServer = isServer;
    this.limits = limits;
    this.nowMs = nowMs;
    this.maxOutputBytes = limits.maxOutputBytes;
    this.firstWindowBytes = options.firstWindowBytes;
    this.#onOutput = options.onOutput;
    this.#onEnd = options.onEnd;
    this.encoder = new HpackEncoder(limits.headerTableBytes);
    this.writer = new FrameWriter(this.output);
    this.timers = new ConnectionTimers(limits, nowMs);
    this.scheduler = new SendScheduler(this, DEFAULT_WINDOW_BYTES, limits.sendQueueBytes / 2);
    this.#controlBudget = new RateBudget(
      limits.controlFrameBurst,
      limits.controlFramesPerSecond,
      nowMs,
    );
    this.#failureBudget = new RateBudget(
      limits.failedStreamBurst,
      limits.failedStreamsPerSecond,
      nowMs,
    );
  }

  /** Says hello: our preface, settings and window. */
  protected sendHello(preface: Uint8Array | undefined): void {
    const { limits } = this;
    if (preface !== undefined) this.output.append(preface, 0, preface.length);
    this.writer.settings([
      [SETTING.HEADER_TABLE_SIZE, limits.headerTableBytes],
      this.isServer
        ? [SETTING.MAX_CONCURRENT_STREAMS, limits.maxConcurrentStreams]
        : [SETTING.ENABLE_PUSH, 0],
      [SETTING.INITIAL_WINDOW_SIZE, this.firstWindowBytes],
      [SETTING.MAX_FRAME_SIZE, limits.maxFrameBytes],
      [SETTING.MAX_HEADER_LIST_SIZE, limits.maxHeaderListBytes],
    ]);
    if (limits.connectionWindowBytes > DEFAULT_WINDOW_BYTES) {
      this.writer.windowUpdate(0, limits.connectionWindowBytes - DEFAULT_WINDOW_BYTES);
    }
    this.signalOutput();
  }

  /** Whether the transport should go on reading: not while answers pile up that nobody takes. */
  get wantsInput(): boolean {
    return (
      this.output.pendingBytes <= 2 * this.maxOutputBytes &&
      this.writer.controlBytes * 2 <= this.limits.maxControlOutputBytes
    );
  }

  get peerMaxFrameBytes(): number {
    return this.peer.maxFrameBytes;
  }

  /** Everything to be written now, in order; empty when there is nothing. */
  takeOutput(): Uint8Array[] {
    this.#isOutputSignalled = false;
    if (!this.isClosed) this.guard(() => this.scheduler.pump());
    const pieces = this.output.take();
    this.#takenMarks = this.output.takeMarks();
    this.writer.controlBytes = 0;
    this.timers.onOutputTaken();
    if (!this.isClosed) {
      this.scheduler.payDrains();
      if (this.scheduler.isReady) this.signalOutput();
    }
    return pieces;
  }

  /** Who is to be called when the output that was taken last was written, and so everything before it. */
  takeSentMarks(): readonly SentMark[] {
    const marks = this.#takenMarks;
    this.#takenMarks = [];
    return marks;
  }

  /** Ends gracefully: the other end is told to open no more streams, twice, and what is open may finish. */
  drain(nowMs: number): void {
    if (this.isDraining || this.isClosed) return;
    this.isDraining = true;
    // What is on its way still counts: the number of the last stream is only said when the PING came back.
    this.writer.goAway(MAX_STREAM_ID, ERROR.NO_ERROR, "");
    this.writer.ping(DRAIN_PING, 0, false);
    this.timers.onDrain(nowMs);
    this.signalOutput();
  }

  /** Ends now: GOAWAY, and every open call is cancelled. */
  close(): void {
    this.end(ERROR.NO_ERROR, "", false);
  }

  /** The transport is gone: every open call is cancelled and nothing is written any more. */
  transportClosed(): void {
    if (!this.isClosed)
      this.#finish({ code: ERROR.NO_ERROR, message: "the transport was closed", isByPeer: true });
    this.output.take();
    this.output.takeMarks();
  }

  protected addStream(stream: Http2Stream): void {
    this.streams.set(stream.id, stream);
  }

  /** Ends the connection with GOAWAY. */
  protected end(code: number, message: string, isByPeer: boolean): void {
    if (this.isClosed) return;
    const last = Math.min(this.lastPeerStreamId, this.goAwayStreamId);
    this.writer.goAway(last, code, message);
    this.#finish({ code, message, isByPeer });
    this.signalOutput();
  }

  /** Sends a header block at once. */
  sendHeaders(stream: Http2Stream, fields: FieldList, isKept: boolean, isEnd: boolean): void {
    const block = isKept ? this.encoder.encodeKept(fields) : this.encoder.encode(fields);
    this.writer.headers(stream.id, block, isEnd, this.peer.maxFrameBytes);
    if (isEnd) this.closeLocal(stream);
    this.signalOutput();
  }

  /** Sends a message with its gRPC prefix: at once when all windows let it through, else from the stream's queue. */
  sendMessage(
    stream: Http2Stream,
    message: Uint8Array | readonly Uint8Array[],
    length: number,
  ): void {
    const output = this.output;
    const total = length + MESSAGE_PREFIX_BYTES;
    if (
      stream.queuedBytes === 0 &&
      total <= stream.sendWindowBytes &&
      total <= this.scheduler.windowBytes &&
      total <= this.peer.maxFrameBytes &&
      output.pendingBytes < this.maxOutputBytes
    ) {
      output.reserve(FRAME_HEADER_BYTES + MESSAGE_PREFIX_BYTES);
      output.frameHeader(total, FRAME.DATA, 0, stream.id);
      output.slab[output.position++] = 0;
      output.uint32(length);
      if (message instanceof Uint8Array) output.append(message, 0, length);
      else for (const piece of message) output.append(piece, 0, piece.length);
      this.scheduler.account(stream, total);
      this.signalOutput();
      return;
    }
    const prefix = Buffer.allocUnsafe(MESSAGE_PREFIX_BYTES);
    prefix[0] = 0;
    prefix.writeUInt32BE(length, 1);
    this.scheduler.push(stream, prefix);
    if (message instanceof Uint8Array) this.scheduler.push(stream, keep(message));
    else for (const piece of message) this.scheduler.push(stream, keep(piece));
    this.scheduler.enqueue(stream);
    if (this.scheduler.isReady) this.signalOutput();
  }

  /** Has somebody called when everything that a stream has sent was written; never when it ends before. */
  markSent(stream: Http2Stream, mark: SentMark): void {
    this.scheduler.mark(stream, mark);
  }

  /** The same with bytes that have their prefixes. */
  sendBytes(stream: Http2Stream, bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    const { output, scheduler } = this;
    const isFree = stream.queuedBytes === 0 && bytes.length <= this.peer.maxFrameBytes;
    const isOpen = bytes.length <= Math.min(stream.sendWindowBytes, scheduler.windowBytes);
    if (isFree && isOpen && output.pendingBytes < this.maxOutputBytes) {
      output.reserve(FRAME_HEADER_BYTES);
      output.frameHeader(bytes.length, FRAME.DATA, 0, stream.id);
      output.append(bytes, 0, bytes.length);
      scheduler.account(stream, bytes.length);
      this.signalOutput();
      return;
    }
    scheduler.push(stream, keep(bytes));
    scheduler.enqueue(stream);
    if (scheduler.isReady) this.signalOutput();
  }

  /** Sends trailers after everything that waits. */
  sendTrailers(stream: Http2Stream, fields: FieldList, isKept: boolean): void {
    if (stream.queuedBytes === 0) this.sendHeaders(stream, fields, isKept, true);
    else stream.trailers = fields;
  }

  /** Ends our side of the stream after everything that waits. */
  sendEnd(stream: Http2Stream): void {
    stream.endsWithQueue = true;
    if (stream.queuedBytes > 0) return;
    this.output.reserve(FRAME_HEADER_BYTES);
    this.output.frameHeader(0, FRAME.DATA, FLAG.END_STREAM, stream.id);
    this.closeLocal(stream);
    this.signalOutput();
  }

  onQueueSent(stream: Http2Stream): void {
    if (stream.trailers === undefined) this.closeLocal(stream);
    else this.sendHeaders(stream, stream.trailers, false, true);
  }

  /** Ends a stream before its time; its owner is not told. */
  resetStream(stream: Http2Stream, code: number): void {
    if (!this.streams.has(stream.id)) return;
    this.writer.resetStream(stream.id, code);
    this.remove(stream, true);
    this.signalOutput();
  }

  /** Ends a stream before its time and tells its owner. */
  protected abortStream(stream: Http2Stream, code: number): void {
    this.resetStream(stream, code);
    stream.onAbort("reset", code);
  }

  /** Ends a stream for a mistake of the other end, which may not make many. */
  protected failStream(stream: Http2Stream, code: number): void {
    this.abortStream(stream, code);
    this.chargeFailure("streams that had to be reset");
  }

  /** Answers a stream that was never opened. */
  protected refuseStream(streamId: number, code: number): void {
    this.writer.resetStream(streamId, code);
    this.closedStreams.add(streamId, true);
    this.chargeFailure("streams that were refused");
  }

  /** Lets the other end send so much more on a stream. */
  openStreamWindow(stream: Http2Stream, bytes: number): void {
    this.writer.windowUpdate(stream.id, bytes);
    stream.receiveWindowBytes += bytes;
    this.signalOutput();
  }

  /** Tells the transport, once until it comes. */
  protected signalOutput(): void {
    if (this.#isOutputSignalled) return;
    this.#isOutputSignalled = true;
    this.#onOutput?.();
  }

  /** Our side of the stream has said everything. */
  protected closeLocal(stream: Http2Stream): void {
    stream.isLocalClosed = true;
    if (stream.isRemoteClosed) {
      this.remove(stream, false);
    } else if (this.isServer) {
      // The answer is whole; the rest of the request is of no interest (RFC 9113, section 8.1).
      this.writer.resetStream(stream.id, ERROR.NO_ERROR);
      this.remove(stream, true);
    }
  }

  protected chargeControl(what: string): void {
    if (this.#controlBudget.take(this.nowMs)) return;
    throw new Http2ConnectionError(ERROR.ENHANCE_YOUR_CALM, `too many ${what}`);
  }

  protected chargeFailure(what: string): void {
    if (this.#failureBudget.take(this.nowMs)) return;
    throw new Http2ConnectionError(ERROR.ENHANCE_YOUR_CALM, `too many ${what}`);
  }

  protected remove(stream: Http2Stream, isResetByUs: boolean): void {
    this.streams.delete(stream.id);
    this.closedStreams.add(stream.id, isResetByUs);
    stream.isLocalClosed = true;
    stream.isRemoteClosed = true;
    stream.queue = [];
    stream.queuedBytes = 0;
    if (this.streams.size === 0) {
      this.timers.onIdle(this.nowMs);
      this.endIfDone();
    }
  }

  protected endIfDone(): void {
    if (this.streams.size > 0) return;
    const isOver = this.hasPeerGoneAway || (this.isDraining && this.goAwayStreamId < MAX_STREAM_ID);
    if (isOver) this.end(ERROR.NO_ERROR, "", this.hasPeerGoneAway);
  }

  protected sendLastGoAway(): void {
    if (this.goAwayStreamId < MAX_STREAM_ID) return;
    this.goAwayStreamId = this.lastPeerStreamId;
    this.writer.goAway(this.goAwayStreamId, ERROR.NO_ERROR, "");
    this.endIfDone();
  }

  #finish(end: ConnectionEnd): void {
    this.isClosed = true;
    const streams = [...this.streams.values()];
    this.streams.clear();
    for (const stream of streams) {
      stream.isLocalClosed = true;
      stream.isRemoteClosed = true;
      stream.onAbort("connection", end.code);
    }
    this.#onEnd?.(end);
  }

  /** Turns what a frame did wrong into the end of the connection. */
  protected guard(work: () => void): void {
    try {
      work();
    } catch (error) {
      if (error instanceof Http2ConnectionError) {
        this.end(error.code, error.message, false);
      } else if (error instanceof CompressionError) {
        this.end(ERROR.COMPRESSION_ERROR, error.message, false);
      } else {
        this.end(ERROR.INTERNAL_ERROR, "", false);
        throw error;
      }
    }
  }
}

/** Small messages may lie in a buffer that its owner uses again. */
function keep(piece: Uint8Array): Uint8Array {
  return piece.length < COPY_BELOW_BYTES ? Buffer.from(piece) : piece;
}
