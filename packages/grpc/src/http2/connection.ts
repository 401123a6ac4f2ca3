import type { HeaderList } from "../hpack/header-list.ts";
import { ConnectionCore, DRAIN_PING, type Http2ConnectionOptions } from "./connection-core.ts";
import { FrameParser, type FrameSink } from "./frame-parser.ts";
import { HeaderBlockReader } from "./header-block-reader.ts";
import {
  ERROR,
  FLAG,
  FRAME,
  Http2ConnectionError,
  MAX_STREAM_ID,
  MAX_WINDOW_BYTES,
  protocolError,
  requireLength,
} from "./protocol.ts";
import { ReceiveWindow } from "./receive-window.ts";
import { applySettings } from "./settings.ts";
import { type Http2Stream, isLengthWrong } from "./stream.ts";

const TRICKLE_BYTES = 256;
const KEEP_ALIVE_PING: Uint8Array = Buffer.from("alive???", "latin1");

/**
 * One HTTP/2 connection (RFC 9113) without I/O: what it makes of the frames that arrive. The two roles extend it
 * with what a new stream means.
 */
export abstract class Http2Connection extends ConnectionCore implements FrameSink {
  readonly #parser: FrameParser;
  readonly #blocks: HeaderBlockReader;
  readonly #window: ReceiveWindow;
  #unackedSettings = 1;
  #dataStream: Http2Stream | undefined;

  protected constructor(isServer: boolean, options: Http2ConnectionOptions) {
    super(isServer, options);
    const { limits } = options;
    this.#parser = new FrameParser(this, limits.maxFrameBytes, isServer);
    this.#blocks = new HeaderBlockReader(limits, () =>
      this.chargeControl("short CONTINUATION frames"),
    );
    this.#window = new ReceiveWindow(limits.connectionWindowBytes);
  }

  /** A header block opens a stream that is not known yet. Its id was checked to be new. */
  protected abstract openStream(streamId: number, list: HeaderList, isEnd: boolean): void;
  /** The other end will not answer streams above `lastStreamId`. */
  protected abstract onGoAway(lastStreamId: number, code: number): void;
  protected abstract onDeadlines(nowMs: number): void;
  protected onPeerSettings(): void {}

  /** When {@link tick} wants to be called at the latest; Infinity when there is no need. */
  get nextTickMs(): number {
    return this.isClosed ? Infinity : this.timers.nextMs(this.#waitsForPeer, this.streams.size);
  }

  get #waitsForPeer(): boolean {
    return this.#waitedFor !== 0;
  }

  /** What the other end owes us, as a number that changes when it gets on with it; 0 for nothing. */
  get #waitedFor(): number {
    if (this.#unackedSettings > 0) return -1;
    if (this.#blocks.streamId !== 0) return -1 - this.#blocks.streamId;
    return this.#parser.isInsideFrame ? this.#parser.frames : 0;
  }

  /** Takes bytes as they arrived. They must not change afterwards. Never throws for what they are. */
  receive(bytes: Uint8Array, nowMs: number): void {
    if (this.isClosed || bytes.length === 0) return;
    this.nowMs = nowMs;
    const before = this.#waitedFor;
    this.guard(() => {
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

  /** Lets time pass: deadlines, keep-alive, stalls. */
  tick(nowMs: number): void {
    if (this.isClosed) return;
    this.nowMs = nowMs;
    this.guard(() => {
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
      if (due.lastGoAway) this.sendLastGoAway();
      if (due.drained) this.end(ERROR.NO_ERROR, "drained", false);
    });
    if (this.output.pendingBytes > 0) this.signalOutput();
  }

  /**
   * Holds delivered bytes back from the connection's window (negative: they were consumed). Bytes of incomplete
   * messages are never held back: many streams could then wait for each other for ever.
   */
  withhold(bytes: number): void {
    this.#window.withhold(bytes);
    if (bytes < 0) this.#openConnectionWindow();
  }

  #openConnectionWindow(): void {
    const bytes = this.isClosed ? 0 : this.#window.takeUpdate();
    if (bytes === 0) return;
    this.writer.windowUpdate(0, bytes);
    this.signalOutput();
  }

  onDataStart(streamId: number, flags: number, length: number, paddingBytes: number): void {
    this.#requireNoBlock();
    if (streamId === 0) throw protocolError("DATA on stream 0");
    this.#window.arrive(length);
    this.#openConnectionWindow();
    const stream = this.streams.get(streamId);
    this.#dataStream = stream;
    if (length === paddingBytes && (flags & FLAG.END_STREAM) === 0)
      this.chargeControl("empty DATA");
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
    }
  }

  onDataBytes(bytes: Uint8Array, start: number, end: number): void {
    const stream = this.#dataStream;
    if (stream !== undefined && !stream.isRemoteClosed) stream.onData(bytes, start, end);
  }

  onDataEnd(_streamId: number, flags: number): void {
    const stream = this.#dataStream;
    this.#dataStream = undefined;
    if (stream === undefined) return;
    if ((flags & FLAG.END_STREAM) === 0) stream.onDataFrame();
    else if (this.streams.get(stream.id) === stream) this.#closeRemote(stream);
  }

  onUnknownFrame(): void {
    this.#requireNoBlock();
    this.chargeControl("frames of unknown types");
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
      const list = this.#blocks.readContinuation(flags, streamId, bytes, start, end);
      if (list !== undefined) this.#onBlock(streamId, list, this.#blocks.isEnd);
      return;
    }
    this.#requireNoBlock();
    switch (type) {
      case FRAME.HEADERS: {
        const list = this.#blocks.readHeaders(flags, streamId, bytes, start, end);
        if (list !== undefined) this.#onBlock(streamId, list, this.#blocks.isEnd);
        break;
      }
      case FRAME.PRIORITY:
        if (streamId === 0) throw protocolError("PRIORITY on stream 0");
        this.chargeControl("PRIORITY");
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

  #onBlock(streamId: number, list: HeaderList, isEnd: boolean): void {
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
    if (!this.isServer || streamId <= this.lastPeerStreamId || streamId % 2 === 0) {
      this.#onBlockOfNoStream(streamId);
      return;
    }
    this.lastPeerStreamId = streamId;
    if (streamId > this.goAwayStreamId || this.streams.size >= this.limits.maxConcurrentStreams) {
      this.refuseStream(streamId, ERROR.REFUSED_STREAM);
      return;
    }
    this.openStream(streamId, list, isEnd);
  }

  /** A header block for a stream that is closed, or that the other end may not open. */
  #onBlockOfNoStream(streamId: number): void {
    if (this.closedStreams.wasResetByUs(streamId)) return;
    const code = this.closedStreams.has(streamId) ? ERROR.STREAM_CLOSED : ERROR.PROTOCOL_ERROR;
    throw new Http2ConnectionError(code, `HEADERS on stream ${streamId}, which is not open`);
  }

  /** END_STREAM arrived and everything before it was delivered. */
  #closeRemote(stream: Http2Stream): void {
    stream.isRemoteClosed = true;
    if (stream.isLocalClosed) this.remove(stream, false);
    stream.onEnd();
  }

  #onResetStream(streamId: number, bytes: Uint8Array, start: number, end: number): void {
    if (streamId === 0) throw protocolError("RST_STREAM on stream 0");
    requireLength("RST_STREAM", end - start, 4);
    const stream = this.streams.get(streamId);
    if (stream === undefined) {
      this.#requireNotIdle(streamId, "RST_STREAM");
      // It crossed our last frames, or it is part of a flood.
      this.chargeControl("RST_STREAM on closed streams");
      return;
    }
    this.remove(stream, false);
    stream.onAbort("reset", readUint32(bytes, start));
    if (this.isServer) this.chargeFailure("streams that were cancelled");
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
      requireLength("an acknowledgement of SETTINGS", end - start, 0);
      this.chargeControl("SETTINGS");
      if (this.#unackedSettings > 0) this.#unackedSettings -= 1;
      return;
    }
    if ((end - start) % 6 !== 0) {
      throw new Http2ConnectionError(
        ERROR.FRAME_SIZE_ERROR,
        "SETTINGS whose size is no multiple of 6",
      );
    }
    this.chargeControl("SETTINGS");
    const before = this.peer.initialWindowBytes;
    applySettings(this.peer, this.encoder, bytes, start, end, !this.isServer);
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
    this.scheduler.enqueue(stream);
  }

  #onPing(flags: number, streamId: number, bytes: Uint8Array, start: number, end: number): void {
    if (streamId !== 0) throw protocolError("PING on a stream");
    requireLength("PING", end - start, 8);
    this.chargeControl("PING");
    if ((flags & FLAG.ACK) === 0) this.writer.ping(bytes, start, true);
    else if (this.isDraining && DRAIN_PING.every((byte, index) => byte === bytes[start + index])) {
      this.sendLastGoAway();
    }
  }

  #onGoAwayFrame(streamId: number, bytes: Uint8Array, start: number, end: number): void {
    if (streamId !== 0) throw protocolError("GOAWAY on a stream");
    if (end - start < 8)
      throw new Http2ConnectionError(ERROR.FRAME_SIZE_ERROR, "GOAWAY that is too short");
    this.chargeControl("GOAWAY");
    this.hasPeerGoneAway = true;
    this.onGoAway(readUint32(bytes, start) & MAX_STREAM_ID, readUint32(bytes, start + 4));
    this.endIfDone();
  }

  #onWindowUpdate(streamId: number, bytes: Uint8Array, start: number, end: number): void {
    requireLength("WINDOW_UPDATE", end - start, 4);
    const increment = readUint32(bytes, start) & MAX_WINDOW_BYTES;
    if (streamId === 0) {
      if (increment === 0) throw protocolError("WINDOW_UPDATE by 0");
      if (this.scheduler.isWaiting) this.#chargeTrickle(increment);
      this.scheduler.windowBytes += increment;
      if (this.scheduler.windowBytes > MAX_WINDOW_BYTES) {
        throw new Http2ConnectionError(
          ERROR.FLOW_CONTROL_ERROR,
          "a connection window beyond 2^31 - 1",
        );
      }
      if (this.scheduler.isReady) this.signalOutput();
      return;
    }
    const stream = this.streams.get(streamId);
    if (stream === undefined) {
      this.#requireNotIdle(streamId, "WINDOW_UPDATE");
      this.chargeControl("WINDOW_UPDATE on closed streams");
    } else if (increment === 0) {
      this.failStream(stream, ERROR.PROTOCOL_ERROR);
    } else if (stream.sendWindowBytes + increment > MAX_WINDOW_BYTES) {
      this.failStream(stream, ERROR.FLOW_CONTROL_ERROR);
    } else {
      if (stream.queuedBytes > increment) this.#chargeTrickle(increment);
      stream.sendWindowBytes += increment;
      this.scheduler.enqueue(stream);
      if (this.scheduler.isReady) this.signalOutput();
    }
  }

  /** A window that opens by so little makes us send tiny frames. */
  #chargeTrickle(increment: number): void {
    if (increment < TRICKLE_BYTES) this.chargeControl("windows opened by trickles");
  }

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
    if (this.#blocks.streamId !== 0) throw protocolError("a frame inside of a header block");
  }

  #requireNotIdle(streamId: number, what: string): void {
    if (this.isIdle(streamId)) throw protocolError(`${what} on the idle stream ${streamId}`);
  }

  /** Whether nobody has used the id yet. */
  protected isIdle(streamId: number): boolean {
    return this.isServer ? streamId % 2 === 0 || streamId > this.lastPeerStreamId : false;
  }

  #requireIgnorable(streamId: number, what: string): void {
    this.#requireNotIdle(streamId, what);
    if (!this.closedStreams.wasResetByUs(streamId)) {
      throw new Http2ConnectionError(
        ERROR.STREAM_CLOSED,
        `${what} on stream ${streamId}, which is closed`,
      );
    }
  }
}

function readUint32(bytes: Uint8Array, at: number): number {
  return (
    (bytes[at] as number) * 0x100_0000 +
    (((bytes[at + 1] as number) << 16) |
      ((bytes[at + 2] as number) << 8) |
      (bytes[at + 3] as number))
  );
}
