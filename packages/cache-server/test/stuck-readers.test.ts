import { randomBytes } from "node:crypto";
import { readdir, readlink } from "node:fs/promises";

import { expect, test } from "vitest";

import { head, openRawClient, type RawClient } from "./raw-client.ts";
import { createTestPath, type TestPath } from "./test-path.ts";
import { startTestServer, type TestServer } from "./test-server.ts";
import { pushAttic } from "./uploads.ts";

const STUCK_READERS = 64;
/** More than a connection holds in the kernel, so that the server is left with the rest. */
const NAR_BYTES = 24 * 2 ** 20;
/** Half of what the readers were to get is 768 MiB. */
const MAX_MORE_BYTES = 128 * 2 ** 20;

/** Asks for a NAR and reads its beginning, but nothing further. */
async function openStuckReader(
  server: TestServer,
  token: string,
  path: TestPath,
): Promise<RawClient> {
  const client = await openRawClient(server);
  await client.write(
    head(
      `GET /main/nar/${path.storePathHash}.nar HTTP/1.1`,
      "host: localhost",
      `authorization: bearer ${token}`,
    ),
  );
  expect(await client.until("\r\n\r\n")).toMatch(/^HTTP\/1\.1 200 /);
  client.socket.pause();
  return client;
}

/** Open files below the server's directory. */
async function countOpenBlobs(server: TestServer): Promise<number> {
  const names = await readdir("/proc/self/fd");
  const targets = await Promise.all(
    names.map((name) => readlink(`/proc/self/fd/${name}`).catch(() => "")),
  );
  return targets.filter((target) => target.startsWith(`${server.directory}/store/blobs/`)).length;
}

// Open files are counted as Linux tells them.
test.runIf(process.platform === "linux")(
  "readers that never read hold little memory, keep nobody waiting, and are cut off",
  async () => {
    await using server = await startTestServer({}, { timings: { connectionTimeoutMs: 3000 } });
    await server.createView("main");
    const token = await server.token({ main: ["push", "pull"] });
    const path = await createTestPath("large", randomBytes(NAR_BYTES));
    expect((await pushAttic(server, token, "main", path)).status).toBe(200);
    const target = `/main/nar/${path.storePathHash}.nar`;
    await using stuck = new AsyncDisposableStack();
    const before = process.memoryUsage();

    const readers: RawClient[] = [];
    for (let count = 0; count < STUCK_READERS; count += 1) {
      readers.push(stuck.use(await openStuckReader(server, token, path)));
    }
    const whole = await server.send("GET", target, { token });
    const narInfo = await server.send("GET", `/main/${path.storePathHash}.narinfo`, { token });
    const more = process.memoryUsage().arrayBuffers - before.arrayBuffers - whole.body.length;

    expect(whole.body.length).toBeGreaterThan(NAR_BYTES);
    expect(narInfo.status).toBe(200);
    expect(more).toBeLessThan(MAX_MORE_BYTES);

    while ((await countOpenBlobs(server)) > 0) await server.send("GET", "/healthz");
    // A client learns that it was cut off once it has read what lies before the end.
    for (const { socket } of readers) socket.resume();
    const received = await Promise.all(
      readers.map(async (reader) => (await reader.closed()).length),
    );
    expect(Math.max(...received)).toBeLessThan(NAR_BYTES);
  },
);
