import type { CallEnd, ClientCall, ClientReceiver } from "./client-call.ts";
import { isGrpcContentType } from "./content-type.ts";
import type { GrpcConnection } from "./grpc-connection.ts";
import { GrpcStream } from "./grpc-stream.ts";
import type { HeaderList } from "./hpack/header-list.ts";
import { ERROR } from "./http2/protocol.ts";
import { findTrailerProblem } from "./http2/request-head.ts";
import { readResponseHead } from "./http2/response-head.ts";
import type { MessageProblem } from "./message-reader.ts";
import { GRPC_STATUS, parseStatusMessage, statusOfHttp, statusOfReset } from "./status.ts";

/** A stream of a client's connection as the call that it carries. */
export class ClientStream extends GrpcStream implements ClientCall {
  state: unknown = undefined;
  readonly #receiver: ClientReceiver;
  #hasHead = false;
  #isHalfClosed = false;
  #isOver = false;

  constructor(
    connection: GrpcConnection,
    id: number,
    sendWindowBytes: number,
    receiver: ClientReceiver,
  ) {
    super(connection, id, sendWindowBytes);
    this.#receiver = receiver;
  }

  get isOver(): boolean {
    return this.#isOver;
  }

  sendMessage(message: Uint8Array | readonly Uint8Array[]): boolean {
    if (this.#isOver || this.#isHalfClosed) return true;
    return this.queueMessage(message);
  }

  sendBytes(bytes: Uint8Array): boolean {
    if (this.#isOver || this.#isHalfClosed) return true;
    return this.queueBytes(bytes);
  }

  halfClose(): void {
    if (this.#isOver || this.#isHalfClosed) return;
    this.#isHalfClosed = true;
    this.connection.sendEnd(this);
  }

  cancel(): void {
    this.#stop(GRPC_STATUS.CANCELLED, "the call was given up");
  }

  expire(): void {
    this.#stop(GRPC_STATUS.DEADLINE_EXCEEDED, "the deadline of the call has passed");
  }

  onHeaders(list: HeaderList, isEnd: boolean): void {
    if (this.#isOver) return;
    if (list.isTooLarge) {
      this.#stop(GRPC_STATUS.RESOURCE_EXHAUSTED, `response headers of ${list.sizeBytes} bytes`);
    } else if (this.#hasHead) {
      if (!isEnd || findTrailerProblem(list) !== undefined) this.connection.failMalformed(this);
      else this.#onStatus(list, GRPC_STATUS.UNKNOWN);
    } else {
      this.#onHead(list, isEnd);
    }
  }

  onEnd(): void {
    // A server may end before we have said everything; the rest is of no interest to it.
    if (!this.isLocalClosed) this.connection.resetStream(this, ERROR.NO_ERROR);
    this.#end({
      status: GRPC_STATUS.INTERNAL,
      message: "the answer ended without a status",
      trailers: undefined,
      isUnprocessed: false,
    });
  }

  onAbort(reason: "reset" | "connection", code: number): void {
    this.#end({
      status: reason === "connection" ? GRPC_STATUS.UNAVAILABLE : statusOfReset(code),
      message:
        reason === "connection"
          ? "the connection ended"
          : `the server reset the stream with code ${code}`,
      trailers: undefined,
      isUnprocessed: reason === "reset" && code === ERROR.REFUSED_STREAM,
    });
  }

  /** The server will not look at this call any more. */
  onUnprocessed(): void {
    this.#end({
      status: GRPC_STATUS.UNAVAILABLE,
      message: "the server takes no more calls on this connection",
      trailers: undefined,
      isUnprocessed: true,
    });
  }

  onDrain(): void {
    this.#call(() => this.#receiver.onDrain?.(this));
  }

  protected get holdsWindow(): boolean {
    return this.#receiver.manualConsume === true;
  }

  protected get keepsNothing(): boolean {
    return false;
  }

  protected get takesBytes(): boolean {
    return this.#receiver.onBytes !== undefined;
  }

  protected get holdsMemory(): boolean {
    return false;
  }

  protected get expectedRequestBytes(): number {
    return Infinity;
  }

  protected askMemory(): undefined {}

  protected deliver(message: Uint8Array): void {
    this.#call(() => {
      if (this.#receiver.onBytes === undefined) this.#receiver.onMessage(this, message);
      else this.#receiver.onBytes(this, message);
    });
  }

  protected fail({ status, message }: MessageProblem): void {
    this.#stop(status, message);
  }

  #onHead(list: HeaderList, isEnd: boolean): void {
    const head = readResponseHead(list);
    if (head.problem !== undefined || (head.status < 200 && isEnd)) {
      this.connection.failMalformed(this);
      return;
    }
    if (head.status < 200) return;
    this.#hasHead = true;
    this.expectedBytes = head.contentLength;
    const isGrpc = head.status === 200 && isGrpcContentType(head.contentType);
    if (isEnd) {
      this.#onStatus(list, head.status === 200 ? GRPC_STATUS.UNKNOWN : statusOfHttp(head.status));
    } else if (!isGrpc) {
      this.#stop(
        statusOfHttp(head.status),
        `the server answered with HTTP status ${head.status}, not with gRPC`,
      );
    } else if (
      head.encoding !== undefined &&
      !(this.takesBytes ? ["identity"] : ["identity", "gzip"]).includes(head.encoding)
    ) {
      this.#stop(
        GRPC_STATUS.INTERNAL,
        "the server answered in a grpc-encoding that we do not have",
      );
    } else {
      this.reader.isGzip = head.encoding === "gzip";
      this.#call(() => this.#receiver.onHeaders?.(this, list));
    }
  }

  #onStatus(trailers: HeaderList, fallback: number): void {
    const status = trailers.get("grpc-status");
    const message = parseStatusMessage(trailers.get("grpc-message") ?? "");
    // The stream's own end follows and must find it over.
    const isCut = status === "0" && !this.reader.isComplete;
    if (isCut) {
      this.#end({
        status: GRPC_STATUS.INTERNAL,
        message: "the answer ends inside of a message",
        trailers,
        isUnprocessed: false,
      });
      return;
    }
    this.#end({
      status: status !== undefined && /^\d{1,3}$/.test(status) ? Number(status) : fallback,
      message: status === undefined ? "the server sent no grpc-status" : message,
      trailers,
      isUnprocessed: false,
    });
  }

  #stop(status: number, message: string): void {
    if (this.#isOver) return;
    this.connection.resetStream(this, ERROR.CANCEL);
    this.#end({ status, message, trailers: undefined, isUnprocessed: false });
  }

  #end(end: CallEnd): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.letGo();
    this.#call(() => this.#receiver.onEnd(this, end));
  }

  #call(event: () => void): void {
    try {
      event();
    } catch (error) {
      this.connection.onReceiverError(this, error);
    }
  }
}
