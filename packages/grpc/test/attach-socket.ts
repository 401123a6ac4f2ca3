import type { Socket } from "node:net";
import { performance } from "node:perf_hooks";

/** What both roles of a connection have for their transport. */
export interface Attachable {
  readonly isClosed: boolean;
  readonly wantsInput: boolean;
  readonly nextTickMs: number;
  receive(bytes: Uint8Array, nowMs: number): void;
  takeOutput(): Uint8Array[];
  tick(nowMs: number): void;
  transportClosed(): void;
}

/**
 * Joins a connection with a plain or TLS socket: bytes in as they come, one write a turn.
 *
 * @param create makes the connection with the `onOutput` it is to call
 */
export function attachSocket<Connection extends Attachable>(
  socket: Socket,
  create: (onOutput: () => void, nowMs: number) => Connection,
): Connection {
  let isScheduled = false;
  let isFull = false;
  let timer: NodeJS.Timeout | undefined;
  let armedForMs = Infinity;

  const flush = (): void => {
    isScheduled = false;
    if (isFull || socket.destroyed) return;
    const pieces = connection.takeOutput();
    if (pieces.length === 1) isFull = !socket.write(pieces[0] as Uint8Array);
    else if (pieces.length > 1) {
      socket.cork();
      for (const piece of pieces) isFull = !socket.write(piece);
      socket.uncork();
    }
    if (connection.isClosed) socket.end();
  };
  const schedule = (): void => {
    if (isScheduled || isFull) return;
    isScheduled = true;
    setImmediate(flush);
  };
  const arm = (): void => {
    const nextMs = connection.nextTickMs;
    if (nextMs >= armedForMs) return;
    clearTimeout(timer);
    armedForMs = nextMs;
    timer = setTimeout(onTimer, Math.max(1, Math.min(nextMs - performance.now(), 0x7fff_ffff)));
    timer.unref();
  };
  const onTimer = (): void => {
    armedForMs = Infinity;
    connection.tick(performance.now());
    arm();
  };

  const connection = create(schedule, performance.now());
  socket.setNoDelay(true);
  socket.on("data", (bytes) => {
    connection.receive(bytes, performance.now());
    if (!isFull) flush();
    if (!connection.wantsInput) socket.pause();
    arm();
  });
  socket.on("drain", () => {
    isFull = false;
    flush();
    if (connection.wantsInput) socket.resume();
  });
  socket.on("error", () => socket.destroy());
  socket.on("close", () => {
    clearTimeout(timer);
    connection.transportClosed();
  });
  arm();
  return connection;
}
