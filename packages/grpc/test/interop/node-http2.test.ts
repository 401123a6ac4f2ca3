import { once } from "node:events";
import { type ClientHttp2Session, type ClientHttp2Stream, connect } from "node:http2";

import { expect, test } from "vitest";

import { message } from "../raw-frames.ts";
import { startTestServer } from "../test-server.ts";

function startCall(session: ClientHttp2Session, method: string): ClientHttp2Stream {
  return session.request({
    ":method": "POST",
    ":path": `/test.Echo/${method}`,
    "content-type": "application/grpc",
    te: "trailers",
  });
}

async function readAll(stream: ClientHttp2Stream): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for await (const piece of stream) pieces.push(piece as Buffer);
  return Buffer.concat(pieces);
}

test("node:http2: a unary call is answered with headers, message and trailers", async () => {
  await using server = await startTestServer();
  const session = connect(server.url);
  const call = startCall(session, "Unary");
  const trailers = once(call, "trailers");
  call.end(message("hello"));

  expect(await readAll(call)).toEqual(message("hello"));
  expect((await trailers)[0]).toMatchObject({ "grpc-status": "0" });
  session.destroy();
});

test("node:http2: 20 MiB go both ways on one stream, through every window", async () => {
  await using server = await startTestServer();
  const session = connect(server.url, { maxSessionMemory: 100 });
  const call = startCall(session, "Stream");
  const body = Buffer.alloc(1024 * 1024, "0123456789abcdef");
  const answer = readAll(call);
  for (let round = 0; round < 20; round += 1) call.write(message(body));
  call.end();

  const received = await answer;
  expect(received).toHaveLength(20 * (body.length + 5));
  expect(received.subarray(-body.length).equals(body)).toBe(true);
  session.destroy();
});

test("node:http2: a graceful drain lets the open call end and closes the connection", async () => {
  await using server = await startTestServer();
  const session = connect(server.url);
  const call = startCall(session, "Stream");
  call.write(message("one"));
  await once(call, "response");
  const closed = once(session, "close");
  server.connections[0]?.drain(performance.now());
  call.end(message("two"));
  expect(await readAll(call)).toEqual(Buffer.concat([message("one"), message("two")]));
  await closed;
});

test("node:http2: a reset cancels the call", async () => {
  await using server = await startTestServer();
  const session = connect(server.url);
  const call = startCall(session, "Never");
  call.write(message("one"));
  call.on("error", () => {});
  await once(session, "connect");
  await new Promise((resolve) => session.ping(resolve));
  call.close(8);
  await new Promise((resolve) => session.ping(resolve));
  expect(server.cancelled).toEqual(["reset"]);
  session.destroy();
});
