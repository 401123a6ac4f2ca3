import { expect, test } from "vitest";

import { head, openRawClient } from "./raw-client.ts";
import { atticNarInfo, createTestPath } from "./test-path.ts";
import { startTestServer } from "./test-server.ts";

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
