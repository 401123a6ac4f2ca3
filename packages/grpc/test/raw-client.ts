import {
  type CallReceiver,
  type CancelReason,
  type ServerCall,
  unary,
} from "../src/call-receiver.ts";
import type { ConnectionLimits } from "../src/http2/limits.ts";
import type { RequestMemory } from "../src/request-memory.ts";
import { createServerConnection, type ServerConnection } from "../src/server-connection.ts";
import { BlockWriter, FrameReader, HELLO, type RawFrame } from "./raw-frames.ts";

/** What the receivers of a {@link RawClient}'s server saw, as words. */
export interface Seen {
  readonly call: ServerCall;
  readonly events: string[];
  cancelled: CancelReason | undefined;
}

export interface RawClientOptions {
  readonly limits?: Partial<ConnectionLimits>;
  readonly receivers?: Record<string, CallReceiver>;
  readonly memory?: RequestMemory;
  /** Begin without preface and settings. */
  readonly isSilent?: boolean;
}

/**
 * A server's connection and a client of frames that are written by hand, in one thread and under one clock.
 *
 * `/test.Echo/Unary` answers with the request, `/test.Echo/Stream` records and leaves the rest to the test.
 */
export class RawClient {
  readonly server: ServerConnection;
  readonly blocks: BlockWriter = new BlockWriter();
  readonly seen: Seen[] = [];
  readonly errors: unknown[] = [];
  nowMs = 1000;
  outputSignals = 0;
  readonly #reader = new FrameReader();

  constructor({ limits = {}, receivers = {}, memory, isSilent = false }: RawClientOptions = {}) {
    const stream = this.#recorder();
    const echo = unary((call, request) => call.respond(request));
    this.server = createServerConnection(
      {
        limits,
        ...(memory === undefined ? {} : { memory }),
        onOutput: () => {
          this.outputSignals += 1;
        },
        onError: (error) => this.errors.push(error),
        onCall: (call) => {
          this.seen.push({ call, events: [], cancelled: undefined });
          const name = call.path.replace("/test.Echo/", "");
          return receivers[name] ?? { Unary: echo, Stream: stream }[name];
        },
      },
      this.nowMs,
    );
    if (!isSilent) {
      this.send(HELLO);
      this.take();
    }
  }

  /** What the server saw of the newest call, or the one with the given number. */
  saw(index = -1): Seen {
    const seen = this.seen.at(index);
    if (seen === undefined) throw new Error("no call arrived");
    return seen;
  }

  send(...parts: readonly Uint8Array[]): this {
    this.server.receive(Buffer.concat(parts), this.nowMs);
    return this;
  }

  /** The frames that the server has written. */
  take(): RawFrame[] {
    return this.server.takeOutput().flatMap((piece) => this.#reader.read(piece));
  }

  /** What the server has written, shortened: type, stream, and what ended. */
  takeSummary(): string[] {
    return this.take().map(({ type, streamId, error, headers, payload }) => {
      const detail = error ?? headers?.["grpc-status"] ?? headers?.[":status"] ?? payload.length;
      return `${type} ${streamId} ${detail}`;
    });
  }

  pass(ms: number): this {
    this.nowMs += ms;
    this.server.tick(this.nowMs);
    return this;
  }

  #recorder(): CallReceiver {
    const find = (call: ServerCall): Seen => {
      const seen = this.seen.find((it) => it.call === call);
      if (seen === undefined) throw new Error("an event of an unknown call");
      return seen;
    };
    return {
      onMessage: (call, bytes) => {
        find(call).events.push(`message ${Buffer.from(bytes).toString("latin1")}`);
      },
      onHalfClose: (call) => {
        find(call).events.push("half-close");
      },
      onCancel: (call, reason) => {
        find(call).cancelled = reason;
        find(call).events.push(`cancel ${reason}`);
      },
      onDrain: (call) => {
        find(call).events.push("drain");
      },
    };
  }
}
