import type { CallReceiver, CancelReason, ServerCall } from "./call-receiver.ts";
import type { FieldList } from "./hpack/encoder.ts";
import type { HeaderList } from "./hpack/header-list.ts";
import { ERROR } from "./http2/protocol.ts";
import { findTrailerProblem } from "./http2/request-head.ts";
import { Http2Stream } from "./http2/stream.ts";
import { MessageReader, type MessageSink } from "./message-reader.ts";
import { formatMetadata, type Metadata } from "./metadata.ts";
import type { GrpcServerConnection } from "./server-connection.ts";
import { formatStatusMessage, GRPC_STATUS } from "./status.ts";

const HEAD: FieldList = [
  [":status", "200"],
  ["content-type", "application/grpc"],
];
const OK_TRAILERS: FieldList = [["grpc-status", "0"]];

/** A stream of a server's connection as the call that it carries. */
export class ServerStream extends Http2Stream implements ServerCall, MessageSink {
  readonly path: string;
  readonly authority: string;
  readonly headers: HeaderList;
  deadlineMs: number = Infinity;
  state: unknown = undefined;
  receiver: CallReceiver | undefined;
  readonly #connection: GrpcServerConnection;
  readonly #reader: MessageReader;
  #hasSentHead = false;
  #isFinished = false;
  /** Of the bytes that arrived: given back to the stream's window, and held by messages not yet consumed. */
  #returnedBytes = 0;
  #heldBytes = 0;
  #held: number[] | undefined;

  constructor(
    connection: GrpcServerConnection,
    id: number,
    sendWindowBytes: number,
    path: string,
    authority: string,
    headers: HeaderList,
    isGzip: boolean,
  ) {
    super(id, sendWindowBytes, connection.limits.streamWindowBytes);
    this.path = path;
    this.authority = authority;
    this.headers = headers;
    this.#connection = connection;
    this.#reader = new MessageReader(
      this,
      connection.limits.maxMessageBytes,
      connection.assembly,
      isGzip,
    );
  }

  get isOver(): boolean {
    return this.#isFinished || this.isLocalClosed;
  }

  get writableBytes(): number {
    if (this.isOver) return 0;
    return Math.max(0, this.#connection.limits.sendQueueBytes - this.queuedBytes);
  }

  respond(message: Uint8Array | readonly Uint8Array[]): void {
    this.sendMessage(message);
    this.finish(GRPC_STATUS.OK);
  }

  sendHeaders(metadata?: Metadata): void {
    if (this.#hasSentHead || this.isOver) return;
    this.#hasSentHead = true;
    const custom = formatMetadata(metadata);
    if (custom.length === 0) this.#connection.sendHeaders(this, HEAD, true, false);
    else this.#connection.sendHeaders(this, [...HEAD, ...custom], false, false);
  }

  sendMessage(message: Uint8Array | readonly Uint8Array[]): boolean {
    if (this.isOver) return true;
    this.sendHeaders();
    let length = 0;
    if (message instanceof Uint8Array) length = message.length;
    else for (const piece of message) length += piece.length;
    this.#connection.sendMessage(this, message, length);
    const isEnough = this.queuedBytes >= this.#connection.limits.sendQueueBytes;
    if (isEnough) this.owesDrain = true;
    return !isEnough;
  }

  finish(status: number, message = "", trailers?: Metadata): void {
    if (this.isOver) return;
    const custom = formatMetadata(trailers);
    this.#isFinished = true;
    this.#reader.release();
    this.#letGo();
    if (status === GRPC_STATUS.OK && message === "" && custom.length === 0 && this.#hasSentHead) {
      this.#connection.sendTrailers(this, OK_TRAILERS, true);
      return;
    }
    const fields: Array<readonly [string, string]> = this.#hasSentHead ? [] : [...HEAD];
    fields.push(["grpc-status", String(status)]);
    if (message !== "") fields.push(["grpc-message", formatStatusMessage(message)]);
    fields.push(...custom);
    this.#connection.sendTrailers(this, fields, false);
  }

  /** Answers a request in a compression we do not have; that answer must say which we have. */
  finishUnknownEncoding(): void {
    this.finishHttp([
      ...HEAD,
      ["grpc-status", String(GRPC_STATUS.UNIMPLEMENTED)],
      ["grpc-message", "this grpc-encoding is not supported"],
      ["grpc-accept-encoding", "identity,gzip"],
    ]);
  }

  /** Answers in HTTP's own words, to someone who does not speak gRPC. */
  finishHttp(fields: FieldList): void {
    this.#isFinished = true;
    this.#connection.sendHeaders(this, fields, false, true);
  }

  consumed(messages = 1): void {
    if (this.#held === undefined || this.isOver) return;
    let bytes = 0;
    for (const held of this.#held.splice(0, messages)) bytes += held;
    this.#heldBytes -= bytes;
    this.#connection.withhold(-bytes);
    this.#returnWindow();
  }

  /** The deadline has passed. */
  expire(): void {
    const receiver = this.receiver;
    if (this.#isFinished) {
      // The answer waits for a client that does not read it.
      this.#connection.resetStream(this, ERROR.CANCEL);
      return;
    }
    if (this.queuedBytes > 0) {
      this.#letGo();
      this.#connection.resetStream(this, ERROR.CANCEL);
    } else {
      this.finish(GRPC_STATUS.DEADLINE_EXCEEDED, "the deadline of the call has passed");
    }
    this.#cancel(receiver, "deadline");
  }

  onHeaders(list: HeaderList, isEnd: boolean): void {
    if (!isEnd || list.isTooLarge || findTrailerProblem(list) !== undefined) {
      this.#connection.failMalformed(this);
    }
  }

  onData(bytes: Uint8Array, start: number, end: number): void {
    if (this.isOver) return;
    const problem = this.#reader.read(bytes, start, end);
    if (problem !== undefined) this.#fail(problem.status, problem.message);
    else this.#returnWindow();
  }

  onMessageRead(message: Uint8Array, wireBytes: number): void {
    const receiver = this.receiver;
    if (receiver === undefined) return;
    if (receiver.manualConsume === true) {
      const held = Math.min(wireBytes, this.#connection.limits.streamWindowBytes / 2);
      (this.#held ??= []).push(held);
      this.#heldBytes += held;
      this.#connection.withhold(held);
    }
    try {
      receiver.onMessage(this, message);
    } catch (error) {
      this.#connection.onReceiverError(this, error);
    }
  }

  onEnd(): void {
    if (this.isOver || this.receiver === undefined) return;
    if (!this.#reader.isComplete) {
      this.#fail(GRPC_STATUS.INTERNAL, "the request ends inside of a message");
      return;
    }
    try {
      this.receiver.onHalfClose(this);
    } catch (error) {
      this.#connection.onReceiverError(this, error);
    }
  }

  onAbort(reason: "reset" | "connection"): void {
    this.#reader.release();
    this.#letGo();
    if (this.#isFinished) return;
    this.#isFinished = true;
    this.#cancel(this.receiver, reason);
  }

  onDrain(): void {
    if (this.isOver) return;
    try {
      this.receiver?.onDrain?.(this);
    } catch (error) {
      this.#connection.onReceiverError(this, error);
    }
  }

  /** The request went wrong: the client hears why, the receiver that it is over. */
  #fail(status: number, message: string): void {
    const receiver = this.receiver;
    this.finish(status, message);
    this.#cancel(receiver, "reset");
  }

  #cancel(receiver: CallReceiver | undefined, reason: CancelReason): void {
    try {
      receiver?.onCancel?.(this, reason);
    } catch (error) {
      this.#connection.onReceiverError(this, error);
    }
  }

  #letGo(): void {
    if (this.#heldBytes > 0) this.#connection.withhold(-this.#heldBytes);
    this.#heldBytes = 0;
    this.#held = undefined;
  }

  #returnWindow(): void {
    const half = this.#connection.limits.streamWindowBytes / 2;
    const partial =
      this.receiver?.manualConsume === true ? Math.min(this.#reader.partialBytes, half) : 0;
    const bytes = this.receivedBytes - this.#returnedBytes - this.#heldBytes - partial;
    if (bytes <= 0 || this.isRemoteClosed) return;
    this.#returnedBytes += bytes;
    this.#connection.consume(this, bytes);
  }
}
