import { createServer, type Socket } from "node:net";
import { createSecureContext, TLSSocket } from "node:tls";

import { attachSocket } from "../src/attach-socket.ts";
import { type CallReceiver, type ServerCall, unary } from "../src/call-receiver.ts";
import type { ConnectionLimits } from "../src/http2/limits.ts";
import { createServerConnection, type ServerConnection } from "../src/server-connection.ts";
import { GRPC_STATUS } from "../src/status.ts";

/** Answers every message with itself, one by one, never faster than the client reads. */
const echoStream: CallReceiver = {
  manualConsume: true,
  onMessage(call, message) {
    const waiting = (call.state ??= []) as Uint8Array[];
    waiting.push(Buffer.from(message));
    pump(call);
  },
  onHalfClose(call) {
    ((call.state ??= []) as Array<Uint8Array | undefined>).push(undefined);
    pump(call);
  },
  onDrain: pump,
};

function pump(call: ServerCall): void {
  const waiting = call.state as Array<Uint8Array | undefined>;
  while (waiting.length > 0 && call.writableBytes > 0) {
    const message = waiting.shift();
    if (message === undefined) {
      call.finish(GRPC_STATUS.OK, "", [["x-done", "1"]]);
      return;
    }
    call.sendMessage(message);
    call.consumed();
  }
}

const RECEIVERS: Record<string, CallReceiver> = {
  "/test.Echo/Unary": unary((call, request) => call.respond(request)),
  "/test.Echo/Stream": echoStream,
  "/test.Echo/Refuse": unary((call) =>
    call.finish(GRPC_STATUS.NOT_FOUND, "größer als %", [["x-tail-bin", Buffer.from([0, 255])]]),
  ),
  "/test.Echo/Headers": unary((call) => {
    call.sendHeaders([["x-got", call.headers.get("authorization") ?? ""]]);
    call.respond(call.headers.getBinary("x-raw-bin") ?? Buffer.alloc(0));
  }),
  "/test.Echo/Never": { onMessage() {}, onHalfClose() {} },
};

export interface TestServer extends AsyncDisposable {
  readonly port: number;
  readonly url: string;
  readonly connections: ServerConnection[];
  /** How calls were cancelled, in order. */
  readonly cancelled: string[];
}

export interface TestServerOptions {
  readonly limits?: Partial<ConnectionLimits>;
  /** PEM of key and certificate, for TLS with ALPN. */
  readonly tls?: { readonly key: string; readonly cert: string };
}

/** The package behind real sockets on a free port, with methods for every kind of call. */
export async function startTestServer({
  limits = {},
  tls,
}: TestServerOptions = {}): Promise<TestServer> {
  const connections: ServerConnection[] = [];
  const cancelled: string[] = [];
  const sockets = new Set<Socket>();
  const server = createServer((raw) => {
    const socket =
      tls === undefined
        ? raw
        : new TLSSocket(raw, {
            isServer: true,
            secureContext: createSecureContext(tls),
            ALPNProtocols: ["h2"],
          });
    sockets.add(raw);
    raw.on("close", () => sockets.delete(raw));
    raw.on("error", () => raw.destroy());
    connections.push(
      attachSocket(socket, (onOutput, nowMs) =>
        createServerConnection(
          {
            limits,
            onOutput,
            onCall(call) {
              const receiver = RECEIVERS[call.path];
              return (
                receiver && { ...receiver, onCancel: (_, reason) => void cancelled.push(reason) }
              );
            },
          },
          nowMs,
        ),
      ),
    );
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  return {
    port,
    url: `${tls === undefined ? "http" : "https"}://127.0.0.1:${port}`,
    connections,
    cancelled,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}
