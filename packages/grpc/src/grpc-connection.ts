import type { GrpcStream } from "./grpc-stream.ts";
import type { Http2ConnectionOptions } from "./http2/connection-core.ts";
import { Http2Connection } from "./http2/connection.ts";
import { ERROR } from "./http2/protocol.ts";
import type { AssemblyBudget } from "./message-reader.ts";
import type { RequestMemory } from "./request-memory.ts";

/** What a transport needs to know of either side of a connection. */
export interface GrpcTransport {
  /** Over: nothing is read any more. What {@link takeOutput} still gives is to be written. */
  readonly isClosed: boolean;
  /** Whether the transport should go on reading. */
  readonly wantsInput: boolean;
  /** When {@link tick} is to be called at the latest; Infinity when there is no need. */
  readonly nextTickMs: number;
  /** Takes bytes as they arrived; they must not change afterwards. `nowMs` is any monotonic clock. */
  receive(bytes: Uint8Array, nowMs: number): void;
  /** Whether something of what {@link receive} took last is still in use. */
  readonly isInputKept: boolean;
  /** Everything to write now, in order. Not to be called while the transport is full: that is the back-pressure. */
  takeOutput(): Uint8Array[];
  /** Who is to be called when what {@link takeOutput} gave last was written; nobody when that failed. */
  takeSentMarks(): readonly (() => void)[];
  tick(nowMs: number): void;
  /** Ends when the open calls have ended; new ones are not taken. */
  drain(nowMs: number): void;
  /** Ends now; open calls are cancelled. */
  close(): void;
  /** The transport is gone; open calls are cancelled. */
  transportClosed(): void;
}

/** What gRPC adds to a connection in both roles: deadlines, and memory for incomplete messages. */
export abstract class GrpcConnection extends Http2Connection implements GrpcTransport {
  readonly assembly: AssemblyBudget;
  /** Where requests ask for memory beyond their first window; undefined where nobody has to ask. */
  readonly memory: RequestMemory | undefined;
  isInputKept = false;

  protected constructor(
    isServer: boolean,
    options: Omit<Http2ConnectionOptions, "firstWindowBytes">,
    memory?: RequestMemory,
  ) {
    const { firstWindowBytes, streamWindowBytes } = options.limits;
    super(isServer, {
      ...options,
      firstWindowBytes: memory === undefined ? streamWindowBytes : firstWindowBytes,
    });
    this.memory = memory;
    this.assembly = { usedBytes: 0, maxBytes: options.limits.maxAssemblyBytes };
  }

  override receive(bytes: Uint8Array, nowMs: number): void {
    this.isInputKept = false;
    super.receive(bytes, nowMs);
  }

  /** A receiver threw. */
  abstract onReceiverError(stream: GrpcStream, error: unknown): void;

  /** The other end sent what HTTP/2 calls malformed. */
  failMalformed(stream: GrpcStream): void {
    this.failStream(stream, ERROR.PROTOCOL_ERROR);
  }

  protected watchDeadline(deadlineMs: number): void {
    this.timers.earliestDeadlineMs = Math.min(this.timers.earliestDeadlineMs, deadlineMs);
  }

  protected onDeadlines(nowMs: number): void {
    let earliest = Infinity;
    for (const stream of [...this.streams.values()] as GrpcStream[]) {
      if (stream.deadlineMs <= nowMs) stream.expire();
      else earliest = Math.min(earliest, stream.deadlineMs);
    }
    this.timers.earliestDeadlineMs = earliest;
  }
}
