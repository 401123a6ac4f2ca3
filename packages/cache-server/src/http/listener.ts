import {
  createServer as createHttpServer,
  type RequestListener,
  type Server as HttpServer,
} from "node:http";
import {
  type AddressInfo,
  createServer as createNetServer,
  type Server as NetServer,
  type Socket,
} from "node:net";
import { createServer as createTlsServer, type Server as TlsServer } from "node:tls";

import { CacheError, type Logger } from "@glorious/core";
import {
  attachSocket,
  type CallReceiver,
  createServerConnection,
  type RequestMemory,
  type ServerConnection,
  sniffProtocol,
} from "@glorious/grpc";

import type { ListenAddress } from "../config/setting-values.ts";
import type { TlsFiles } from "./tls-files.ts";
import { readTlsFiles, watchTlsFiles } from "./tls-files.ts";

/** What gRPC's connections are served with. */
export interface GrpcService {
  readonly receivers: ReadonlyMap<string, CallReceiver>;
  /** Where the calls of a connection ask for memory. */
  readonly memory: { openConnection(): RequestMemory };
}

export interface ListenerOptions {
  readonly listen: ListenAddress;
  readonly tls: TlsFiles | undefined;
  /** How long a connection may stand still while its client is the one to go on. */
  readonly connectionTimeoutMs: number;
  /** Who takes gRPC's calls; without them nothing but HTTP/1.1 is spoken. */
  readonly grpc: GrpcService | undefined;
  readonly logger: Logger;
}

/** A bound server of HTTP/1.1 and, on the same port, gRPC. */
export interface Listener {
  readonly url: string;
  /** Stops accepting, lets running requests end until the deadline, then closes what is left. */
  close(timeoutMs: number, abort: () => void): Promise<void>;
}

const HEADERS_TIMEOUT_MS = 30_000;
/** How long a connection is kept for the client's next request. */
export const KEEP_ALIVE_TIMEOUT_MS = 75_000;

/** @throws {CacheError} `CONFIG` when the address cannot be bound or the TLS files cannot be used. */
export async function startListener(
  handler: RequestListener,
  options: ListenerOptions,
): Promise<Listener> {
  const { listen, tls, grpc, logger } = options;
  const http = createHttp(handler, options.connectionTimeoutMs);
  const grpcSockets = new Map<Socket, ServerConnection>();
  /** Those that have not said yet what they speak. */
  const silent = new Set<Socket>();

  const serveHttp = (socket: Socket): void => {
    http.emit("connection", socket);
  };
  const serveGrpc = (socket: Socket, { receivers, memory }: GrpcService): void => {
    const attached = attachSocket(socket, (onOutput, nowMs) =>
      createServerConnection(
        {
          onOutput,
          memory: memory.openConnection(),
          onCall: (call) => receivers.get(call.path),
          onError: (error, { path }) => logger.error("A call failed", { path, error }),
        },
        nowMs,
      ),
    );
    grpcSockets.set(socket, attached);
    socket.on("close", () => grpcSockets.delete(socket));
  };

  const front =
    tls === undefined
      ? createNetServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
          if (grpc === undefined) serveHttp(socket);
          else {
            silent.add(socket);
            socket.on("close", () => silent.delete(socket));
            sniffProtocol(socket, HEADERS_TIMEOUT_MS, (protocol) => {
              silent.delete(socket);
              if (protocol === "http2") serveGrpc(socket, grpc);
              else serveHttp(socket);
            });
          }
        })
      : createTlsServer(
          {
            ...(await readTlsFiles(tls)),
            noDelay: true,
            ALPNCallback: ({ protocols }) => chooseProtocol(protocols, grpc !== undefined),
          },
          (socket) => {
            if (grpc !== undefined && socket.alpnProtocol === "h2") serveGrpc(socket, grpc);
            else serveHttp(socket);
          },
        );
  front.on("tlsClientError", (_: Error, socket: Socket) => socket.destroy());
  const stopWatching =
    tls === undefined ? undefined : watchTlsFiles(tls, front as TlsServer, logger);
  try {
    await bind(front, listen);
  } catch (error) {
    stopWatching?.();
    throw error;
  }
  // What it does when it listens itself: from then on it looks after its connections' timeouts.
  http.emit("listening");
  const address = front.address() as AddressInfo;
  const host = address.family === "IPv6" ? `[${address.address}]` : address.address;
  return {
    url: `${tls === undefined ? "http" : "https"}://${reachable(host)}:${address.port}`,
    async close(timeoutMs, abort) {
      stopWatching?.();
      const closed = new Promise<void>((resolve) => {
        front.close(() => resolve());
      });
      for (const socket of silent) socket.destroy();
      for (const connection of grpcSockets.values()) connection.drain(performance.now());
      http.closeIdleConnections();
      const timer = setTimeout(() => {
        abort();
        http.closeAllConnections();
        for (const socket of grpcSockets.keys()) socket.destroy();
      }, timeoutMs);
      // Connections that fall idle while the server closes are not closed by themselves.
      const idle = setInterval(() => http.closeIdleConnections(), 100);
      await closed;
      clearInterval(idle);
      clearTimeout(timer);
      // Ends what looks after the timeouts; it never listened itself.
      http.close(() => {});
    },
  };
}

/** The server of HTTP/1.1; others hand it its connections. */
function createHttp(handler: RequestListener, connectionTimeoutMs: number): HttpServer {
  // The handler refuses a missing Host header itself, with a body that says so.
  const http = createHttpServer({ requireHostHeader: false });
  http.on("request", handler);
  // Handlers say when a body is wanted, after they know who asks.
  http.on("checkContinue", handler);
  // Uploads may take hours; what is bounded is each pause in them.
  http.requestTimeout = 0;
  http.headersTimeout = HEADERS_TIMEOUT_MS;
  http.keepAliveTimeout = KEEP_ALIVE_TIMEOUT_MS;
  http.setTimeout(connectionTimeoutMs);
  return http;
}

/**
 * What to speak with a client that offers these. HTTP/2 is for those that offer nothing else, as gRPC's do: our
 * other protocols are served over HTTP/1.1 only.
 */
function chooseProtocol(protocols: readonly string[], hasGrpc: boolean): string | undefined {
  if (protocols.includes("http/1.1")) return "http/1.1";
  return hasGrpc && protocols.includes("h2") ? "h2" : undefined;
}

function bind(server: NetServer, { host, port }: ListenAddress): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", (cause: NodeJS.ErrnoException) => {
      const reason = cause.code === "EADDRINUSE" ? "is in use" : `cannot be used: ${cause.message}`;
      reject(
        new CacheError("CONFIG", `The address ${host}:${port} ${reason}`, {
          cause,
          hint: "Choose another with --listen or FLYWHEEL_LISTEN; port 0 takes a free one.",
        }),
      );
    });
    server.listen(port, host, () => {
      server.removeAllListeners("error");
      resolve();
    });
  });
}

/** All addresses is no address to connect to. */
function reachable(host: string): string {
  return host === "0.0.0.0" ? "127.0.0.1" : host === "[::]" ? "[::1]" : host;
}
