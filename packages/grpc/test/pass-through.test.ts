import { once } from "node:events";
import { type AddressInfo, connect, createServer } from "node:net";

import * as fc from "fast-check";
import { expect, test } from "vitest";

import { attachSocket } from "../src/attach-socket.ts";
import type { CallReceiver, ServerCall } from "../src/call-receiver.ts";
import type { ClientCall } from "../src/client-call.ts";
import { type ClientConnection, createClientConnection } from "../src/client-connection.ts";
import { createServerConnection } from "../src/server-connection.ts";
import { GRPC_STATUS } from "../src/status.ts";

/** Answers every message with itself. */
const ECHO: CallReceiver = {
  onMessage: (call, message) => void call.sendMessage(Buffer.from(message)),
  onHalfClose: (call) => call.finish(GRPC_STATUS.OK),
};

/** Passes bytes both ways, as fast as both sides take them. */
function passTo(upstream: ClientConnection): CallReceiver {
  const upOf = (down: ServerCall): ClientCall => {
    down.state ??= startUp(down);
    return down.state as ClientCall;
  };
  const startUp = (down: ServerCall): ClientCall => {
    let held = 0;
    const up = upstream.startCall(
      { path: down.path, authority: "up" },
      {
        manualConsume: true,
        onMessage: () => expect.unreachable("bytes, not messages"),
        onBytes(call, bytes) {
          if (down.sendBytes(bytes)) call.consumed();
          else held += 1;
        },
        onDrain: () => down.consumed(waiting.splice(0).length),
        onEnd: (_, { status, message }) => down.finish(status, message),
      },
      performance.now(),
    );
    if (up === undefined) throw new Error("no call could be started");
    drains.set(down, () => {
      up.consumed(held);
      held = 0;
    });
    return up;
  };
  const drains = new WeakMap<ServerCall, () => void>();
  const waiting: number[] = [];
  return {
    manualConsume: true,
    onMessage: () => expect.unreachable("bytes, not messages"),
    onBytes(down, bytes) {
      if (upOf(down).sendBytes(bytes)) down.consumed();
      else waiting.push(1);
    },
    onHalfClose: (down) => upOf(down).halfClose(),
    onDrain: (down) => drains.get(down)?.(),
  };
}

async function serve(receiver: CallReceiver): Promise<{ port: number } & Disposable> {
  const server = createServer((socket) => {
    attachSocket(socket, (onOutput, nowMs) =>
      createServerConnection({ onOutput, onCall: () => receiver }, nowMs),
    );
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  return { port, [Symbol.dispose]: () => void server.close() };
}

function open(port: number): ClientConnection & Disposable {
  const socket = connect(port, "127.0.0.1");
  const connection = attachSocket(socket, (onOutput, nowMs) =>
    createClientConnection({ onOutput }, nowMs),
  );
  return Object.assign(connection, { [Symbol.dispose]: () => void socket.destroy() });
}

function send(connection: ClientConnection, messages: readonly Uint8Array[]): Promise<Buffer[]> {
  return new Promise((resolve, reject) => {
    const received: Buffer[] = [];
    const call = connection.startCall(
      { path: "/a.B/C", authority: "face", timeoutMs: 20_000 },
      {
        onMessage: (_, message) => void received.push(Buffer.from(message)),
        onEnd: (_, { status, message }) =>
          status === GRPC_STATUS.OK ? resolve(received) : reject(new Error(message)),
      },
      performance.now(),
    );
    for (const message of messages) call?.sendMessage(message);
    call?.halfClose();
  });
}

test("messages of any size pass untouched through who takes them as bytes", async () => {
  using echo = await serve(ECHO);
  using upstream = open(echo.port);
  using face = await serve(passTo(upstream));
  using client = open(face.port);
  const message = fc.oneof(
    fc.uint8Array({ maxLength: 100 }),
    fc.integer({ min: 0, max: 600_000 }).map((length) => Buffer.alloc(length, length % 251)),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(message, { maxLength: 8 }), async (messages) => {
      const received = await send(client, messages);
      expect(received.map((one) => one.length)).toEqual(messages.map((one) => one.length));
      expect(Buffer.concat(received).equals(Buffer.concat(messages))).toBe(true);
    }),
    { numRuns: 40 },
  );
});
