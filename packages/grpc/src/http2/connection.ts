import { CompressionError, HpackDecoder } from "../hpack/decoder.ts";
import { type FieldList, HpackEncoder } from "../hpack/encoder.ts";
import type { HeaderList } from "../hpack/header-list.ts";
import { ClosedStreams } from "./closed-streams.ts";
import { FrameParser, type FrameSink } from "./frame-parser.ts";
import { FrameWriter } from "./frame-writer.ts";
import type { ConnectionLimits } from "./limits.ts";
import { COPY_BELOW_BYTES, OutputBuffer } from "./output-buffer.ts";
import {
  DEFAULT_WINDOW_BYTES,
  ERROR,
  FLAG,
  FRAME,
  FRAME_HEADER_BYTES,
  Http2ConnectionError,
  MAX_STREAM_ID,
  MAX_WINDOW_BYTES,
  SETTING,
} from "./protocol.ts";
import { RateBudget } from "./rate-budget.ts";
import { type SendHost, SendScheduler } from "./send-scheduler.ts";
import { applySettings, createPeerSettings, type PeerSettings } from "./settings.ts";
import type { Http2Stream } from "./stream.ts";
import { ConnectionTimers } from "./timers.ts";

const MESSAGE_PREFIX_BYTES = 5;
const DRAIN_PING: Uint8Array = Buffer.from("draining", "latin1");
const KEEP_ALIVE_PING: Uint8Array = Buffer.from("alive???", "latin1");

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
  /** There is output: called once until `takeOutput`. Must not call back; schedule the writing. */
  readonly onOutput: (() => void) | undefined;
  readonly onEnd: ((end: ConnectionEnd) => void) | undefined;
}

/**
 * One HTTP/2 connection (RFC 9113) without I/O: frames, settings, streams, both flow controls, limits.
 * The two roles extend it with what a new stream means.
 */
export abstract class Http2Connection implements FrameSink, SendHost {
  readonly output: OutputBuffer = new OutputBuffer();
  readonly maxOutputBytes: number;
  readonly limits: ConnectionLimits;
  isClosed = false;
  /** We sent GOAWAY and finish what is open. */
  isDraining = false;
  protected nowMs: number;
  protected readonly streams: Map<number, Http2Stream> = new Map();
  protected readonly encoder: HpackEncoder;
  protected readonly writer: FrameWriter;
  protected readonly peer: PeerSettings = createPeerSettings();
  /** The highest stream the other end opened. */
  protected lastPeerStreamId = 0;
  protected readonly timers: ConnectionTimers;
  readonly #decoder: HpackDecoder;
  readonly #parser: FrameParser;
  readonly #scheduler: SendScheduler;
  readonly #closedStreams = new ClosedStreams();
  readonly #controlBudget: RateBudget;
  readonly #failureBudget: RateBudget;
  readonly #onOutput: (() => void) | undefined;
  readonly #onEnd: ((end: ConnectionEnd) => void) | undefined;
  readonly #isServer: boolean;
  #isOutputSignalled = false;
  #receiveWindowBytes: number;
  /** Arrived and not given back to the connection's window; of these, what the layer above holds back. */
  #unreturnedBytes = 0;
  #withheldBytes = 0;
  #unackedSettings = 1;
  /** Streams up to this id are processed once the last GOAWAY was sent. */
  #goAwayStreamId = MAX_STREAM_ID;
  #hasPeerGoneAway = false;
  #dataStream: Http2Stream | undefined;
  /** A header block that goes on in CONTINUATION frames: its stream (0: none), pieces and flags. */
  #blockStreamId = 0;
  #blockIsEnd = false;
  #blockPieces: Buffer[] = [];
  #blockBytes = 0;

  protected constructor(isServer: boolean, options: Http2ConnectionOptions) {
    const limits = options.limits;
    this.#isServer = isServer;
    this.limits = limits;
    this.nowMs = options.nowMs;
    this.maxOutputBytes = limits.maxOutputBytes;
    this.#onOutput = options.onOutput;
    this.#onEnd = options.onEnd;
    this.encoder = new HpackEncoder(limits.headerTableBytes);
    this.writer = new FrameWriter(this.output);
    this.timers = new ConnectionTimers(limits, options.nowMs);
    this.#decoder = new HpackDecoder(limits.headerTableBytes, limits.maxHeaderListBytes);
    this.#parser = new FrameParser(this, limits.maxFrameBytes, isServer);
    this.#scheduler = new SendScheduler(this, DEFAULT_WINDOW_BYTES, limits.sendQueueBytes / 2);
    this.#controlBudget = new RateBudget(
      limits.controlFrameBurst,
      limits.controlFramesPerSecond,
      options.nowMs,
    );
    this.#failureBudget = new RateBudget(
      limits.failedStreamBurst,
      limits.failedStreamsPerSecond,
      options.nowMs,
    );
    this.#receiveWindowBytes = limits.connectionWindowBytes;
  }

  /** Says hello: our preface, settings and window. */
  protected sendHello(preface: Uint8Array | undefined): void {
    const { limits } = this;
    if (preface !== undefined) this.output.append(preface, 0, preface.length);
    this.writer.settings([
      [SETTING.HEADER_TABLE_SIZE, limits.headerTableBytes],
      this.#isServer
        ? [SETTING.MAX_CONCURRENT_STREAMS, limits.maxConcurrentStreams]
        : [SETTING.ENABLE_PUSH, 0],
      [SETTING.INITIAL_WINDOW_SIZE, limits.streamWindowBytes],
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

  /** When {@link tick} wants to be called at the latest; Infinity when there is no need. */
  get nextTickMs(): number {
    return this.isClosed ? Infinity : this.timers.nextMs(this.#waitsForPeer, this.streams.size);
  }

  get peerMaxFrameBytes(): number {
    return this.peer.maxFrameBytes;
  }

  get #waitsForPeer(): boolean {
    return this.#waitedFor !== 0;
  }

  /** What the other end owes us, as a number that changes when it gets on with it; 0 for nothing. */
  get #waitedFor(): number {
    if (this.#unackedSettings > 0) return -1;
    if (this.#blockStreamId !== 0) return -1 - this.#blockStreamId;
    return this.#parser.isInsideFrame ? this.#parser.frames : 0;
  }

  /** Takes bytes as they arrived. They must not change afterwards. Never throws for what they are. */
  receive(bytes: Uint8Array, nowMs: number): void {
    if (this.isClosed || bytes.length === 0) return;
    this.nowMs = nowMs;
    const before = this.#waitedFor;
    this.#guard(() => {
      this.#parser.receive(bytes);
      if (
        this.writer.controlBytes > this.limits.maxControlOutputBytes ||
        this.output.pendingBytes > 8 * this.maxOutputBytes
      ) {
        throw new Http2ConnectionError(
          ERROR.ENHANCE_YOUR_CALM,
          "frames that ask for answers which are not read",
        );
      }
    });
    this.timers.onInput(nowMs, before !== 0 && before === this.#waitedFor);
    if (this.output.pendingBytes > 0) this.signalOutput();
  }

  /** Everything to be written now, in order; empty when there is nothing. */
  takeOutput(): Uint8Array[] {
    this.#isOutputSignalled = false;
    if (!this.isClosed) this.#guard(() => this.#scheduler.pump());
    const pieces = this.output.take();
    this.writer.controlBytes = 0;
    this.timers.onOutputTaken();
    if (!this.isClosed) {
      this.#scheduler.payDrains();
      if (this.#scheduler.isReady) this.signalOutput();
    }
    return pieces;
  }

  /** Lets time pass: deadlines, keep-alive, stalls. */
  tick(nowMs: number): void {
    if (this.isClosed) return;
    this.nowMs = nowMs;
    this.#guard(() => {
      const due = this.timers.onTick(
        nowMs,
        this.#waitsForPeer,
        this.streams,
        this.output.pendingBytes,
      );
      if (due.failure !== undefined) {
        throw new Http2ConnectionError(due.failure.code, due.failure.message);
      }
      for (const stream of due.stalled) this.abortStream(stream, ERROR.CANCEL);
      if (due.keepAlive) this.writer.ping(KEEP_ALIVE_PING, 0, false);
      if (due.deadlines) this.onDeadlines(nowMs);
      if (due.idle) this.drain(nowMs);
      if (due.lastGoAway) this.#sendLastGoAway();
      if (due.drained) this.end(ERROR.NO_ERROR, "drained", false);
    });
    if (this.output.pendingBytes > 0) this.signalOutput();
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
  }

  // --- for the roles -------------------------------------------------------------------------------------

  /** A header block opens a stream that is not known yet. Its id was checked to be new. */
  protected abstract openStream(streamId: number, list: HeaderList, isEnd: boolean): void;
  /** The other end will not answer streams above `lastStreamId`. */
  protected abstract onGoAway(lastStreamId: number, code: number): void;
  protected abstract onDeadlines(nowMs: number): void;
  protected onPeerSettings(): void {}

  protected addStream(stream: Http2Stream): void {
    this.streams.set(stream.id, stream);
  }

  /** Ends the connection with GOAWAY. */
  protected end(code: number, message: string, isByPeer: boolean): void {
    if (this.isClosed) return;
    const last = Math.min(this.lastPeerStreamId, this.#goAwayStreamId);
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
      total <= this.#scheduler.windowBytes &&
      total <= this.peer.maxFrameBytes &&
      output.pendingBytes < this.maxOutputBytes
    ) {
      output.reserve(FRAME_HEADER_BYTES + MESSAGE_PREFIX_BYTES);
      output.frameHeader(total, FRAME.DATA, 0, stream.id);
      output.slab[output.position++] = 0;
      output.uint32(length);
      if (message instanceof Uint8Array) output.append(message, 0, length);
      else for (const piece of message) output.append(piece, 0, piece.length);
      this.#scheduler.account(stream, total);
      this.signalOutput();
      return;
    }
    const prefix = Buffer.allocUnsafe(MESSAGE_PREFIX_BYTES);
    prefix[0] = 0;
    prefix.writeUInt32BE(length, 1);
    this.#scheduler.push(stream, prefix);
    if (message instanceof Uint8Array) this.#scheduler.push(stream, keep(message));
    else for (const piece of message) this.#scheduler.push(stream, keep(piece));
    this.#scheduler.enqueue(stream);
    if (this.#scheduler.isReady) this.signalOutput();
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

  onTinyFrame(): void {
    this.#chargeControl("windows opened by trickles");
  }

  /** Ends a stream before its time; its owner is not told. */
  resetStream(stream: Http2Stream, code: number): void {
    if (!this.streams.has(stream.id)) return;
    this.writer.resetStream(stream.id, code);
    this.#remove(stream, true);
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
    this.#chargeFailure("streams that had to be reset");
  }

  /** Answers a stream that was never opened. */
  protected refuseStream(streamId: number, code: number): void {
    this.writer.resetStream(streamId, code);
    this.#closedStreams.add(streamId, true);
    this.#chargeFailure("streams that were refused");
  }

  /** Gives bytes of DATA back to a stream's window: once they were consumed. */
  consume(stream: Http2Stream, bytes: number): void {
    if (stream.isRemoteClosed) return;
    stream.unreturnedBytes += bytes;
    if (stream.unreturnedBytes * 2 < this.limits.streamWindowBytes) return;
    this.writer.windowUpdate(stream.id, stream.unreturnedBytes);
    stream.receiveWindowBytes += stream.unreturnedBytes;
    stream.unreturnedBytes = 0;
    this.signalOutput();
  }

  /**
   * Holds delivered bytes back from the connection's window (negative: they were consumed). Bytes of incomplete
   * messages are never held back: many streams could then wait for each other for ever.
   */
  withhold(bytes: number): void {
    this.#withheldBytes += bytes;
    if (bytes < 0) this.#returnWindow(0);
  }

  #returnWindow(arrivedBytes: number): void {
    this.#unreturnedBytes += arrivedBytes;
    const bytes = this.#unreturnedBytes - this.#withheldBytes;
    if (bytes * 2 < this.limits.connectionWindowBytes || this.isClosed) return;
    this.writer.windowUpdate(0, bytes);
    this.#receiveWindowBytes += bytes;
    this.#unreturnedBytes -= bytes;
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
      this.#remove(stream, false);
    } else if (this.#isServer) {
      // The answer is whole; the rest of the request is of no interest (RFC 9113, section 8.1).
      this.writer.resetStream(stream.id, ERROR.NO_ERROR);
      this.#remove(stream, true);
    }
  }

  // --- frames --------------------------------------------------------------------------------------------

  onDataStart(streamId: number, flags: number, length: number, paddingBytes: number): void {
    this.#requireNoBlock();
    if (streamId === 0) throw protocolError("DATA on stream 0");
    this.#receiveWindowBytes -= length;
    if (this.#receiveWindowBytes < 0) {
      throw new Http2ConnectionError(
        ERROR.FLOW_CONTROL_ERROR,
        "DATA beyond the connection's window",
      );
    }
    this.#returnWindow(length);
    const stream = this.streams.get(streamId);
    this.#dataStream = stream;
    if (length === paddingBytes && (flags & FLAG.END_STREAM) === 0)
      this.#chargeControl("empty DATA");
    if (stream === undefined) {
      this.#requireIgnorable(streamId, "DATA");
      return;
    }
    if (stream.isRemoteClosed) {
      this.#dropData(stream, ERROR.STREAM_CLOSED);
      return;
    }
    stream.receiveWindowBytes -= length;
    stream.receivedBytes += length - paddingBytes;
    if (stream.receiveWindowBytes < 0) {
      this.#dropData(stream, ERROR.FLOW_CONTROL_ERROR);
    } else if (isLengthWrong(stream, (flags & FLAG.END_STREAM) !== 0)) {
      this.#dropData(stream, ERROR.PROTOCOL_ERROR);
    } else if (paddingBytes > 0) {
      this.consume(stream, paddingBytes);
    }
  }

  onDataBytes(bytes: Uint8Array, start: number, end: number): void {
    const stream = this.#dataStream;
    if (stream !== undefined && !stream.isRemoteClosed) stream.onData(bytes, start, end);
  }

  onDataEnd(_streamId: number, flags: number): void {
    const stream = this.#dataStream;
    this.#dataStream = undefined;
    if (stream === undefined || (flags & FLAG.END_STREAM) === 0) return;
    if (this.streams.get(stream.id) === stream) this.#closeRemote(stream);
  }

  onUnknownFrame(): void {
    this.#requireNoBlock();
    this.#chargeControl("frames of unknown types");
  }

  onFrame(
    type: number,
    flags: number,
    streamId: number,
    bytes: Uint8Array,
    start: number,
    end: number,
  ): void {
    if (type === FRAME.CONTINUATION) {
      this.#onContinuation(flags, streamId, bytes, start, end);
      return;
    }
    this.#requireNoBlock();
    switch (type) {
      case FRAME.HEADERS:
        this.#onHeaders(flags, streamId, bytes, start, end);
        break;
      case FRAME.PRIORITY:
        if (streamId === 0) throw protocolError("PRIORITY on stream 0");
        this.#chargeControl("PRIORITY");
        if (end - start !== 5) this.#failFrame(streamId, ERROR.FRAME_SIZE_ERROR);
        break;
      case FRAME.RST_STREAM:
        this.#onResetStream(streamId, bytes, start, end);
        break;
      case FRAME.SETTINGS:
        this.#onSettings(flags, streamId, bytes, start, end);
        break;
      case FRAME.PING:
        this.#onPing(flags, streamId, bytes, start, end);
        break;
      case FRAME.GOAWAY:
        this.#onGoAwayFrame(streamId, bytes, start, end);
        break;
      case FRAME.WINDOW_UPDATE:
        this.#onWindowUpdate(streamId, bytes, start, end);
        break;
      default:
        throw protocolError("PUSH_PROMISE");
    }
  }

  #onHeaders(flags: number, streamId: number, bytes: Uint8Array, start: number, end: number): void {
    if (streamId === 0) throw protocolError("HEADERS on stream 0");
    let from = start;
    let to = end;
    if ((flags & FLAG.PADDED) !== 0) {
      if (from >= to)
        throw new Http2ConnectionError(ERROR.FRAME_SIZE_ERROR, "padded HEADERS without room");
      to -= bytes[from++] as number;
    }
    if ((flags & FLAG.PRIORITY) !== 0) from += 5;
    if (from > end)
      throw new Http2ConnectionError(ERROR.FRAME_SIZE_ERROR, "HEADERS that are too short");
    if (from > to) throw protocolError("padding longer than its frame");
    const isEnd = (flags & FLAG.END_STREAM) !== 0;
    if ((flags & FLAG.END_HEADERS) !== 0) {
      this.#onBlock(streamId, isEnd, bytes, from, to);
      return;
    }
    this.#blockStreamId = streamId;
    this.#blockIsEnd = isEnd;
    this.#blockBytes = 0;
    this.#addToBlock(bytes, from, to);
  }

  #onContinuation(
    flags: number,
    streamId: number,
    bytes: Uint8Array,
    start: number,
    end: number,
  ): void {
    if (this.#blockStreamId === 0 || streamId !== this.#blockStreamId) {
      throw protocolError("CONTINUATION without its HEADERS");
    }
    const isLast = (flags & FLAG.END_HEADERS) !== 0;
    // Short pieces are as good as empty ones for keeping us busy.
    if (!isLast && end - start < 1024) this.#chargeControl("short CONTINUATION frames");
    this.#addToBlock(bytes, start, end);
    if (!isLast) return;
    const block = Buffer.concat(this.#blockPieces);
    this.#blockPieces = [];
    this.#blockStreamId = 0;
    this.#onBlock(streamId, this.#blockIsEnd, block, 0, block.length);
  }

  #addToBlock(bytes: Uint8Array, start: number, end: number): void {
    this.#blockBytes += end - start;
    if (this.#blockBytes > this.limits.maxHeaderBlockBytes) {
      throw new Http2ConnectionError(
        ERROR.ENHANCE_YOUR_CALM,
        `a header block of more than ${this.limits.maxHeaderBlockBytes} bytes`,
      );
    }
    this.#blockPieces.push(Buffer.from(bytes.subarray(start, end)));
  }

  #onBlock(streamId: number, isEnd: boolean, bytes: Uint8Array, start: number, end: number): void {
    if (end - start > this.limits.maxHeaderBlockBytes) {
      throw new Http2ConnectionError(
        ERROR.ENHANCE_YOUR_CALM,
        `a header block of more than ${this.limits.maxHeaderBlockBytes} bytes`,
      );
    }
    // Decoded whatever becomes of it: the tables of both ends must stay equal.
    const list = this.#decoder.decode(bytes, start, end);
    const stream = this.streams.get(streamId);
    if (stream !== undefined) {
      if (stream.isRemoteClosed) {
        this.failStream(stream, ERROR.STREAM_CLOSED);
        return;
      }
      if (isEnd && isLengthWrong(stream, true)) {
        this.failStream(stream, ERROR.PROTOCOL_ERROR);
        return;
      }
      stream.onHeaders(list, isEnd);
      if (isEnd && this.streams.get(streamId) === stream) this.#closeRemote(stream);
      return;
    }
    if (this.#closedStreams.wasResetByUs(streamId)) return;
    if (this.#isServer === (streamId % 2 === 0))
      throw protocolError(`HEADERS on stream ${streamId}`);
    if (streamId <= this.lastPeerStreamId || !this.#isServer) {
      const code = this.#closedStreams.has(streamId) ? ERROR.STREAM_CLOSED : ERROR.PROTOCOL_ERROR;
      throw new Http2ConnectionError(code, `HEADERS on stream ${streamId}, which is not open`);
    }
    this.lastPeerStreamId = streamId;
    if (streamId > this.#goAwayStreamId || this.streams.size >= this.limits.maxConcurrentStreams) {
      this.refuseStream(streamId, ERROR.REFUSED_STREAM);
      return;
    }
    this.openStream(streamId, list, isEnd);
  }

  /** END_STREAM arrived and everything before it was delivered. */
  #closeRemote(stream: Http2Stream): void {
    stream.isRemoteClosed = true;
    if (stream.isLocalClosed) this.#remove(stream, false);
    stream.onEnd();
  }

  #onResetStream(streamId: number, bytes: Uint8Array, start: number, end: number): void {
    if (streamId === 0) throw protocolError("RST_STREAM on stream 0");
    if (end - start !== 4) {
      throw new Http2ConnectionError(ERROR.FRAME_SIZE_ERROR, "RST_STREAM that is not 4 bytes");
    }
    const stream = this.streams.get(streamId);
    if (stream === undefined) {
      this.#requireNotIdle(streamId, "RST_STREAM");
      // It crossed our last frames, or it is part of a flood.
      this.#chargeControl("RST_STREAM on closed streams");
      return;
    }
    this.#remove(stream, false);
    stream.onAbort("reset", readUint32(bytes, start));
    if (this.#isServer) this.#chargeFailure("streams that were cancelled");
  }

  #onSettings(
    flags: number,
    streamId: number,
    bytes: Uint8Array,
    start: number,
    end: number,
  ): void {
    if (streamId !== 0) throw protocolError("SETTINGS on a stream");
    if ((flags & FLAG.ACK) !== 0) {
      if (end > start) {
        throw new Http2ConnectionError(
          ERROR.FRAME_SIZE_ERROR,
          "an acknowledgement of SETTINGS with a payload",
        );
      }
      this.#chargeControl("SETTINGS");
      if (this.#unackedSettings > 0) this.#unackedSettings -= 1;
      return;
    }
    if ((end - start) % 6 !== 0) {
      throw new Http2ConnectionError(
        ERROR.FRAME_SIZE_ERROR,
        "SETTINGS whose size is no multiple of 6",
      );
    }
    this.#chargeControl("SETTINGS");
    const before = this.peer.initialWindowBytes;
    applySettings(this.peer, bytes, start, end, !this.#isServer);
    this.encoder.setPeerTableBytes(this.peer.headerTableBytes);
    const change = this.peer.initialWindowBytes - before;
    if (change !== 0) for (const stream of this.streams.values()) this.#openWindow(stream, change);
    this.writer.settingsAck();
    this.onPeerSettings();
  }

  #openWindow(stream: Http2Stream, bytes: number): void {
    stream.sendWindowBytes += bytes;
    if (stream.sendWindowBytes > MAX_WINDOW_BYTES) {
      throw new Http2ConnectionError(
        ERROR.FLOW_CONTROL_ERROR,
        "SETTINGS that open a window beyond 2^31 - 1",
      );
    }
    this.#scheduler.enqueue(stream);
  }

  #onPing(flags: number, streamId: number, bytes: Uint8Array, start: number, end: number): void {
    if (streamId !== 0) throw protocolError("PING on a stream");
    if (end - start !== 8)
      throw new Http2ConnectionError(ERROR.FRAME_SIZE_ERROR, "PING that is not 8 bytes");
    this.#chargeControl("PING");
    if ((flags & FLAG.ACK) === 0) this.writer.ping(bytes, start, true);
    else if (this.isDraining && DRAIN_PING.every((byte, index) => byte === bytes[start + index])) {
      this.#sendLastGoAway();
    }
  }

  #onGoAwayFrame(streamId: number, bytes: Uint8Array, start: number, end: number): void {
    if (streamId !== 0) throw protocolError("GOAWAY on a stream");
    if (end - start < 8)
      throw new Http2ConnectionError(ERROR.FRAME_SIZE_ERROR, "GOAWAY that is too short");
    this.#chargeControl("GOAWAY");
    this.#hasPeerGoneAway = true;
    this.onGoAway(readUint32(bytes, start) & MAX_STREAM_ID, readUint32(bytes, start + 4));
    this.#endIfDone();
  }

  #onWindowUpdate(streamId: number, bytes: Uint8Array, start: number, end: number): void {
    if (end - start !== 4) {
      throw new Http2ConnectionError(ERROR.FRAME_SIZE_ERROR, "WINDOW_UPDATE that is not 4 bytes");
    }
    const increment = readUint32(bytes, start) & MAX_WINDOW_BYTES;
    if (streamId === 0) {
      if (increment === 0) throw protocolError("WINDOW_UPDATE by 0");
      this.#scheduler.windowBytes += increment;
      if (this.#scheduler.windowBytes > MAX_WINDOW_BYTES) {
        throw new Http2ConnectionError(
          ERROR.FLOW_CONTROL_ERROR,
          "a connection window beyond 2^31 - 1",
        );
      }
      if (this.#scheduler.isReady) this.signalOutput();
      return;
    }
    const stream = this.streams.get(streamId);
    if (stream === undefined) {
      this.#requireNotIdle(streamId, "WINDOW_UPDATE");
      this.#chargeControl("WINDOW_UPDATE on closed streams");
    } else if (increment === 0) {
      this.failStream(stream, ERROR.PROTOCOL_ERROR);
    } else if (stream.sendWindowBytes + increment > MAX_WINDOW_BYTES) {
      this.failStream(stream, ERROR.FLOW_CONTROL_ERROR);
    } else {
      stream.sendWindowBytes += increment;
      this.#scheduler.enqueue(stream);
      if (this.#scheduler.isReady) this.signalOutput();
    }
  }

  // --- what went wrong, and ends -------------------------------------------------------------------------

  #dropData(stream: Http2Stream, code: number): void {
    this.#dataStream = undefined;
    this.failStream(stream, code);
  }

  #failFrame(streamId: number, code: number): void {
    const stream = this.streams.get(streamId);
    if (stream === undefined) this.refuseStream(streamId, code);
    else this.failStream(stream, code);
  }

  #requireNoBlock(): void {
    if (this.#blockStreamId !== 0) throw protocolError("a frame inside of a header block");
  }

  #requireNotIdle(streamId: number, what: string): void {
    if (this.isIdle(streamId)) throw protocolError(`${what} on the idle stream ${streamId}`);
  }

  /** Whether nobody has used the id yet. */
  protected isIdle(streamId: number): boolean {
    return this.#isServer ? streamId % 2 === 0 || streamId > this.lastPeerStreamId : false;
  }

  #requireIgnorable(streamId: number, what: string): void {
    this.#requireNotIdle(streamId, what);
    if (!this.#closedStreams.wasResetByUs(streamId)) {
      throw new Http2ConnectionError(
        ERROR.STREAM_CLOSED,
        `${what} on stream ${streamId}, which is closed`,
      );
    }
  }

  #chargeControl(what: string): void {
    if (this.#controlBudget.take(this.nowMs)) return;
    throw new Http2ConnectionError(ERROR.ENHANCE_YOUR_CALM, `too many ${what}`);
  }

  #chargeFailure(what: string): void {
    if (this.#failureBudget.take(this.nowMs)) return;
    throw new Http2ConnectionError(ERROR.ENHANCE_YOUR_CALM, `too many ${what}`);
  }

  #remove(stream: Http2Stream, isResetByUs: boolean): void {
    this.streams.delete(stream.id);
    this.#closedStreams.add(stream.id, isResetByUs);
    stream.isLocalClosed = true;
    stream.isRemoteClosed = true;
    stream.queue = [];
    stream.queuedBytes = 0;
    if (this.streams.size === 0) {
      this.timers.onIdle(this.nowMs);
      this.#endIfDone();
    }
  }

  #endIfDone(): void {
    if (this.streams.size > 0) return;
    const isOver =
      this.#hasPeerGoneAway || (this.isDraining && this.#goAwayStreamId < MAX_STREAM_ID);
    if (isOver) this.end(ERROR.NO_ERROR, "", this.#hasPeerGoneAway);
  }

  #sendLastGoAway(): void {
    if (this.#goAwayStreamId < MAX_STREAM_ID) return;
    this.#goAwayStreamId = this.lastPeerStreamId;
    this.writer.goAway(this.#goAwayStreamId, ERROR.NO_ERROR, "");
    this.#endIfDone();
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
  #guard(work: () => void): void {
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

function isLengthWrong(stream: Http2Stream, isEnd: boolean): boolean {
  if (stream.expectedBytes < 0) return false;
  return isEnd
    ? stream.receivedBytes !== stream.expectedBytes
    : stream.receivedBytes > stream.expectedBytes;
}

function protocolError(message: string): Http2ConnectionError {
  return new Http2ConnectionError(ERROR.PROTOCOL_ERROR, message);
}

function readUint32(bytes: Uint8Array, at: number): number {
  return (
    (bytes[at] as number) * 0x100_0000 +
    (((bytes[at + 1] as number) << 16) |
      ((bytes[at + 2] as number) << 8) |
      (bytes[at + 3] as number))
  );
}
