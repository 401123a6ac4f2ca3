import type { CallReceiver, CancelReason, ServerCall } from "./call-receiver.ts";
import type { GrpcConnection } from "./grpc-connection.ts";
import { GrpcStream } from "./grpc-stream.ts";
import type { FieldList } from "./hpack/encoder.ts";
import type { HeaderList } from "./hpack/header-list.ts";
import { ERROR } from "./http2/protocol.ts";
import { findTrailerProblem } from "./http2/request-head.ts";
import { keepStatus, type KeptStatus, RESPONSE_HEAD } from "./kept-status.ts";
import type { MessageProblem } from "./message-reader.ts";
import { formatMetadata, type Metadata } from "./metadata.ts";
import type { MemoryLease, MemoryWish } from "./request-memory.ts";
import { formatStatusMessage, GRPC_STATUS } from "./status.ts";

const OK = keepStatus(GRPC_STATUS.OK);

/** A stream of a server's connection as the call that it carries. */
export class ServerStream extends GrpcStream implements ServerCall {
  readonly path: string;
  readonly authority: string;
  readonly headers: HeaderList;
  state: unknown = undefined;
  receiver: CallReceiver | undefined;
  status: number | undefined = undefined;
  #holds = 0;
  #hasSentHead = false;
  #isFinished = false;

  constructor(
    connection: GrpcConnection,
    id: number,
    sendWindowBytes: number,
    request: { readonly path: string; readonly authority: string },
    headers: HeaderList,
  ) {
    super(connection, id, sendWindowBytes);
    this.path = request.path;
    this.authority = request.authority;
    this.headers = headers;
  }

  get isOver(): boolean {
    return this.#isFinished || this.isLocalClosed;
  }

  /** The request's messages may be compressed. */
  acceptGzip(): void {
    this.reader.isGzip = true;
  }

  respond(message: Uint8Array | readonly Uint8Array[]): void {
    this.sendMessage(message);
    this.finishWith(OK);
  }

  sendHeaders(metadata?: Metadata): void {
    if (this.#hasSentHead || this.isOver) return;
    const custom = formatMetadata(metadata);
    this.#hasSentHead = true;
    if (custom.length === 0) this.connection.sendHeaders(this, RESPONSE_HEAD, true, false);
    else this.connection.sendHeaders(this, [...RESPONSE_HEAD, ...custom], false, false);
  }

  sendMessage(message: Uint8Array | readonly Uint8Array[], onSent?: () => void): boolean {
    if (this.isOver) return true;
    this.sendHeaders();
    return this.queueMessage(message, onSent);
  }

  sendBytes(bytes: Uint8Array): boolean {
    if (this.isOver) return true;
    this.sendHeaders();
    return this.queueBytes(bytes);
  }

  finish(status: number, message = "", trailers?: Metadata): void {
    if (this.isOver) return;
    if (status === GRPC_STATUS.OK && message === "" && trailers === undefined) {
      this.finishWith(OK);
      return;
    }
    const custom = formatMetadata(trailers);
    this.#end(status);
    const fields: Array<readonly [string, string]> = this.#hasSentHead ? [] : [...RESPONSE_HEAD];
    fields.push(["grpc-status", String(status)]);
    if (message !== "") fields.push(["grpc-message", formatStatusMessage(message)]);
    fields.push(...custom);
    this.connection.sendTrailers(this, fields, false);
  }

  finishWith({ status, answer, trailers }: KeptStatus): void {
    if (this.isOver) return;
    this.#end(status);
    this.connection.sendTrailers(this, this.#hasSentHead ? trailers : answer, true);
  }

  #end(status: number): void {
    this.#isFinished = true;
    this.status = status;
    this.letGo();
  }

  /** Answers a request in a compression we do not have; that answer must say which we have. */
  finishUnknownEncoding(): void {
    this.finishHttp([
      ...RESPONSE_HEAD,
      ["grpc-status", String(GRPC_STATUS.UNIMPLEMENTED)],
      ["grpc-message", "this grpc-encoding is not supported"],
      ["grpc-accept-encoding", "identity,gzip"],
    ]);
  }

  /** Answers in HTTP's own words, to someone who does not speak gRPC. */
  finishHttp(fields: FieldList): void {
    this.#isFinished = true;
    this.connection.sendHeaders(this, fields, false, true);
  }

  expire(): void {
    if (this.#isFinished) {
      // The answer waits for a client that does not read it.
      this.connection.resetStream(this, ERROR.CANCEL);
      return;
    }
    if (this.queuedBytes > 0) {
      this.#isFinished = true;
      this.letGo();
      this.connection.resetStream(this, ERROR.CANCEL);
    } else {
      this.finish(GRPC_STATUS.DEADLINE_EXCEEDED, "the deadline of the call has passed");
    }
    this.#cancel("deadline");
  }

  holdMemory(): () => void {
    if (!this.hasMemory) return nothing;
    this.#holds += 1;
    let isHeld = true;
    return () => {
      if (!isHeld) return;
      isHeld = false;
      this.#holds -= 1;
      if (this.isOver) this.releaseMemory();
    };
  }

  onHeaders(list: HeaderList, isEnd: boolean): void {
    if (!isEnd || list.isTooLarge || findTrailerProblem(list) !== undefined) {
      this.connection.failMalformed(this);
    }
  }

  onEnd(): void {
    if (this.isOver || this.receiver === undefined) return;
    if (!this.reader.isComplete) {
      this.fail({
        status: GRPC_STATUS.INTERNAL,
        message: "the request ends inside of a message",
      });
      return;
    }
    try {
      this.receiver.onHalfClose(this);
    } catch (error) {
      this.connection.onReceiverError(this, error);
    }
  }

  onAbort(reason: "reset" | "connection"): void {
    this.letGo();
    if (this.#isFinished) return;
    this.#isFinished = true;
    this.#cancel(reason);
  }

  onDrain(): void {
    if (this.isOver) return;
    try {
      this.receiver?.onDrain?.(this);
    } catch (error) {
      this.connection.onReceiverError(this, error);
    }
  }

  protected get holdsWindow(): boolean {
    return this.receiver?.manualConsume === true;
  }

  protected get takesBytes(): boolean {
    return this.receiver?.onBytes !== undefined;
  }

  protected get keepsNothing(): boolean {
    return this.receiver?.keepsNothing === true;
  }

  protected get holdsMemory(): boolean {
    return this.#holds > 0;
  }

  protected get expectedRequestBytes(): number {
    return this.receiver?.requestBytes?.(this) ?? Infinity;
  }

  protected askMemory(wish: MemoryWish, onGranted: () => void): MemoryLease | undefined {
    return this.connection.memory?.ask(this, wish, onGranted);
  }

  protected deliver(message: Uint8Array): void {
    try {
      if (this.receiver?.onBytes === undefined) this.receiver?.onMessage(this, message);
      else this.receiver.onBytes(this, message);
    } catch (error) {
      this.connection.onReceiverError(this, error);
    }
  }

  /** The request went wrong: the client hears why, the receiver that it is over. */
  protected fail({ status, message }: MessageProblem): void {
    this.finish(status, message);
    this.#cancel("reset");
  }

  #cancel(reason: CancelReason): void {
    try {
      this.receiver?.onCancel?.(this, reason);
    } catch (error) {
      this.connection.onReceiverError(this, error);
    }
  }
}

function nothing(): void {}
