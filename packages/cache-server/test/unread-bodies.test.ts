import { expect, test } from "vitest";

import { head, openRawClient } from "./raw-client.ts";
import { atticNarInfo, createTestPath } from "./test-path.ts";
import { startTestServer, type TestServer } from "./test-server.ts";

async function startWithToken(): Promise<{ server: TestServer; token: string }> {
  const server = await startTestServer();
  await server.createView("main");
  return { server, token: await server.token({ main: ["pull", "push"] }) };
}

function uploadHead(token: string, preamble: string, bodyBytes: number): string {
  return head(
    "PUT /_api/v1/upload-path HTTP/1.1",
    "Host: x",
    `Authorization: Bearer ${token}`,
    `X-Attic-Nar-Info-Preamble-Size: ${Buffer.byteLength(preamble)}`,
    `Content-Length: ${bodyBytes}`,
  );
}

test("a client that is refused after its preamble may send the rest, and the connection ends", async () => {
  const { server, token } = await startWithToken();
  await using _ = server;
  const path = await createTestPath("a", Buffer.alloc(4 * 2 ** 20));
  const preamble = atticNarInfo("main", path, { store_path_hash: "x".repeat(32) });
  await using client = await openRawClient(server);

  await client.write(uploadHead(token, preamble, Buffer.byteLength(preamble) + path.nar.length));
  await client.write(preamble);
  await client.write(path.nar);

  expect(await client.closed()).toMatch(/^HTTP\/1\.1 400 /);
}, 5000);

test("bytes behind the NAR are dropped, and the connection goes on", async () => {
  const { server, token } = await startWithToken();
  await using _ = server;
  const path = await createTestPath("a");
  const preamble = atticNarInfo("main", path);
  const body = Buffer.concat([Buffer.from(preamble), path.nar, Buffer.alloc(3 * 2 ** 20)]);
  await using client = await openRawClient(server);

  await client.write(uploadHead(token, preamble, body.length));
  await client.write(body);
  await client.until("frac_deduplicated");
  await client.write(head("GET /healthz HTTP/1.1", "Host: x", "Connection: close"));

  expect((await client.closed()).match(/HTTP\/1\.1 200 /g)).toHaveLength(2);
}, 5000);

test("a NAR upload refused for its first bytes ends its connection", async () => {
  const { server, token } = await startWithToken();
  await using _ = server;
  const body = Buffer.alloc(4 * 2 ** 20, "neither gzip nor a NAR");
  await using client = await openRawClient(server);

  await client.write(
    head(
      `PUT /main/nar/${"0".repeat(52)}.nar HTTP/1.1`,
      "Host: x",
      `Authorization: Bearer ${token}`,
      `Content-Length: ${body.length}`,
    ),
  );
  await client.write(body);

  expect(await client.closed()).toMatch(/^HTTP\/1\.1 415 /);
}, 5000);
