import { connect as connectTcp, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";

import {
  attachSocket,
  type CallStart,
  type ClientCall,
  type ClientConnection,
  type ClientReceiver,
  createClientConnection,
} from "@glorious/grpc";

/** What a call to the cache is started with. */
export type UpstreamStart = Pick<CallStart, "path" | "metadata" | "timeoutMs">;

/** Connections to the cache, opened when they are wanted. */
export interface UpstreamConnections extends Disposable {
  /**
   * Starts a call, on a connection that may not stand yet: a call on one that cannot be made ends with UNAVAILABLE.
   *
   * @returns `undefined` when as many calls are open as may be
   */
  startCall(start: UpstreamStart, receiver: ClientReceiver): ClientCall | undefined;
}

/** Options of {@link createUpstreamConnections}. */
export interface UpstreamConnectionsOptions {
  /** `grpc:` and `http:` are plain, `grpcs:` and `https:` TLS. */
  readonly url: URL;
  /** Told why a connection ended, once for each that broke. */
  readonly onBroken: (reason: string) => void;
  /** A connection that does not stand after this time is given up; default 5 s. */
  readonly connectTimeoutMs?: number;
  /** So is one on which calls wait and no byte arrives for this long; default 15 s. */
  readonly silenceMs?: number;
}

/** A server that allows fewer calls at once than Bazel makes gets more connections, not more than these. */
const MAX_CONNECTIONS = 4;
const STREAM_WINDOW_BYTES = 1024 * 1024;
const CONNECTION_WINDOW_BYTES = 8 * 1024 * 1024;

export function createUpstreamConnections(
  options: UpstreamConnectionsOptions,
): UpstreamConnections {
  const { url } = options;
  const links = new Set<Link>();
  const openLink = (): Link => {
    const link = new Link(options, () => links.delete(link));
    links.add(link);
    return link;
  };
  const scheme = isSecure(url) ? "https" : "http";
  return {
    startCall(start, receiver) {
      let link = [...links].find(({ connection }) => connection.availableCalls > 0);
      if (link === undefined && links.size < MAX_CONNECTIONS) link = openLink();
      return link?.startCall({ ...start, authority: url.host, scheme }, receiver);
    },
    [Symbol.dispose]() {
      for (const link of [...links]) link.destroy();
    },
  };
}

/** One connection and what watches over it. */
class Link {
  readonly connection: ClientConnection;
  readonly #socket: Socket;
  readonly #silenceMs: number;
  readonly #timer: NodeJS.Timeout;
  #openCalls = 0;
  #bytesRead = 0;
  #lastReadMs = performance.now();
  #reason: string | undefined;

  constructor(options: UpstreamConnectionsOptions, onClosed: () => void) {
    const { url, connectTimeoutMs = 5000, silenceMs = 15_000, onBroken } = options;
    this.#silenceMs = silenceMs;
    const socket = openSocket(url);
    this.#socket = socket;
    this.connection = attachSocket(socket, (onOutput, nowMs) =>
      createClientConnection(
        {
          onOutput,
          onEnd: ({ message, isByPeer }) => {
            if (isByPeer && message !== "") this.#reason ??= message;
          },
          limits: {
            streamWindowBytes: STREAM_WINDOW_BYTES,
            connectionWindowBytes: CONNECTION_WINDOW_BYTES,
          },
        },
        nowMs,
      ),
    );
    const connectTimer = setTimeout(() => {
      this.#break(`no connection to ${url.host} within ${connectTimeoutMs / 1000} s`);
    }, connectTimeoutMs);
    socket.on(isSecure(url) ? "secureConnect" : "connect", () => {
      clearTimeout(connectTimer);
      this.#lastReadMs = performance.now();
    });
    socket.on("error", (error) => {
      this.#reason ??= error.message;
    });
    this.#timer = setInterval(() => this.#look(), silenceMs / 6);
    this.#timer.unref();
    socket.on("close", () => {
      clearTimeout(connectTimer);
      clearInterval(this.#timer);
      onClosed();
      if (this.#reason !== undefined) onBroken(this.#reason);
    });
  }

  startCall(start: CallStart, receiver: ClientReceiver): ClientCall | undefined {
    if (this.#openCalls === 0) this.#lastReadMs = performance.now();
    const call = this.connection.startCall(
      start,
      {
        ...receiver,
        onEnd: (ended, end) => {
          this.#openCalls -= 1;
          receiver.onEnd(ended, end);
        },
      },
      performance.now(),
    );
    if (call !== undefined) this.#openCalls += 1;
    return call;
  }

  destroy(): void {
    this.#socket.destroy();
  }

  /** Gives a connection up on which calls wait in vain. */
  #look(): void {
    const { bytesRead } = this.#socket;
    const nowMs = performance.now();
    if (bytesRead !== this.#bytesRead || this.#openCalls === 0) {
      this.#bytesRead = bytesRead;
      this.#lastReadMs = nowMs;
    } else if (nowMs - this.#lastReadMs > this.#silenceMs) {
      this.#break(`silent for ${Math.round(this.#silenceMs / 1000)} s`);
    }
  }

  #break(reason: string): void {
    this.#reason ??= reason;
    this.#socket.destroy();
  }
}

function isSecure(url: URL): boolean {
  return url.protocol === "https:" || url.protocol === "grpcs:";
}

function openSocket(url: URL): Socket {
  const host = url.hostname.replace(/^\[(.*)\]$/, "$1");
  const secure = isSecure(url);
  const port = url.port === "" ? (secure ? 443 : 80) : Number(url.port);
  if (!secure) return connectTcp({ host, port });
  return connectTls({
    host,
    port,
    ALPNProtocols: ["h2"],
    // A bare address is no name to ask for.
    ...(/^[\d.]+$|:/.test(host) ? {} : { servername: host }),
  });
}
