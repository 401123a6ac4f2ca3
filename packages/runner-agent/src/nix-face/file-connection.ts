import { connect, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";

import { CacheError } from "@glorious/core";

import { createResponseReader, type ResponseHead, type ResponseReader } from "./response-reader.ts";

/** How large a read of the socket may be, and after how many that nobody took it is not read any more. */
const PLAIN = { bufferBytes: 128 * 1024, buffers: 2 };
/** A read is a record. */
const TLS = { bufferBytes: 16 * 1024, buffers: 16 };

/** A file on its way. */
export interface FileAnswer {
  readonly head: ResponseHead;
  readonly body: FileBody;
}

/** The bytes of a file; a chunk is good until the next is asked for. */
export interface FileBody extends AsyncIterable<Buffer> {
  /** Nobody wants the rest. */
  destroy(): void;
}

/** Options of {@link createFileConnection}. */
export interface FileConnectionOptions {
  readonly connectTimeoutMs: number;
  /** It is good for another request. */
  readonly onIdle: () => void;
  /** It is over. */
  readonly onClose: () => void;
}

/** One connection that files are read on, one after the other. */
export interface FileConnection {
  /**
   * Asks for a file; the head decides.
   *
   * @throws the signal's reason; whatever the connection breaks with.
   */
  get(
    url: URL,
    headers: Readonly<Record<string, string>>,
    signal: AbortSignal,
  ): Promise<FileAnswer>;
  /** Whether the peer had ended it before it got a request. */
  readonly wasStale: boolean;
  destroy(): void;
}

/**
 * Opens a connection that reads into the same few buffers again and again: memory of its own for each read of the
 * socket is most of what it costs to pass a large file on.
 */
export function createFileConnection(origin: URL, options: FileConnectionOptions): FileConnection {
  const { bufferBytes, buffers } = origin.protocol === "https:" ? TLS : PLAIN;
  const free: Buffer[] = [];
  /** What the next read goes to. */
  let current: Buffer | undefined;
  /** Not given back yet, the one with the reader included. */
  const full: { readonly chunk: Buffer; readonly buffer: Buffer }[] = [];
  let isLent = false;
  let isPaused = false;
  let reader: ResponseReader | undefined;
  let failure: Error | undefined;
  let requests = 0;
  let receivedBytes = 0;
  /** Whoever waits for the head, or for the next bytes. */
  let wake = (): void => {};

  const fail = (error: Error): void => {
    failure ??= error;
    socket.destroy();
    wake();
  };

  // Over TLS bytes come for a while after it was told to pause: there must always be room.
  const nextBuffer = (): Buffer => (current ??= free.pop() ?? Buffer.allocUnsafeSlow(bufferBytes));

  const onBytes = (count: number): boolean => {
    const buffer = nextBuffer();
    receivedBytes += count;
    if (reader === undefined || reader.isComplete) {
      fail(new CacheError("CORRUPT", "The server said something that nobody asked for"));
      return false;
    }
    try {
      const chunk = reader.read(buffer.subarray(0, count));
      if (chunk.length > 0) {
        full.push({ chunk, buffer });
        current = undefined;
      }
    } catch (error) {
      fail(error instanceof Error ? error : new Error(String(error)));
      return false;
    }
    wake();
    isPaused = full.length >= buffers;
    return !isPaused;
  };

  const socket = openSocket(origin, nextBuffer, onBytes);
  socket.setNoDelay(true);
  const connecting = setTimeout(() => {
    fail(new CacheError("TIMEOUT", `No connection to ${origin.host} in time`));
  }, options.connectTimeoutMs);
  socket.once(origin.protocol === "https:" ? "secureConnect" : "connect", () => {
    clearTimeout(connecting);
  });
  socket.on("error", fail);
  socket.on("close", () => {
    clearTimeout(connecting);
    try {
      if (reader === undefined) throw new CacheError("TRUNCATED", "The connection ended early");
      reader.end();
    } catch (error) {
      failure ??= error as Error;
    }
    wake();
    options.onClose();
  });

  const changed = (): Promise<void> => new Promise((resolve) => (wake = resolve));

  const resume = (): void => {
    if (!isPaused) return;
    isPaused = false;
    socket.resume();
  };

  const takeBack = (): void => {
    const taken = full.shift();
    if (taken !== undefined && free.length < buffers) free.push(taken.buffer);
  };

  const giveBack = (): void => {
    if (!isLent) return;
    isLent = false;
    takeBack();
    if (full.length < buffers) resume();
  };

  const finish = (answer: ResponseReader): void => {
    if (reader !== answer) return;
    reader = undefined;
    while (full.length > 0) takeBack();
    isLent = false;
    resume();
    wake();
    if (answer.isComplete && answer.isReusable && failure === undefined && !socket.destroyed) {
      options.onIdle();
    } else socket.destroy();
  };

  const bodyOf = (answer: ResponseReader): FileBody => ({
    destroy: () => finish(answer),
    async *[Symbol.asyncIterator]() {
      try {
        for (;;) {
          if (reader !== answer) throw new CacheError("CANCELLED", "The file was given up");
          giveBack();
          const [next] = full;
          if (next !== undefined) {
            isLent = true;
            yield next.chunk;
          } else if (answer.isComplete) return;
          else if (failure !== undefined) throw failure;
          else await changed();
        }
      } finally {
        finish(answer);
      }
    },
  });

  return {
    async get(url, headers, signal) {
      signal.throwIfAborted();
      const answer = createResponseReader();
      reader = answer;
      requests += 1;
      receivedBytes = 0;
      const onAbort = (): void => fail(asError(signal.reason));
      signal.addEventListener("abort", onAbort);
      try {
        socket.write(formatRequest(url, headers));
        while (answer.head === undefined) {
          if (failure !== undefined) throw failure;
          await changed();
        }
        return { head: answer.head, body: bodyOf(answer) };
      } catch (error) {
        socket.destroy();
        throw error;
      } finally {
        signal.removeEventListener("abort", onAbort);
      }
    },
    get wasStale() {
      return requests > 1 && receivedBytes === 0;
    },
    destroy: () => socket.destroy(),
  };
}

function openSocket(
  { protocol, hostname, port }: URL,
  buffer: () => Buffer,
  callback: (bytes: number) => boolean,
): Socket {
  const host = hostname.replace(/^\[(.*)\]$/, "$1");
  const onread = { buffer, callback };
  if (protocol === "http:") return connect({ host, port: Number(port || 80), onread });
  const servername = /^[\d.]+$|:/.test(host) ? "" : host;
  const options = { host, port: Number(port || 443), servername, onread };
  return connectTls(options);
}

function formatRequest(url: URL, headers: Readonly<Record<string, string>>): string {
  const lines = Object.entries({ host: url.host, ...headers }).map(([name, value]) => {
    if (/[\r\n\0]/.test(value)) throw new CacheError("INVALID", `The header ${name} has lines`);
    return `${name}: ${value}\r\n`;
  });
  return `GET ${url.pathname}${url.search} HTTP/1.1\r\n${lines.join("")}\r\n`;
}

function asError(reason: unknown): Error {
  return reason instanceof Error ? reason : new Error(String(reason));
}
