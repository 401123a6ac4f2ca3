import { expect, test } from "vitest";

import { createTestPath, type TestPath } from "./test-path.ts";
import { startTestServer, type TestAnswer, type TestServer } from "./test-server.ts";
import { encode, putNar } from "./uploads.ts";

const MIB = 2 ** 20;

/** A body that stops in its middle until it is let go on. */
function heldBack(bytes: Uint8Array): { body: AsyncIterable<Uint8Array>; release: () => void } {
  const { promise, resolve } = Promise.withResolvers<void>();
  async function* body(): AsyncGenerator<Uint8Array> {
    yield bytes.subarray(0, bytes.length - 10);
    await promise;
    yield bytes.subarray(bytes.length - 10);
  }
  return { body: body(), release: resolve };
}

function putHeldBack(
  server: TestServer,
  token: string,
  path: TestPath,
  body: AsyncIterable<Uint8Array>,
): Promise<TestAnswer> {
  const { narHash, nar } = path;
  const url = `/_flywheel/v1/views/main/nars/${narHash}?size=${nar.length}&compression=zstd`;
  return server.send("PUT", url, { token, body });
}

async function metric(server: TestServer, name: string): Promise<number> {
  const { text } = await server.send("GET", "/metrics");
  return Number(new RegExp(`^${name} (\\S+)$`, "m").exec(text)?.[1]);
}

test("uploads beyond the memory for uploads wait in turn, and go on when there is some", async () => {
  // Room for one decoder of 8 MiB and what belongs to it.
  await using server = await startTestServer({ uploadMemoryBytes: "16 MiB" });
  await server.createView("main");
  const token = await server.token({ main: ["push"] });
  const [one, two] = [await createTestPath("one", "1".repeat(500)), await createTestPath("two")];
  const first = heldBack(await encode(one));
  const running = putHeldBack(server, token, one, first.body);
  await expect.poll(() => metric(server, "flywheel_upload_memory_bytes")).toBe(12 * MIB);

  const waiting = putNar(server, token, "main", two, await encode(two));
  await expect.poll(() => metric(server, "flywheel_uploads_waiting")).toBe(1);
  first.release();

  expect((await running).status).toBe(200);
  expect((await waiting).status).toBe(200);
  expect(await metric(server, "flywheel_uploads_waiting")).toBe(0);
  expect(await metric(server, "flywheel_upload_memory_bytes")).toBe(0);
});
