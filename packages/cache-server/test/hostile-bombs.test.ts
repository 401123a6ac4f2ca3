import { readFileSync } from "node:fs";
import { request as httpRequest } from "node:http";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";

import { sha256HexToNix32 } from "@glorious/nix-store";
import { describe, expect, test } from "vitest";

import {
  expectNothingStored,
  listStoreFiles,
  type NixFile,
  nixFile,
  openNixClient,
} from "./nix-client.ts";
import { createTestPath } from "./test-path.ts";
import { startTestServer } from "./test-server.ts";
import { zstdZeros } from "./zstd-frames.ts";

const ZEROS_XZ = readFileSync(new URL("fixtures/zeros.xz", import.meta.url));
/** Streams of zeros that can stand behind one another for ever; brotli's cannot. */
const ENDLESS: readonly (readonly [string, Buffer])[] = [
  ["gzip", gzipSync(Buffer.alloc(16 * 2 ** 20))],
  ["zstd", zstdZeros(128)],
  ["xz", ZEROS_XZ],
];
const ANY_NAME = sha256HexToNix32("ab".repeat(32));
const EXTENSION: Readonly<Record<string, string>> = {
  gzip: "",
  zstd: ".zst",
  xz: ".xz",
  br: ".br",
};

test.each(ENDLESS)(
  "a bomb in %s that never ends is stopped at limits.maxNarSize",
  async (compression, piece) => {
    await using server = await startTestServer({ maxNarSizeBytes: "100 MiB" });
    await server.createView("main");
    const token = await server.token({ main: ["push"] });
    let sentBytes = 0;
    async function* endless(): AsyncGenerator<Uint8Array> {
      for (;;) {
        sentBytes += piece.length;
        yield piece;
      }
    }

    const put = await server.send("PUT", `/main/nar/${ANY_NAME}.nar${EXTENSION[compression]}`, {
      token,
      body: endless(),
    });

    expect(put.status).toBe(413);
    expect(put.json()).toMatchObject({
      error: "TOO_LARGE",
      hint: expect.stringContaining("limits.maxNarSize"),
    });
    expect(sentBytes).toBeGreaterThan(0);
    await expectNothingStored(server);
  },
);

test("a bomb of a few hundred bytes in brotli is stopped at limits.maxNarSize", async () => {
  await using server = await startTestServer({ maxNarSizeBytes: "10 MiB" });
  await server.createView("main");
  const client = await openNixClient(server, "main");
  const params = { [constants.BROTLI_PARAM_QUALITY]: 1, [constants.BROTLI_PARAM_LGWIN]: 24 };
  const bomb: NixFile = nixFile("br", brotliCompressSync(Buffer.alloc(256 * 2 ** 20), { params }));
  expect(bomb.bytes.length).toBeLessThan(300_000);

  expect((await client.put(bomb.url, bomb.bytes)).status).toBe(413);
  await expectNothingStored(server);
});

test("10 GB of zeros in 320 kB of zstd are stopped at limits.maxNarSize", async () => {
  await using server = await startTestServer({ maxNarSizeBytes: "1 MiB" });
  await server.createView("main");
  const client = await openNixClient(server, "main");
  const bomb = nixFile("zstd", zstdZeros(80_000));

  const put = await client.put(bomb.url, bomb.bytes);

  expect(put.status).toBe(413);
  await expectNothingStored(server);
});

test("a NAR of exactly limits.maxNarSize is taken, one byte more is not", async () => {
  const path = await createTestPath("exact", Buffer.alloc(2 ** 20));
  const file = nixFile("none", path.nar);
  await using exact = await startTestServer({ maxNarSizeBytes: `${path.nar.length}` });
  await exact.createView("main");
  await (await openNixClient(exact, "main")).copy(path, file);
  await using less = await startTestServer({ maxNarSizeBytes: `${path.nar.length - 1}` });
  await less.createView("main");
  const client = await openNixClient(less, "main");

  expect((await client.put(file.url, file.bytes)).status).toBe(413);
  const gzip = nixFile("gzip", gzipSync(path.nar));
  expect((await client.put(gzip.url, gzip.bytes)).status).toBe(413);
  await expectNothingStored(less);
});

describe("xz", () => {
  test("a bomb does not hold up others, and ends when the server does", async () => {
    await using server = await startTestServer({ shutdownTimeoutMs: "100ms" });
    await server.createView("main");
    const token = await server.token({ main: ["push"] });
    const { hostname, port } = new URL(server.url);
    const bomb = httpRequest({
      hostname,
      port,
      method: "PUT",
      path: `/main/nar/${ANY_NAME}.nar.xz`,
      agent: false,
      headers: { authorization: `Bearer ${token}` },
    });
    bomb.on("error", () => {});
    // A gigabyte in every piece.
    const piece = Buffer.concat(Array<Buffer>(64).fill(ZEROS_XZ));
    bomb.write(piece);
    bomb.write(piece);
    await expect.poll(() => listStoreFiles(server)).toHaveLength(1);

    const waits: number[] = [];
    for (let round = 0; round < 20; round += 1) {
      const startedAtMs = performance.now();
      expect((await server.send("GET", "/healthz")).status).toBe(200);
      waits.push(performance.now() - startedAtMs);
    }

    // A stopped event loop shows as seconds; this is for a busy machine.
    expect(Math.min(...waits)).toBeLessThan(500);
    await server.stop();
    bomb.destroy();
    await expectNothingStored(server);
  });

  test("a silent upload does not hold up another, nor does one that left", async () => {
    await using server = await startTestServer();
    await server.createView("main");
    const token = await server.token({ main: ["push"] });
    const client = await openNixClient(server, "main");
    const released = Promise.withResolvers<void>();
    const begun = Promise.withResolvers<void>();
    async function* silent(): AsyncGenerator<Uint8Array> {
      yield ZEROS_XZ.subarray(0, 1000);
      begun.resolve();
      await released.promise;
    }
    const waiting = ["01", "02", "03"].map((byte) =>
      server.send("PUT", `/main/nar/${sha256HexToNix32(byte.repeat(32))}.nar.xz`, {
        token,
        body: silent(),
      }),
    );
    await begun.promise;

    const zeros = nixFile("xz", ZEROS_XZ);
    expect((await client.put(zeros.url, zeros.bytes)).status).toBe(200);

    released.resolve();
    for (const answer of await Promise.all(waiting)) expect([400, 422]).toContain(answer.status);
    const twice = nixFile("xz", Buffer.concat([ZEROS_XZ, ZEROS_XZ]));
    expect((await client.put(twice.url, twice.bytes)).status).toBe(200);
  });
});
