import type { Socket } from "node:net";

import type { Logger } from "@glorious/core";
import {
  type CallReceiver,
  type ConnectionLimits,
  createServerConnection,
  type RequestMemory,
  type ServerConnection,
} from "@glorious/grpc";

export interface GrpcSocketOptions {
  readonly receivers: ReadonlyMap<string, CallReceiver>;
  /** Where the calls of this connection ask for memory. */
  readonly memory: RequestMemory;
  readonly limits?: Partial<ConnectionLimits>;
  readonly logger: Logger;
}

/** A connection that speaks gRPC, from its first byte on. */
export interface GrpcSocket {
  /** Takes no new calls and ends when those that run have ended. */
  drain(): void;
  destroy(): void;
}

/** Lets a gRPC connection live on a socket: many frames per read, one write per turn. */
export function attachGrpc(socket: Socket, options: GrpcSocketOptions): GrpcSocket {
  const attached = new AttachedConnection(socket, options);
  return attached;
}

/** The longest that a timer of Node's takes. */
const MAX_TIMER_MS = 2 ** 31 - 1;

class AttachedConnection implements GrpcSocket {
  readonly #socket: Socket;
  readonly #connection: ServerConnection;
  #isReceiving = false;
  #isFlushScheduled = false;
  #timer: NodeJS.Timeout | undefined;
  #timerAtMs = Infinity;

  constructor(socket: Socket, { receivers, memory, limits = {}, logger }: GrpcSocketOptions) {
    this.#socket = socket;
    this.#connection = createServerConnection(
      {
        limits,
        memory,
        onCall: (call) => receivers.get(call.path),
        onOutput: () => this.#scheduleFlush(),
        onError: (error, { path }) => logger.error("A call failed", { path, error }),
      },
      performance.now(),
    );
    socket.setNoDelay(true);
    socket.on("data", (bytes: Buffer) => this.#receive(bytes));
    socket.on("drain", () => this.#flush());
    // A peer that has sent everything cannot acknowledge what we still send.
    socket.on("end", () => socket.destroySoon());
    socket.on("error", () => {});
    socket.on("close", () => {
      clearTimeout(this.#timer);
      this.#connection.transportClosed();
    });
    this.#scheduleFlush();
  }

  drain(): void {
    this.#connection.drain(performance.now());
    this.#scheduleFlush();
  }

  destroy(): void {
    this.#socket.destroy();
  }

  #receive(bytes: Buffer): void {
    this.#isReceiving = true;
    this.#connection.receive(bytes, performance.now());
    this.#isReceiving = false;
    this.#flush();
  }

  #scheduleFlush(): void {
    // What a read brings about is written when all of it was dealt with.
    if (this.#isReceiving || this.#isFlushScheduled) return;
    this.#isFlushScheduled = true;
    setImmediate(() => {
      this.#isFlushScheduled = false;
      this.#flush();
    });
  }

  #flush(): void {
    const socket = this.#socket;
    const connection = this.#connection;
    if (socket.destroyed) return;
    if (!socket.writableNeedDrain) {
      const pieces = connection.takeOutput();
      if (pieces.length > 1) socket.cork();
      for (const piece of pieces) socket.write(piece);
      if (pieces.length > 1) socket.uncork();
    }
    if (connection.isClosed) {
      if (!socket.writableNeedDrain) socket.destroySoon();
      return;
    }
    if (!connection.wantsInput) socket.pause();
    else if (socket.isPaused()) socket.resume();
    this.#arm();
  }

  #arm(): void {
    const { nextTickMs } = this.#connection;
    // A timer that comes too early just sets the next one: deadlines come and go with every call.
    if (nextTickMs >= this.#timerAtMs) return;
    clearTimeout(this.#timer);
    this.#timerAtMs = nextTickMs;
    this.#timer = setTimeout(
      () => {
        this.#timerAtMs = Infinity;
        this.#connection.tick(performance.now());
        this.#flush();
      },
      Math.min(Math.max(1, nextTickMs - performance.now()), MAX_TIMER_MS),
    );
    this.#timer.unref();
  }
}
