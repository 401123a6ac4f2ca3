import { createServer as createHttpServer, type RequestListener, type Server } from "node:http";
import { createServer as createHttpsServer, type Server as HttpsServer } from "node:https";
import type { AddressInfo } from "node:net";

import { CacheError, type Logger } from "@glorious/core";

import type { ListenAddress } from "../config/setting-values.ts";
import type { TlsFiles } from "./tls-files.ts";
import { readTlsFiles, watchTlsFiles } from "./tls-files.ts";

export interface ListenerOptions {
  readonly listen: ListenAddress;
  readonly tls: TlsFiles | undefined;
  /** How long a connection may stand still while its client is the one to go on. */
  readonly connectionTimeoutMs: number;
  readonly logger: Logger;
}

/** A bound HTTP or HTTPS server. */
export interface Listener {
  readonly server: Server | HttpsServer;
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
  const { listen, tls, logger } = options;
  // The handler refuses a missing Host header itself, with a body that says so.
  const server =
    tls === undefined
      ? createHttpServer({ requireHostHeader: false })
      : createHttpsServer({ ...(await readTlsFiles(tls)), requireHostHeader: false });
  server.on("request", handler);
  // Handlers say when a body is wanted, after they know who asks.
  server.on("checkContinue", handler);
  // Uploads may take hours; what is bounded is each pause in them.
  server.requestTimeout = 0;
  server.headersTimeout = HEADERS_TIMEOUT_MS;
  server.keepAliveTimeout = KEEP_ALIVE_TIMEOUT_MS;
  server.setTimeout(options.connectionTimeoutMs);
  const stopWatching =
    tls === undefined ? undefined : watchTlsFiles(tls, server as HttpsServer, logger);
  try {
    await bind(server, listen);
  } catch (error) {
    stopWatching?.();
    throw error;
  }
  const address = server.address() as AddressInfo;
  const host = address.family === "IPv6" ? `[${address.address}]` : address.address;
  return {
    server,
    url: `${tls === undefined ? "http" : "https"}://${reachable(host)}:${address.port}`,
    async close(timeoutMs, abort) {
      stopWatching?.();
      const closed = new Promise<void>((resolve) => {
        server.close(() => resolve());
      });
      server.closeIdleConnections();
      const timer = setTimeout(() => {
        abort();
        server.closeAllConnections();
      }, timeoutMs);
      // Connections that fall idle while the server closes are not closed by themselves.
      const idle = setInterval(() => server.closeIdleConnections(), 100);
      await closed;
      clearInterval(idle);
      clearTimeout(timer);
    },
  };
}

function bind(server: Server | HttpsServer, { host, port }: ListenAddress): Promise<void> {
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
