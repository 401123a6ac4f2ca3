import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import {
  createServer as createHttpServer,
  type IncomingMessage,
  request as requestHttp,
  type ServerResponse,
} from "node:http";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import path from "node:path";
import { createServer as createTlsServer } from "node:tls";

import {
  attachSocket,
  type CallReceiver,
  createServerConnection,
  GRPC_STATUS,
  sniffProtocol,
} from "@glorious/grpc";
import { createTemporaryDirectory, type FaultProxy, startFaultProxy } from "@glorious/testkit";

/** What is wrong with a cache, as its clients see it. */
export type CacheFault =
  | "up"
  | "refuses"
  | "black hole"
  | "1 B/s"
  | "401"
  | "403"
  | "429"
  | "500"
  | "truncated NAR"
  | "wrong NAR bytes"
  | "cuts uploads";

/** An upload is cut after so many bytes; what a request says before its body is less. */
const UPLOAD_CUT_BYTES = 48 * 1024;

/** A cache's address, behind which anything may happen. */
export interface FaultyCache extends AsyncDisposable {
  /** Stays the same whatever happens. */
  readonly url: string;
  /** The same over TLS, with a certificate that nobody trusts. */
  readonly untrustedUrl: string;
  /** From now on, open connections included. */
  become(fault: CacheFault): Promise<void>;
}

const STATUSES: ReadonlyMap<CacheFault, readonly [http: number, grpc: number]> = new Map([
  ["401", [401, GRPC_STATUS.UNAUTHENTICATED]],
  ["403", [403, GRPC_STATUS.PERMISSION_DENIED]],
  ["429", [429, GRPC_STATUS.RESOURCE_EXHAUSTED]],
  ["500", [500, GRPC_STATUS.INTERNAL]],
] as const);

/** @param serverPort asked for each connection: the cache itself, once it listens */
export async function startFaultyCache(serverPort: () => number): Promise<FaultyCache> {
  await using resources = new AsyncDisposableStack();
  let fault: CacheFault = "up";
  const liar = resources.use(await startLiar(serverPort, () => fault));
  const proxy: FaultProxy = resources.use(
    await startFaultProxy(
      () => (STATUSES.has(fault) || fault.includes("NAR") ? liar.port : serverPort()),
      () => {
        if (fault === "black hole") {
          return { after: { bytes: 0, towards: "server", kind: "black-hole" } };
        }
        if (fault === "cuts uploads") {
          return { after: { bytes: UPLOAD_CUT_BYTES, towards: "server", kind: "reset" } };
        }
        return fault === "1 B/s" ? { bytesPerSecond: 1 } : {};
      },
    ),
  );
  const untrusted = resources.use(await startUntrusted(serverPort));
  const owned = resources.move();
  return {
    url: `http://127.0.0.1:${proxy.port}`,
    untrustedUrl: `https://127.0.0.1:${untrusted.port}`,
    async become(next) {
      fault = next;
      await proxy.refuse();
      if (next !== "refuses") await proxy.accept();
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** Passes everything on that comes over TLS. */
async function startUntrusted(
  serverPort: () => number,
): Promise<{ readonly port: number } & AsyncDisposable> {
  await using folder = await createTemporaryDirectory("flywheel-untrusted-");
  const [key, cert] = [path.join(folder.path, "key.pem"), path.join(folder.path, "cert.pem")];
  const words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2".split(" ");
  words.push("-subj", "/CN=nobody", "-addext", "subjectAltName=IP:127.0.0.1");
  execFileSync("openssl", [...words, "-keyout", key, "-out", cert], { stdio: "ignore" });
  const server = createTlsServer({ key: readFileSync(key), cert: readFileSync(cert) }, (socket) => {
    const upstream = connect(serverPort(), "127.0.0.1");
    for (const one of [socket, upstream]) one.on("error", () => one.destroy());
    socket.pipe(upstream).pipe(socket);
  });
  // Clients that do not trust it end the handshake.
  server.on("tlsClientError", () => {});
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    port: (server.address() as AddressInfo).port,
    [Symbol.asyncDispose]: async () => {
      const closed = once(server, "close");
      server.close();
      await closed;
    },
  };
}

/** A server that answers with a status, or passes everything on and spoils NARs. */
async function startLiar(
  serverPort: () => number,
  fault: () => CacheFault,
): Promise<{ readonly port: number } & AsyncDisposable> {
  const http = createHttpServer((request, response) => {
    const status = STATUSES.get(fault())?.[0];
    if (status === undefined) passOn(serverPort(), fault(), request, response);
    else {
      request.resume();
      response.writeHead(status, { "content-type": "text/plain" }).end("not now\n");
    }
  });
  const refusal: CallReceiver = { onMessage() {}, onHalfClose() {} };
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    socket.on("close", () => sockets.delete(socket));
    sniffProtocol(socket, 30_000, (protocol) => {
      const status = STATUSES.get(fault())?.[1];
      if (protocol === "http1") http.emit("connection", socket);
      else if (status === undefined) {
        const upstream = connect(serverPort(), "127.0.0.1");
        upstream.on("error", () => socket.destroy());
        socket.pipe(upstream).pipe(socket);
      } else {
        attachSocket(socket, (onOutput, nowMs) =>
          createServerConnection(
            {
              onOutput,
              onCall(call) {
                call.finish(status, "not now");
                return refusal;
              },
            },
            nowMs,
          ),
        );
      }
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    port: (server.address() as AddressInfo).port,
    async [Symbol.asyncDispose]() {
      const closed = once(server, "close");
      server.close();
      http.close(() => {});
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}

function passOn(
  port: number,
  fault: CacheFault,
  request: IncomingMessage,
  response: ServerResponse,
): void {
  const { method = "GET", url = "/", headers } = request;
  const isNar = method === "GET" && /\/nar\//.test(url);
  const upstream = requestHttp(
    { port, host: "127.0.0.1", method, path: url, headers },
    (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.headers);
      if (!isNar) {
        answer.pipe(response);
        return;
      }
      const chunks: Buffer[] = [];
      answer.on("data", (chunk: Buffer) => void chunks.push(chunk));
      answer.on("end", () => {
        const body = Buffer.concat(chunks);
        if (fault === "truncated NAR") {
          response.write(body.subarray(0, body.length >> 1), () => response.destroy());
        } else {
          // The last byte of zstd is content or its checksum.
          body[body.length >> 1] = (body[body.length >> 1] ?? 0) ^ 0xff;
          response.end(body);
        }
      });
    },
  );
  upstream.on("error", () => response.destroy());
  request.pipe(upstream);
}
