import type { Socket } from "node:net";
import { performance } from "node:perf_hooks";

import { freeMemory } from "./free-memory.ts";
import type { GrpcTransport } from "./grpc-connection.ts";

/** The longest that a timer of Node's takes. */
const MAX_TIMER_MS = 2 ** 31 - 1;

/**
 * Lets a connection live on a plain or TLS socket, of either role: many frames per read, one write per turn. The
 * connection's clock is `performance.now()`.
 *
 * @param create makes the connection with the `onOutput` that it is to call
 */
export function attachSocket<Connection extends GrpcTransport>(
  socket: Socket,
  create: (onOutput: () => void, nowMs: number) => Connection,
): Connection {
  let isReceiving = false;
  let isFlushScheduled = false;
  let timer: NodeJS.Timeout | undefined;
  let timerAtMs = Infinity;

  const flush = (): void => {
    if (socket.destroyed) return;
    if (!socket.writableNeedDrain) {
      const pieces = connection.takeOutput();
      const onWritten = tellAll(connection.takeSentMarks());
      const last = pieces.length - 1;
      if (last > 0) socket.cork();
      for (let at = 0; at <= last; at += 1) {
        socket.write(pieces[at] as Uint8Array, at === last ? onWritten : undefined);
      }
      if (last > 0) socket.uncork();
    }
    if (connection.isClosed) {
      if (!socket.writableNeedDrain) socket.destroySoon();
      return;
    }
    if (!connection.wantsInput) socket.pause();
    else if (socket.isPaused()) socket.resume();
    arm();
  };
  const scheduleFlush = (): void => {
    // What a read brings about is written when all of it was dealt with.
    if (isReceiving || isFlushScheduled) return;
    isFlushScheduled = true;
    setImmediate(() => {
      isFlushScheduled = false;
      flush();
    });
  };
  const arm = (): void => {
    const { nextTickMs } = connection;
    // A timer that comes too early just sets the next one: deadlines come and go with every call.
    if (nextTickMs >= timerAtMs) return;
    clearTimeout(timer);
    timerAtMs = nextTickMs;
    timer = setTimeout(
      () => {
        timerAtMs = Infinity;
        connection.tick(performance.now());
        flush();
      },
      Math.min(Math.max(1, nextTickMs - performance.now()), MAX_TIMER_MS),
    );
    timer.unref();
  };

  const connection = create(scheduleFlush, performance.now());
  socket.setNoDelay(true);
  socket.on("data", (bytes: Buffer) => {
    isReceiving = true;
    connection.receive(bytes, performance.now());
    isReceiving = false;
    if (!connection.isInputKept) freeMemory(bytes);
    flush();
  });
  socket.on("drain", flush);
  // A peer that has sent everything cannot acknowledge what we still send.
  socket.on("end", () => socket.destroySoon());
  // Its end says all that a connection needs to know.
  socket.on("error", () => {});
  socket.on("close", () => {
    clearTimeout(timer);
    connection.transportClosed();
  });
  scheduleFlush();
  return connection;
}

/** Calls them when a write went well. */
function tellAll(marks: readonly (() => void)[]): ((error?: Error | null) => void) | undefined {
  if (marks.length === 0) return undefined;
  return (error) => {
    if (error instanceof Error) return;
    for (const mark of marks) mark();
  };
}
