import { execFile } from "node:child_process";
import { existsSync, mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { promisify } from "node:util";

import { expect, test } from "vitest";

import { message } from "../raw-frames.ts";
import { startTestServer } from "../test-server.ts";

const run = promisify(execFile);
const PYTHON = "/usr/bin/python3";
const isOnPath = (command: string): boolean =>
  (process.env["PATH"] ?? "").split(":").some((it) => existsSync(path.join(it, command)));

function writeMessage(body: string): string {
  const file = path.join(mkdtempSync(path.join(tmpdir(), "grpc-tools-")), "message");
  writeFileSync(file, message(body));
  return file;
}

const HEADERS = ["-H", "content-type: application/grpc", "-H", "te: trailers"];

test("curl: a call by prior knowledge, with its trailers", async ({ skip }) => {
  skip(!isOnPath("curl"), "curl is not installed");
  await using server = await startTestServer();
  const { stdout } = await run("curl", [
    "--silent",
    "--include",
    "--http2-prior-knowledge",
    "--data-binary",
    `@${writeMessage("hello from curl")}`,
    ...HEADERS,
    `${server.url}/test.Echo/Unary`,
  ]);
  expect(stdout).toContain("HTTP/2 200");
  expect(stdout).toContain("hello from curl");
  expect(stdout).toContain("grpc-status: 0");
});

test("curl: a GET is answered 405", async ({ skip }) => {
  skip(!isOnPath("curl"), "curl is not installed");
  await using server = await startTestServer();
  const { stdout } = await run("curl", [
    "--silent",
    "--head",
    "--http2-prior-knowledge",
    server.url,
  ]);
  expect(stdout).toContain("HTTP/2 405");
});

test("h2load: 20 000 calls on 4 connections of 100 streams all succeed", async ({ skip }) => {
  skip(!isOnPath("h2load"), "Debian's nghttp2-client is not installed");
  await using server = await startTestServer();
  const { stdout } = await run("h2load", [
    ...["-n", "20000", "-c", "4", "-m", "100", "-d", writeMessage("x".repeat(500))],
    ...HEADERS,
    `${server.url}/test.Echo/Unary`,
  ]);
  expect(stdout).toContain("20000 succeeded, 0 failed, 0 errored, 0 timeout");
  expect(stdout).toContain("status codes: 20000 2xx");
});

test("nghttp: a call is shown frame by frame", async ({ skip }) => {
  skip(!isOnPath("nghttp"), "Debian's nghttp2-client is not installed");
  await using server = await startTestServer();
  const { stdout } = await run("nghttp", [
    ...["--verbose", "--no-dep", "--data", writeMessage("hello from nghttp")],
    ...HEADERS,
    `${server.url}/test.Echo/Unary`,
  ]);
  expect(stdout).toContain("grpc-status: 0");
  expect(stdout).not.toContain(
    "GOAWAY frame <length=8, flags=0x00, stream_id=0>\n          (last_stream_id=0, error_code=PROTOCOL_ERROR",
  );
});

const SCRIPT = `
import socket, struct, sys
import h2.connection, h2.config, h2.events, h2.settings
sock = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
conn = h2.connection.H2Connection(config=h2.config.H2Configuration(header_encoding="utf-8"))
conn.initiate_connection()
sock.sendall(conn.data_to_send())
conn.receive_data(sock.recv(65536))
body = b"hello from python" * 1000
message = b"\\0" + struct.pack(">I", len(body)) + body
headers = [(":method", "POST"), (":scheme", "http"), (":authority", "test"), (":path", "/test.Echo/Unary"),
           ("content-type", "application/grpc"), ("te", "trailers"), ("x-round", "1")]
ids = []
for _ in range(20):
    stream = conn.get_next_available_stream_id()
    ids.append(stream)
    conn.send_headers(stream, headers)
    for start in range(0, len(message), 16384):
        conn.send_data(stream, message[start:start + 16384], end_stream=start + 16384 >= len(message))
    sock.sendall(conn.data_to_send())
    if stream == 1: conn.ping(b"12345678")
received, trailers, pinged = {}, {}, False
while len(trailers) < len(ids):
    data = sock.recv(65536)
    if not data: sys.exit("the connection ended")
    for event in conn.receive_data(data):
        if isinstance(event, h2.events.DataReceived):
            received[event.stream_id] = received.get(event.stream_id, b"") + event.data
            conn.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.TrailersReceived): trailers[event.stream_id] = dict(event.headers)
        elif isinstance(event, h2.events.PingAckReceived): pinged = True
        elif isinstance(event, (h2.events.StreamReset, h2.events.ConnectionTerminated)): sys.exit(repr(event))
    sock.sendall(conn.data_to_send())
assert pinged
assert all(received[i] == message for i in ids)
assert all(trailers[i]["grpc-status"] == "0" for i in ids)
print("fine")
`;

test("Python's h2: 20 calls with bodies, flow control and PING, to its strict parser's content", async ({
  skip,
}) => {
  skip(
    !existsSync("/usr/lib/python3/dist-packages/h2/__init__.py"),
    "Debian's python3-h2 is not installed",
  );
  await using server = await startTestServer();
  const { stdout } = await run(PYTHON, ["-c", SCRIPT, String(server.port)]);
  expect(stdout.trim()).toBe("fine");
});
