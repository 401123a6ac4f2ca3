import { createHash } from "node:crypto";

import { sha256HexToNix32 } from "@glorious/nix-store";
import { expect, test } from "vitest";

import { compressNar, listStoreFiles, nixFile, openNixClient } from "./nix-client.ts";
import { createTestPath, type TestPath } from "./test-path.ts";
import { sha256, startTestServer, type TestServer } from "./test-server.ts";
import { skippableFrame, zstdFrame } from "./zstd-frames.ts";

const SECRET = Buffer.from("what a decoder does not show");

/** Valid zstd of any NAR, that no reader but the one who sent it should have to take. */
const ENCODINGS: readonly (readonly [string, (nar: Buffer) => Buffer])[] = [
  ["a window of 128 MiB", (nar) => zstdFrame(nar, { windowLog: 27 })],
  ["a window of 16 MiB", (nar) => zstdFrame(nar, { windowLog: 24 })],
  ["a skippable frame in front", (nar) => Buffer.concat([skippableFrame(SECRET), zstdFrame(nar)])],
  [
    "a skippable frame in the middle",
    (nar) =>
      Buffer.concat([
        zstdFrame(nar.subarray(0, 70_000)),
        skippableFrame(SECRET),
        zstdFrame(nar.subarray(70_000)),
      ]),
  ],
  [
    "a skippable frame at the end",
    (nar) => Buffer.concat([zstdFrame(nar), skippableFrame(SECRET)]),
  ],
  [
    "an empty skippable frame",
    (nar) => Buffer.concat([zstdFrame(nar), skippableFrame(Buffer.alloc(0))]),
  ],
  [
    "many tiny frames",
    (nar) =>
      Buffer.concat(
        Array.from({ length: Math.ceil(nar.length / 100) }, (_, index) =>
          zstdFrame(nar.subarray(index * 100, index * 100 + 100)),
        ),
      ),
  ],
  [
    "raw blocks of 16 bytes, which are 19 % of padding",
    (nar) => zstdFrame(nar, { blockBytes: 16 }),
  ],
  [
    "raw blocks of 250 bytes, which are 1.2 % of padding",
    (nar) => zstdFrame(nar, { blockBytes: 250 }),
  ],
  ["thousands of empty blocks", (nar) => zstdFrame(nar, { emptyBlocks: 5000 })],
  ["empty frames", (nar) => Buffer.concat([zstdFrame(nar), zstdEmpty(), zstdEmpty()])],
  ["no content size", (nar) => zstdFrame(nar, { hasContentSize: false })],
  ["the unused header bit", (nar) => zstdFrame(nar, { hasUnusedBit: true })],
];

function zstdEmpty(): Buffer {
  return Buffer.from("28b52ffd2000010000", "hex");
}

/** Bytes that do not compress, so that padding is what makes an encoding large. */
function noise(sizeBytes: number): Buffer {
  const blocks = Array.from({ length: Math.ceil(sizeBytes / 64) }, (_, index) =>
    createHash("sha512").update(`noise ${index}`).digest(),
  );
  return Buffer.concat(blocks).subarray(0, sizeBytes);
}

async function startTwoTenants(): Promise<{ server: TestServer; path: TestPath }> {
  const server = await startTestServer();
  await server.createView("main");
  await server.createView("team+main");
  return { server, path: await createTestPath("target", noise(150_000)) };
}

test.each(ENCODINGS)(
  "%s: its sender alone gets it back, everybody is served the server's own encoding",
  async (_name, encode) => {
    const { server, path } = await startTwoTenants();
    await using _ = server;
    const [attacker, victim] = [
      await openNixClient(server, "main"),
      await openNixClient(server, "team+main"),
    ];
    const hostile = nixFile("zstd", encode(path.nar));

    await attacker.copy(path, hostile);

    const own = await attacker.narInfo(path);
    expect(own.url).not.toBe(hostile.url);
    expect((await victim.head(hostile.url)).status).toBe(404);
    await victim.copy(path, compressNar(path.nar, "none"));
    const theirs = await victim.narInfo(path);
    expect(theirs.url).toBe(own.url);
    const served = await victim.get(theirs.url);
    expect(served.body.equals((await attacker.get(own.url)).body)).toBe(true);
    expect(served.body.includes(SECRET)).toBe(false);
    expect(served.body.length).toBeLessThan(path.nar.length * 1.01);
    const back = await attacker.get(hostile.url);
    expect(back.status).toBe(200);
    expect(back.body.equals(hostile.bytes)).toBe(true);
    expect((await victim.get(hostile.url)).status).toBe(404);
    expect((await victim.get(`nar/${path.storePathHash}.nar`)).body.equals(served.body)).toBe(true);
  },
);

test.each(ENCODINGS)(
  "%s: our own client's push of it is encoded anew, and its bytes are nobody's",
  async (_name, encode) => {
    const { server, path } = await startTwoTenants();
    await using _ = server;
    const token = await server.token({ main: ["pull", "push"] });
    const hostile = encode(path.nar);

    const put = await server.send(
      "PUT",
      `/_flywheel/v1/views/main/nars/${path.narHash}?size=${path.nar.length}&compression=zstd`,
      { token, body: hostile },
    );

    expect(put.status).toBe(200);
    expect(put.json()["fileHash"]).not.toBe(sha256(hostile));
    const url = `nar/${sha256HexToNix32(sha256(hostile))}.nar.zst`;
    expect((await server.send("GET", `/main/${url}`, { token })).status).toBe(404);
  },
);

test("a second tenant that sends the very same hostile bytes is served the server's encoding, too", async () => {
  const { server, path } = await startTwoTenants();
  await using _ = server;
  const [first, second] = [
    await openNixClient(server, "main"),
    await openNixClient(server, "team+main"),
  ];
  const hostile = nixFile("zstd", Buffer.concat([zstdFrame(path.nar), skippableFrame(SECRET)]));
  await first.copy(path, hostile);
  await second.copy(path, hostile);

  for (const client of [first, second]) {
    const { url } = await client.narInfo(path);
    expect(url).not.toBe(hostile.url);
    expect((await client.get(hostile.url)).body.equals(hostile.bytes)).toBe(true);
  }
});

test("a tenant's own acceptable encoding is served to nobody who did not send the same bytes", async () => {
  const { server, path } = await startTwoTenants();
  await using _ = server;
  const [first, second] = [
    await openNixClient(server, "main"),
    await openNixClient(server, "team+main"),
  ];
  const file = nixFile("zstd", zstdFrame(path.nar));
  await first.copy(path, file);
  expect((await first.narInfo(path)).url).toBe(file.url);

  await second.copy(path, compressNar(path.nar, "gzip"));

  expect((await second.narInfo(path)).url).not.toBe(file.url);
  expect((await second.get(file.url)).status).toBe(404);
});

test.each([
  ["a window of 2 GiB", (nar: Buffer) => zstdFrame(nar, { windowLog: 31 }), 413],
  ["a window of 256 MiB", (nar: Buffer) => zstdFrame(nar, { windowLog: 28 }), 413],
  [
    "a window of 2 GiB in the second frame",
    (nar: Buffer) =>
      Buffer.concat([
        zstdFrame(nar.subarray(0, 90_000)),
        zstdFrame(nar.subarray(90_000), { windowLog: 31 }),
      ]),
    413,
  ],
  ["a dictionary", (nar: Buffer) => zstdFrame(nar, { dictionaryId: 7 }), 415],
] as const)("%s is refused for good, and nothing is left", async (_name, encode, status) => {
  const { server, path } = await startTwoTenants();
  await using _ = server;
  const client = await openNixClient(server, "main");
  const hostile = nixFile("zstd", encode(path.nar));
  const before = process.memoryUsage().rss;

  const put = await client.put(hostile.url, hostile.bytes);

  expect(put.status).toBe(status);
  expect((await client.head(hostile.url)).status).toBe(404);
  await expect.poll(() => listStoreFiles(server)).toEqual([]);
  expect(process.memoryUsage().rss - before).toBeLessThan(200 * 2 ** 20);
});
