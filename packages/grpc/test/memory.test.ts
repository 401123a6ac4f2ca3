import { once } from "node:events";
import { type AddressInfo, connect, createServer } from "node:net";

import { expect, test } from "vitest";

import { attachSocket } from "../src/attach-socket.ts";
import type { CallReceiver, ServerCall } from "../src/call-receiver.ts";
import type { ClientReceiver } from "../src/client-call.ts";
import { createClientConnection } from "../src/client-connection.ts";
import { FLAG, FRAME } from "../src/http2/protocol.ts";
import type { RequestMemory } from "../src/request-memory.ts";
import { createServerConnection } from "../src/server-connection.ts";
import { RawClient } from "./raw-client.ts";
import { callFields, frame, message, uint32 } from "./raw-frames.ts";

const CANCEL = uint32(8);
const PIECE = Buffer.alloc(100_000, "p");
/** More than a client takes before it says so. */
const WINDOW = 65_535;
const plenty: RequestMemory = {
  ask: (_call, { mostBytes }) => ({ sizeBytes: mostBytes, release() {} }),
};

function openWindows(client: RawClient, id: number): void {
  for (const stream of [0, id]) {
    client.send(frame(FRAME.WINDOW_UPDATE, 0, stream, uint32(200_000)));
  }
}

test("whoever lent a message hears that it was written when the transport says so, not before", () => {
  const client = new RawClient();
  client.send(client.blocks.headers(1, callFields("/test.Echo/Stream")));
  let sent = 0;
  client.saw().call.sendMessage([Buffer.from("head"), PIECE], () => (sent += 1));

  client.take();
  expect(client.server.takeSentMarks()).toHaveLength(0);

  openWindows(client, 1);
  client.take();
  const marks = client.server.takeSentMarks();
  expect(client.server.takeSentMarks()).toHaveLength(0);
  expect(sent).toBe(0);
  for (const mark of marks) mark();
  expect(sent).toBe(1);
});

test("of a message whose call ends before it was sent whole, nobody hears that it was written", () => {
  const client = new RawClient();
  client.send(client.blocks.headers(1, callFields("/test.Echo/Stream")));
  client.saw().call.sendMessage(PIECE, () => expect.unreachable());
  client.take();

  client.send(frame(FRAME.RST_STREAM, 0, 1, CANCEL));
  openWindows(client, 3);
  client.take();

  expect(client.server.takeSentMarks()).toHaveLength(0);
});

test("a message is told of with the output that it lies in, whatever was asked for meanwhile", () => {
  const client = new RawClient();
  client.send(client.blocks.headers(1, callFields("/test.Echo/Stream")));
  const told: string[] = [];
  const { call } = client.saw();
  call.sendMessage(Buffer.from("first"), () => told.push("first"));
  client.take();
  call.sendMessage(Buffer.from("second"), () => told.push("second"));

  for (const mark of client.server.takeSentMarks()) mark();

  expect(told).toEqual(["first"]);
});

test("a receiver that keeps nothing leaves no memory behind: of a message in pieces, and of what it lay in", () => {
  const messages: Uint8Array[] = [];
  const Quick: CallReceiver = {
    keepsNothing: true,
    onMessage: (_call, bytes) => void messages.push(bytes),
    onHalfClose() {},
  };
  const client = new RawClient({ receivers: { Quick }, memory: plenty });
  client.send(client.blocks.headers(1, callFields("/test.Echo/Quick")));
  const bytes = message(PIECE.subarray(0, 40_000));
  client.send(frame(FRAME.DATA, 0, 1, bytes.subarray(0, 16_384)));
  client.send(frame(FRAME.DATA, 0, 1, bytes.subarray(16_384, 32_768)));
  client.send(frame(FRAME.DATA, 0, 1, bytes.subarray(32_768)));

  expect(messages.map(({ length }) => length)).toEqual([0]);
  expect(client.server.isInputKept).toBe(false);
  client.send(frame(FRAME.DATA, 0, 1, message(Buffer.from("whole"))));
  expect(client.server.isInputKept).toBe(false);
});

test("a message that its receiver may keep, keeps what it lies in", () => {
  const client = new RawClient();
  client.send(client.blocks.headers(1, callFields("/test.Echo/Stream")));
  client.send(frame(FRAME.DATA, 0, 1, message(Buffer.from("kept"))));
  expect(client.server.isInputKept).toBe(true);

  client.send(frame(FRAME.PING, 0, 0, Buffer.alloc(8)));
  expect(client.server.isInputKept).toBe(false);
});

test("where requests share memory, a message's is given back when its call is over and nobody holds it", () => {
  let kept: Uint8Array = new Uint8Array();
  let letGo = (): void => {};
  const Held: CallReceiver = {
    onMessage(call, bytes) {
      kept = bytes;
      letGo = call.holdMemory();
    },
    onHalfClose: (call) => call.finish(0),
  };
  const client = new RawClient({
    receivers: { Held },
    memory: plenty,
    limits: { firstWindowBytes: WINDOW, streamWindowBytes: 2 ** 20 },
  });
  client.send(client.blocks.headers(1, callFields("/test.Echo/Held")));
  const bytes = message(PIECE);
  for (let from = 0; from < bytes.length; from += 16_384) {
    const isLast = from + 16_384 >= bytes.length;
    const part = bytes.subarray(from, from + 16_384);
    client.send(frame(FRAME.DATA, isLast ? FLAG.END_STREAM : 0, 1, part));
  }
  expect(client.saw().call.isOver).toBe(true);
  expect(PIECE.equals(kept)).toBe(true);

  letGo();

  expect(kept).toHaveLength(0);
});

test("over a socket, memory that is used again once it was written changes nothing of what was sent", async () => {
  const shared = Buffer.alloc(50_000);
  const lend = (call: ServerCall, round: number): void => {
    if (round === 200) call.finish(0);
    else call.sendMessage(shared.fill(round), () => lend(call, round + 1));
  };
  const server = createServer((socket) => {
    const receiver: CallReceiver = { onMessage() {}, onHalfClose: (call) => lend(call, 0) };
    attachSocket(socket, (onOutput, nowMs) =>
      createServerConnection({ onOutput, onCall: () => receiver }, nowMs),
    );
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const socket = connect((server.address() as AddressInfo).port, "127.0.0.1");
  const client = attachSocket(socket, (onOutput, nowMs) =>
    createClientConnection({ onOutput }, nowMs),
  );
  const messages: Buffer[] = [];
  await new Promise<void>((resolve) => {
    const receiver: ClientReceiver = {
      onMessage: (_call, bytes) => void messages.push(Buffer.from(bytes)),
      onEnd: () => resolve(),
    };
    client.startCall({ path: "/test.Echo/Lend", authority: "test" }, receiver, 0)?.halfClose();
  });
  socket.destroy();
  server.close();

  expect(messages).toHaveLength(200);
  for (const [round, bytes] of messages.entries()) {
    expect(bytes.equals(Buffer.alloc(50_000, round))).toBe(true);
  }
});
