import { randomBytes } from "node:crypto";

import { expect, test } from "vitest";

import { createStoreGate } from "./gated-store.ts";
import { head, openRawClient } from "./raw-client.ts";
import { atticNarInfo, createTestPath } from "./test-path.ts";
import { startTestServer } from "./test-server.ts";
import { pushAttic } from "./uploads.ts";

const HEALTH = head("GET /healthz HTTP/1.1", "host: localhost");

test.each([10, 100_000, 3_000_000])(
  "after an upload with %i bytes too many the connection serves its next request",
  async (surplus) => {
    await using server = await startTestServer();
    await server.createView("main");
    const token = await server.token({ main: ["push"] });
    const path = await createTestPath("surplus");
    await using client = await openRawClient(server);

    await client.write(
      head(
        "PUT /_api/v1/upload-path HTTP/1.1",
        "host: localhost",
        `authorization: bearer ${token}`,
        `x-attic-nar-info: ${atticNarInfo("main", path)}`,
        `content-length: ${path.nar.length + surplus}`,
      ),
    );
    await client.write(path.nar);
    await client.write(Buffer.alloc(surplus));
    await client.write(HEALTH);

    expect(await client.until('"alive"')).toMatch(
      /^HTTP\/1\.1 200 OK\r\n[^]*"Uploaded"[^]*HTTP\/1\.1 200 OK\r\n[^]*"alive"/,
    );
  },
);

test("a client that sends all before it reads still learns why it was refused", async () => {
  await using server = await startTestServer();
  await server.createView("main");
  const sizeBytes = 20_000_000;
  await using client = await openRawClient(server);
  client.socket.pause();

  await client.write(
    head(
      `PUT /_flywheel/v1/views/main/nars/${"0".repeat(64)}?size=${sizeBytes} HTTP/1.1`,
      "host: localhost",
      `content-length: ${sizeBytes}`,
    ),
  );
  await client.write(Buffer.alloc(sizeBytes));
  client.socket.resume();

  const answer = await client.closed();
  expect(answer).toMatch(/^HTTP\/1\.1 401 /);
  expect(answer).toContain("No token was sent");
});

test("a refused client that never stops sending is cut off", async () => {
  await using server = await startTestServer();
  await server.createView("main");
  await using client = await openRawClient(server);
  const chunk = `100000\r\n${"x".repeat(2 ** 20)}\r\n`;

  await client.write(
    head(
      `PUT /_flywheel/v1/views/main/nars/${"0".repeat(64)}?size=1 HTTP/1.1`,
      "host: localhost",
      "transfer-encoding: chunked",
    ),
  );
  const sendForEver = async (): Promise<number> => {
    for (let sent = 0; ; sent += 1) {
      try {
        await client.write(chunk);
      } catch {
        return sent;
      }
    }
  };
  const sentMiB = await sendForEver();

  expect(await client.closed()).toMatch(/^HTTP\/1\.1 401 /);
  expect(sentMiB).toBeLessThan(200);
});

test("a server that works longer than a connection may be silent still answers", async () => {
  const gate = createStoreGate();
  await using server = await startTestServer(
    {},
    { timings: { connectionTimeoutMs: 100 }, wrapStore: gate.wrap },
  );
  await server.createView("main");
  const token = await server.token({ main: ["push"] });
  const path = await createTestPath("working");
  await using busy = await openRawClient(server);
  await busy.write(
    head(
      "PUT /_api/v1/upload-path HTTP/1.1",
      "host: localhost",
      `authorization: bearer ${token}`,
      `x-attic-nar-info: ${atticNarInfo("main", path)}`,
      `content-length: ${path.nar.length}`,
    ),
  );
  await busy.write(path.nar);
  await gate.stored;

  // Its silence began later: when it is cut off, the busy one has been silent for longer.
  await using idle = await openRawClient(server);
  // So that it is known as HTTP; who says nothing at all has half a minute.
  await idle.write("GET ");
  await idle.closed();
  gate.open();

  expect(await busy.until('"Uploaded"')).toMatch(/^HTTP\/1\.1 200 /);
});

test("a client that falls silent in the middle of its request's head or body is cut off", async () => {
  await using server = await startTestServer({}, { timings: { connectionTimeoutMs: 100 } });
  await server.createView("main");
  const token = await server.token({ main: ["push"] });
  for (const begun of [
    "GET /healthz HTTP/1.1\r\nhost: ",
    head(
      `PUT /_flywheel/v1/views/main/nars/${"0".repeat(64)}?size=100 HTTP/1.1`,
      "host: localhost",
      `authorization: bearer ${token}`,
      "content-length: 100",
    ),
  ]) {
    await using client = await openRawClient(server);
    await client.write(begun);
    expect(await client.closed()).toBe("");
  }
});

test("a client that stops reading its answer is cut off", async () => {
  await using server = await startTestServer({}, { timings: { connectionTimeoutMs: 200 } });
  await server.createView("open", { isPublic: true });
  const token = await server.token({ open: ["push"] });
  // More than what the sockets of both sides hold.
  const path = await createTestPath("large", randomBytes(30_000_000));
  await pushAttic(server, token, "open", path);
  await using client = await openRawClient(server);
  client.socket.pause();

  await client.write(head(`GET /open/nar/${path.storePathHash}.nar HTTP/1.1`, "host: localhost"));

  await expect
    .poll(() => server.logs.map((line) => line.fields))
    .toContainEqual(expect.objectContaining({ method: "GET", status: 200, complete: false }));
});

test.each([
  ["no Host header", head("GET /main/nix-cache-info HTTP/1.1", "connection: close")],
  ["an old protocol without one", head("GET /main/nix-cache-info HTTP/1.0")],
])("a request with %s is refused with a body that says so", async (_, request) => {
  await using server = await startTestServer();
  await using client = await openRawClient(server);
  await client.write(request);
  const answer = await client.closed();
  expect(answer).toMatch(/^HTTP\/1\.1 400 /);
  expect(answer).toContain('"message":"The request has no Host header"');
});

test("probes are answered under whatever address they know the server by", async () => {
  await using server = await startTestServer({ allowedHosts: "cache.example.org" });
  await using old = await openRawClient(server);
  await old.write(head("GET /healthz HTTP/1.0"));
  expect(await old.closed()).toMatch(/^HTTP\/1\.1 200 /);
  const headers = { host: "10.0.0.7:7480" };
  expect((await server.send("GET", "/readyz", { headers })).status).toBe(200);
  expect((await server.send("GET", "/", { headers })).status).toBe(400);
});

test.each([
  ["no HTTP", "nonsense\r\n\r\n", 400],
  ["a header too large", head("GET / HTTP/1.1", `x: ${"y".repeat(20_000)}`), 431],
  ["a length that is none", head("PUT / HTTP/1.1", "host: x", "content-length: -1"), 400],
  [
    "two framings of one body",
    head("PUT / HTTP/1.1", "host: x", "content-length: 3", "transfer-encoding: chunked"),
    400,
  ],
])("a connection with %s is answered and closed", async (_, bytes, status) => {
  await using server = await startTestServer();
  await using client = await openRawClient(server);
  await client.write(bytes);
  expect(await client.closed()).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `));
});

test("a Host that is none is the client's fault wherever addresses are made of it", async () => {
  await using server = await startTestServer();
  await server.createView("main", { isPublic: true });
  await using client = await openRawClient(server);
  await client.write(
    head("GET /_api/v1/cache-config/main HTTP/1.1", "Host: 127.0.0.1:348x", "Connection: close"),
  );
  const answer = await client.closed();
  expect(answer).toMatch(/^HTTP\/1\.1 400 /);
  expect(answer).toContain("Host");
  expect(server.logs.filter(({ level }) => level === "error")).toEqual([]);
});

test("a connection that its client ends without a word is closed", async () => {
  await using server = await startTestServer();
  await using client = await openRawClient(server);
  client.socket.end();
  expect(await client.closed()).toBe("");
});
