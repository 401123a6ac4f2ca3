import type { CallStart, ClientCall, ClientReceiver } from "./client-call.ts";
import { ClientStream } from "./client-stream.ts";
import { GrpcConnection, type GrpcTransport } from "./grpc-connection.ts";
import type { GrpcStream } from "./grpc-stream.ts";
import type { ConnectionEnd } from "./http2/connection-core.ts";
import { type ConnectionLimits, DEFAULT_LIMITS } from "./http2/limits.ts";
import { ERROR, Http2ConnectionError, MAX_STREAM_ID, PREFACE } from "./http2/protocol.ts";
import { formatMetadata } from "./metadata.ts";
import { formatTimeout } from "./timeout.ts";

/** Servers end connections of clients that ask "are you there" more often than every five minutes. */
const CLIENT_KEEP_ALIVE_MS = 300_000;

/** What a client's connection is given. */
export interface ClientConnectionOptions {
  /** There is output: called once until `takeOutput`. Schedule the writing, do not call back. */
  readonly onOutput?: () => void;
  /** The connection is over; write what `takeOutput` still gives and end the transport. */
  readonly onEnd?: (end: ConnectionEnd) => void;
  /** A receiver threw; its call was cancelled. */
  readonly onError?: (error: unknown, call: ClientCall) => void;
  /** What differs from `DEFAULT_LIMITS`; `keepAliveMs` is five minutes here. */
  readonly limits?: Partial<ConnectionLimits>;
}

/** The client's side of one gRPC connection: calls and bytes in; events and bytes out. */
export interface ClientConnection extends GrpcTransport {
  /** How many more calls may be started now; 0 for good when the connection is ending. */
  readonly availableCalls: number;
  /**
   * Starts a call at the time `nowMs`, from which its deadline counts.
   *
   * @returns undefined when {@link availableCalls} is 0
   */
  startCall(start: CallStart, receiver: ClientReceiver, nowMs: number): ClientCall | undefined;
}

/** Starts the client's side of a connection at the time `nowMs`; its preface is output at once. */
export function createClientConnection(
  options: ClientConnectionOptions,
  nowMs: number,
): ClientConnection {
  return new GrpcClientConnection(options, nowMs);
}

class GrpcClientConnection extends GrpcConnection implements ClientConnection {
  readonly #onError: ClientConnectionOptions["onError"];
  #nextStreamId = 1;

  constructor(options: ClientConnectionOptions, nowMs: number) {
    const limits = { ...DEFAULT_LIMITS, keepAliveMs: CLIENT_KEEP_ALIVE_MS, ...options.limits };
    super(false, { limits, nowMs, onOutput: options.onOutput, onEnd: options.onEnd });
    this.#onError = options.onError;
    this.sendHello(PREFACE);
  }

  get availableCalls(): number {
    if (this.isClosed || this.isDraining || this.hasPeerGoneAway) return 0;
    if (this.#nextStreamId > MAX_STREAM_ID) return 0;
    const most = Math.min(this.peer.maxConcurrentStreams, this.limits.maxConcurrentStreams);
    return Math.max(0, most - this.streams.size);
  }

  startCall(start: CallStart, receiver: ClientReceiver, nowMs: number): ClientCall | undefined {
    if (this.availableCalls === 0) return undefined;
    const fields = [
      [":method", "POST"],
      [":scheme", start.scheme ?? "http"],
      [":path", start.path],
      [":authority", start.authority],
      ["content-type", "application/grpc"],
      ["te", "trailers"],
      ["grpc-accept-encoding", receiver.onBytes === undefined ? "identity,gzip" : "identity"],
      ...formatMetadata(start.metadata),
    ] as Array<readonly [string, string]>;
    const stream = new ClientStream(
      this,
      this.#nextStreamId,
      this.peer.initialWindowBytes,
      receiver,
    );
    this.#nextStreamId += 2;
    if (start.timeoutMs !== undefined) {
      fields.push(["grpc-timeout", formatTimeout(start.timeoutMs)]);
      stream.deadlineMs = nowMs + start.timeoutMs;
      this.watchDeadline(stream.deadlineMs);
    }
    this.addStream(stream);
    this.sendHeaders(stream, fields, false, false);
    return stream;
  }

  onReceiverError(stream: GrpcStream, error: unknown): void {
    const call = stream as ClientStream;
    call.cancel();
    this.#onError?.(error, call);
  }

  protected openStream(streamId: number): void {
    throw new Http2ConnectionError(ERROR.PROTOCOL_ERROR, `the server opened stream ${streamId}`);
  }

  protected onGoAway(lastStreamId: number): void {
    for (const stream of [...this.streams.values()] as ClientStream[]) {
      if (stream.id <= lastStreamId) continue;
      this.remove(stream, true);
      stream.onUnprocessed();
    }
  }

  protected override isIdle(streamId: number): boolean {
    return streamId % 2 === 0 || streamId >= this.#nextStreamId;
  }
}
