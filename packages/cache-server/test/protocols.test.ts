import { expect, test } from "vitest";

import { head, openRawClient } from "./raw-client.ts";
import { startTestServer } from "./test-server.ts";

const PREFACE = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/** An empty SETTINGS frame. */
const SETTINGS = Buffer.from("000000040000000000", "hex");

test("requests of HTTP/1.1 are answered however their first bytes are cut", async () => {
  await using server = await startTestServer();
  for (const method of ["GET", "PROPFIND", "PUT", "PRI"]) {
    const request = head(`${method} /healthz HTTP/1.1`, "Host: x", "Connection: close");
    for (const cut of [1, 2, 3, 4]) {
      await using client = await openRawClient(server);
      client.socket.setNoDelay(true);
      await client.write(request.slice(0, cut));
      // The server has seen the first bytes by themselves when it answers somebody else.
      expect((await server.send("GET", "/healthz")).status).toBe(200);
      await client.write(request.slice(cut));
      expect(await client.closed()).toMatch(/^HTTP\/1\.1 [245]\d\d /);
    }
  }
});

test("a request whose sender closes its side at once is answered", async () => {
  await using server = await startTestServer();
  for (const cut of [0, 2]) {
    await using client = await openRawClient(server);
    const request = head("GET /healthz HTTP/1.1", "Host: x");
    if (cut > 0) await client.write(request.slice(0, cut));
    client.socket.end(request.slice(cut));
    expect(await client.closed()).toMatch(/^HTTP\/1\.1 200 /);
  }
});

test("requests that come together are answered in their order", async () => {
  await using server = await startTestServer();
  await using client = await openRawClient(server);
  await client.write(
    head("GET /healthz HTTP/1.1", "Host: x") +
      head("GET /absent/nix-cache-info HTTP/1.1", "Host: x") +
      head("GET /healthz HTTP/1.1", "Host: x", "Connection: close"),
  );
  const answers = (await client.closed()).match(/HTTP\/1\.1 \d{3}/g);
  expect(answers).toEqual(["HTTP/1.1 200", "HTTP/1.1 401", "HTTP/1.1 200"]);
});

test("the preface of HTTP/2 is answered with its settings, however it is cut", async () => {
  await using server = await startTestServer();
  for (const cut of [1, 3, 10, PREFACE.length]) {
    await using client = await openRawClient(server);
    client.socket.setNoDelay(true);
    await client.write(PREFACE.slice(0, cut));
    expect((await server.send("GET", "/healthz")).status).toBe(200);
    await client.write(PREFACE.slice(cut));
    await client.write(SETTINGS);
    const received = await client.until("\u0004");
    expect(received.charCodeAt(3)).toBe(4);
  }
});

test("a connection that says nothing, or ends in the middle of its first word, keeps no server from stopping", async () => {
  await using server = await startTestServer();
  await using silent = await openRawClient(server);
  await using stammering = await openRawClient(server);
  await stammering.write("PR");
  await using ended = await openRawClient(server);
  ended.socket.end("P");
  expect((await server.send("GET", "/healthz")).status).toBe(200);
  expect(await ended.closed()).toBe("");

  await server.stop();

  expect(await silent.closed()).toBe("");
  expect(await stammering.closed()).toBe("");
});
