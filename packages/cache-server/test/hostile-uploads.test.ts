import { expect, test } from "vitest";

import { listStoreFiles } from "./nix-client.ts";
import { head, openRawClient } from "./raw-client.ts";
import { atticNarInfo, createTestPath } from "./test-path.ts";
import { startTestServer, type TestServer } from "./test-server.ts";
import { encode, pushAttic, putNar } from "./uploads.ts";

async function openView(server: TestServer): Promise<string> {
  await server.createView("main");
  return server.token({ main: ["pull", "push"] });
}

async function expectNothingLeft(server: TestServer): Promise<void> {
  await expect.poll(() => listStoreFiles(server)).toEqual([]);
  const view = await server.index.findView("main");
  expect(await server.index.viewStats(view?.id ?? 0)).toMatchObject({
    paths: 0,
    nars: 0,
    uploads: 0,
    uploadedNarBytes: 0,
  });
}

test("an upload whose connection breaks leaves nothing, and its size in the log", async () => {
  await using server = await startTestServer();
  const token = await openView(server);
  const path = await createTestPath("cut", Buffer.alloc(300_000, "abc"));
  await using client = await openRawClient(server);
  await client.write(
    head(
      "PUT /_api/v1/upload-path HTTP/1.1",
      "host: localhost",
      `authorization: bearer ${token}`,
      `x-attic-nar-info: ${atticNarInfo("main", path)}`,
      `content-length: ${path.nar.length}`,
    ),
  );
  await client.write(path.nar.subarray(0, 200_000));
  await expect.poll(() => listStoreFiles(server)).toHaveLength(1);

  client.socket.destroy();

  await expectNothingLeft(server);
  await expect
    .poll(() => server.logs.map((line) => line.message))
    .toContain("The body broke off after 200000 bytes");
});

test("a chunked upload that ends in the middle of its NAR leaves nothing", async () => {
  await using server = await startTestServer();
  const token = await openView(server);
  const path = await createTestPath("short", "x".repeat(10_000));
  const answer = await pushAttic(server, token, "main", path, {}, path.nar.subarray(0, 5000));
  expect(answer.json()).toMatchObject({
    code: 400,
    message: `Received 5000 of the NAR's ${path.nar.length} bytes`,
  });
  await expectNothingLeft(server);
});

test("one changed byte is a wrong hash, and leaves nothing", async () => {
  await using server = await startTestServer();
  const token = await openView(server);
  const path = await createTestPath("changed", "x".repeat(10_000));
  const changed = Buffer.from(path.nar);
  changed[5000] = 0;
  expect((await pushAttic(server, token, "main", path, {}, changed)).json()).toMatchObject({
    code: 400,
    error: "RequestError",
    message: expect.stringContaining("Bad NAR hash"),
  });
  const encoded = await encode({ ...path, nar: changed });
  expect((await putNar(server, token, "main", path, encoded)).json()).toMatchObject({
    code: 422,
    error: "CORRUPT",
    message: expect.stringContaining("Bad NAR hash"),
  });
  await expectNothingLeft(server);
});

test("a NAR said to be too large is refused before a byte of it is sent", async () => {
  await using server = await startTestServer({ maxNarSizeBytes: "1 MiB" });
  const token = await openView(server);
  const narSize = 2 ** 20 + 1;
  for (const request of [
    head(
      "PUT /_api/v1/upload-path HTTP/1.1",
      "host: localhost",
      `authorization: bearer ${token}`,
      `x-attic-nar-info: ${atticNarInfo("main", await createTestPath("large"), { nar_size: narSize })}`,
      `content-length: ${narSize}`,
    ),
    head(
      `PUT /_flywheel/v1/views/main/nars/${"0".repeat(64)}?size=${narSize} HTTP/1.1`,
      "host: localhost",
      `authorization: bearer ${token}`,
      "content-length: 1000",
    ),
  ]) {
    await using client = await openRawClient(server);
    await client.write(request);
    const answer = await client.until("requestId");
    expect(answer).toMatch(/^HTTP\/1\.1 413 /);
    expect(answer).toContain("The NAR is larger than the 1048576 bytes allowed here");
  }
  await expectNothingLeft(server);
});

test("a small upload that decompresses to more than it said is stopped there", async () => {
  await using server = await startTestServer();
  const token = await openView(server);
  const bomb = await createTestPath("bomb", Buffer.alloc(50 * 2 ** 20));
  const encoded = await encode(bomb);
  expect(encoded.length).toBeLessThan(100_000);
  const said = { ...bomb, nar: bomb.nar.subarray(0, 1000) };
  expect((await putNar(server, token, "main", said, encoded)).json()).toMatchObject({
    code: 422,
    message: "The NAR goes on after the 1000 bytes it was said to have",
  });
  await expectNothingLeft(server);
});

test("a preamble within the limit that never comes is given up", async () => {
  await using server = await startTestServer({ idleTimeoutMs: "100ms" });
  const token = await openView(server);
  await using client = await openRawClient(server);
  await client.write(
    head(
      "PUT /_api/v1/upload-path HTTP/1.1",
      "host: localhost",
      `authorization: bearer ${token}`,
      "x-attic-nar-info-preamble-size: 1000000",
      "transfer-encoding: chunked",
    ),
  );
  await client.write('5\r\n{"cac\r\n');
  const answer = await client.until("requestId");
  expect(answer).toMatch(/^HTTP\/1\.1 408 /);
  expect(answer).toContain("No byte came for 100 ms, after 5");
  await expectNothingLeft(server);
});

test("a client that cuts its upload and comes again is served", async () => {
  await using server = await startTestServer();
  const token = await openView(server);
  const path = await createTestPath("again", "x".repeat(100_000));
  await pushAttic(server, token, "main", path, {}, path.nar.subarray(0, 50_000));
  expect((await pushAttic(server, token, "main", path)).json()).toMatchObject({ kind: "Uploaded" });
});
