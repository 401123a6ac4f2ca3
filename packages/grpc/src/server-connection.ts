import type { CallReceiver, ServerCall } from "./call-receiver.ts";
import { isGrpcContentType } from "./content-type.ts";
import { GrpcConnection, type GrpcTransport } from "./grpc-connection.ts";
import type { HeaderList } from "./hpack/header-list.ts";
import type { ConnectionEnd } from "./http2/connection-core.ts";
import { type ConnectionLimits, DEFAULT_LIMITS } from "./http2/limits.ts";
import { ERROR } from "./http2/protocol.ts";
import { readRequestHead, type RequestHead } from "./http2/request-head.ts";
import type { RequestMemory } from "./request-memory.ts";
import { ServerStream } from "./server-stream.ts";
import { GRPC_STATUS } from "./status.ts";
import { parseTimeoutMs } from "./timeout.ts";

/** What a server's connection is given. */
export interface ServerConnectionOptions {
  /** Who takes a new call; undefined answers UNIMPLEMENTED. May finish the call at once. */
  readonly onCall: (call: ServerCall) => CallReceiver | undefined;
  /** There is output: called once until `takeOutput`. Schedule the writing, do not call back. */
  readonly onOutput?: () => void;
  /** The connection is over; write what `takeOutput` still gives and end the transport. */
  readonly onEnd?: (end: ConnectionEnd) => void;
  /** A receiver threw; its call was answered INTERNAL without a word of it. */
  readonly onError?: (error: unknown, call: ServerCall) => void;
  /** Where calls ask for memory beyond their first window; without it each takes a whole window as it comes. */
  readonly memory?: RequestMemory;
  /** What differs from {@link DEFAULT_LIMITS}. */
  readonly limits?: Partial<ConnectionLimits>;
}

/** The server's side of one gRPC connection: bytes in; events and bytes out. */
export type ServerConnection = GrpcTransport;

/** Starts the server's side of a connection at the time `nowMs`; its hello is output at once. */
export function createServerConnection(
  options: ServerConnectionOptions,
  nowMs: number,
): ServerConnection {
  return new GrpcServerConnection(options, nowMs);
}

class GrpcServerConnection extends GrpcConnection {
  readonly #onCall: ServerConnectionOptions["onCall"];
  readonly #onError: ServerConnectionOptions["onError"];

  constructor(options: ServerConnectionOptions, nowMs: number) {
    const limits = { ...DEFAULT_LIMITS, ...options.limits };
    const { onOutput, onEnd, memory } = options;
    super(true, { limits, nowMs, onOutput, onEnd }, memory);
    this.#onCall = options.onCall;
    this.#onError = options.onError;
    this.sendHello(undefined);
  }

  onReceiverError(stream: ServerStream, error: unknown): void {
    stream.finish(GRPC_STATUS.INTERNAL, "internal error");
    this.#onError?.(error, stream);
  }

  protected openStream(streamId: number, list: HeaderList, isEnd: boolean): void {
    const head = readRequestHead(list);
    if (head.problem !== undefined && !list.isTooLarge) {
      this.refuseStream(streamId, ERROR.PROTOCOL_ERROR);
      return;
    }
    if (isEnd && head.contentLength > 0) {
      this.refuseStream(streamId, ERROR.PROTOCOL_ERROR);
      return;
    }
    const stream = new ServerStream(this, streamId, this.peer.initialWindowBytes, head, list);
    if (head.encoding === "gzip") stream.acceptGzip();
    stream.expectedBytes = head.contentLength;
    stream.isRemoteClosed = isEnd;
    this.addStream(stream);
    if (list.isTooLarge) {
      stream.finish(
        GRPC_STATUS.RESOURCE_EXHAUSTED,
        `request headers of ${list.sizeBytes} bytes; the limit is ${this.limits.maxHeaderListBytes}`,
      );
    } else if (!this.#refuse(stream, head)) {
      this.#start(stream, isEnd);
    }
  }

  /** Answers a request that is no call we could take. */
  #refuse(stream: ServerStream, head: RequestHead): boolean {
    if (head.method !== "POST") {
      stream.finishHttp([
        [":status", "405"],
        ["allow", "POST"],
      ]);
    } else if (!isGrpcContentType(head.contentType)) {
      stream.finishHttp([[":status", "415"]]);
    } else if (head.authority.includes("@")) {
      stream.finish(
        GRPC_STATUS.UNAUTHENTICATED,
        "credentials in the address are not taken; send an authorization header",
      );
    } else if (
      head.encoding !== undefined &&
      head.encoding !== "gzip" &&
      head.encoding !== "identity"
    ) {
      stream.finishUnknownEncoding();
    } else if (head.timeout !== undefined) {
      return !this.#setDeadline(stream, head.timeout);
    } else {
      return false;
    }
    return true;
  }

  #setDeadline(stream: ServerStream, timeout: string): boolean {
    const timeoutMs = parseTimeoutMs(timeout);
    if (timeoutMs === undefined) {
      stream.finish(GRPC_STATUS.INTERNAL, "a grpc-timeout that is none");
      return false;
    }
    stream.deadlineMs = this.nowMs + timeoutMs;
    this.watchDeadline(stream.deadlineMs);
    return true;
  }

  #start(stream: ServerStream, isEnd: boolean): void {
    try {
      const receiver = this.#onCall(stream);
      if (receiver === undefined) {
        stream.finish(GRPC_STATUS.UNIMPLEMENTED, `no method ${stream.path}`);
        return;
      }
      stream.receiver = receiver;
    } catch (error) {
      this.onReceiverError(stream, error);
      return;
    }
    if (isEnd) stream.onEnd();
  }

  protected onGoAway(): void {
    // The client opens no more calls; those that are open go on.
  }
}
