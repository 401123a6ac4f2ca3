import type { CallReceiver, ServerCall } from "./call-receiver.ts";
import type { HeaderList } from "./hpack/header-list.ts";
import type { ConnectionEnd } from "./http2/connection-core.ts";
import { Http2Connection } from "./http2/connection.ts";
import { type ConnectionLimits, DEFAULT_LIMITS } from "./http2/limits.ts";
import { ERROR } from "./http2/protocol.ts";
import { readRequestHead, type RequestHead } from "./http2/request-head.ts";
import type { AssemblyBudget } from "./message-reader.ts";
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
  /** What differs from {@link DEFAULT_LIMITS}. */
  readonly limits?: Partial<ConnectionLimits>;
}

/** The server's side of one gRPC connection: bytes in; events and bytes out. */
export interface ServerConnection {
  /** Over: nothing is read any more. What `takeOutput` still gives is to be written. */
  readonly isClosed: boolean;
  /** Whether the transport should go on reading. */
  readonly wantsInput: boolean;
  /** When {@link tick} is to be called at the latest; Infinity when there is no need. */
  readonly nextTickMs: number;
  /** Takes bytes as they arrived; they must not change afterwards. `nowMs` is any monotonic clock. */
  receive(bytes: Uint8Array, nowMs: number): void;
  /** Everything to write now, in order. Not to be called while the transport is full: that is the back-pressure. */
  takeOutput(): Uint8Array[];
  tick(nowMs: number): void;
  /** Ends when the open calls have ended; new ones are not taken. */
  drain(nowMs: number): void;
  /** Ends now; open calls are cancelled. */
  close(): void;
  /** The transport is gone; open calls are cancelled. */
  transportClosed(): void;
}

/** Starts the server's side of a connection at the time `nowMs`; its hello is output at once. */
export function createServerConnection(
  options: ServerConnectionOptions,
  nowMs: number,
): ServerConnection {
  return new GrpcServerConnection(options, nowMs);
}

export class GrpcServerConnection extends Http2Connection implements ServerConnection {
  readonly assembly: AssemblyBudget;
  readonly #onCall: ServerConnectionOptions["onCall"];
  readonly #onError: ServerConnectionOptions["onError"];

  constructor(options: ServerConnectionOptions, nowMs: number) {
    const limits = { ...DEFAULT_LIMITS, ...options.limits };
    super(true, { limits, nowMs, onOutput: options.onOutput, onEnd: options.onEnd });
    this.assembly = { usedBytes: 0, maxBytes: limits.maxAssemblyBytes };
    this.#onCall = options.onCall;
    this.#onError = options.onError;
    this.sendHello(undefined);
  }

  /** A request that HTTP/2 calls malformed. */
  failMalformed(stream: ServerStream): void {
    this.failStream(stream, ERROR.PROTOCOL_ERROR);
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
    const stream = new ServerStream(
      this,
      streamId,
      this.peer.initialWindowBytes,
      head.path,
      head.authority,
      list,
      head.encoding === "gzip",
    );
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
    this.timers.earliestDeadlineMs = Math.min(this.timers.earliestDeadlineMs, stream.deadlineMs);
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

  protected onDeadlines(nowMs: number): void {
    let earliest = Infinity;
    for (const stream of [...this.streams.values()] as ServerStream[]) {
      if (stream.deadlineMs <= nowMs) stream.expire();
      else earliest = Math.min(earliest, stream.deadlineMs);
    }
    this.timers.earliestDeadlineMs = earliest;
  }
}

function isGrpcContentType(type: string | undefined): boolean {
  if (type === "application/grpc") return true;
  return type !== undefined && /^application\/grpc(\+|;)/i.test(type);
}
