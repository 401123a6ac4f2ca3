import type { Socket } from "node:net";

/** What a connection that knows no ALPN speaks, by the first bytes that it sends. */
export type SniffedProtocol = "http1" | "http2";

/** The first line of HTTP/2's preface; no request of HTTP/1.1 begins so. @see RFC 9113, section 3.4. */
const PREFACE = Buffer.from("PRI * HTTP/2.0\r\n");

/**
 * Waits for the first bytes of a connection, tells what it speaks, and leaves the bytes to be read.
 *
 * A connection that says nothing is closed after a while, or when its client ends it.
 */
export function sniffProtocol(
  socket: Socket,
  timeoutMs: number,
  onKnown: (protocol: SniffedProtocol) => void,
): void {
  const timer = setTimeout(() => socket.destroy(), timeoutMs);
  timer.unref();
  // Kept here until they tell: what is put back is at once to be read again.
  let first: Buffer = Buffer.alloc(0);
  const look = (): void => {
    const bytes = socket.read() as Buffer | null;
    if (bytes === null) return;
    first = first.length === 0 ? bytes : Buffer.concat([first, bytes]);
    const known = Math.min(first.length, PREFACE.length);
    const isPreface = first.compare(PREFACE, 0, known, 0, known) === 0;
    if (isPreface && known < PREFACE.length) return;
    stop();
    socket.unshift(first);
    onKnown(isPreface ? "http2" : "http1");
  };
  const stop = (): void => {
    clearTimeout(timer);
    socket.off("readable", look);
    socket.off("end", giveUp);
    socket.off("close", stop);
    socket.off("error", ignore);
  };
  // Half a connection stays open until somebody ends the other half.
  const giveUp = (): void => {
    stop();
    socket.destroy();
  };
  socket.on("readable", look);
  socket.on("end", giveUp);
  socket.on("close", stop);
  socket.on("error", ignore);
}

/** A connection that breaks before it said anything is nobody's concern. */
function ignore(): void {}
