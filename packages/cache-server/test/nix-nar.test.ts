import { createHash } from "node:crypto";
import { zstdDecompressSync } from "node:zlib";

import fc from "fast-check";
import { beforeAll, describe, expect, onTestFinished, test } from "vitest";

import { compressNar, type NixClient, nixFile, openNixClient } from "./nix-client.ts";
import { createTestPath, type TestPath } from "./test-path.ts";
import { startTestServer, type TestServer } from "./test-server.ts";

/** Bytes that no compressor makes smaller. */
function noise(sizeBytes: number): Buffer {
  const blocks = Array.from({ length: Math.ceil(sizeBytes / 64) }, (_, index) =>
    createHash("sha512").update(`block ${index}`).digest(),
  );
  return Buffer.concat(blocks).subarray(0, sizeBytes);
}

async function openFilledView(): Promise<{
  readonly server: TestServer;
  readonly client: NixClient;
  readonly path: TestPath;
  readonly url: string;
  readonly bytes: Buffer;
}> {
  const server = await startTestServer();
  onTestFinished(() => server[Symbol.asyncDispose]());
  await server.createView("main");
  const client = await openNixClient(server, "main");
  const path = await createTestPath("noise", noise(300_000));
  await client.copy(path, compressNar(path.nar, "none"));
  const { url } = await client.narInfo(path);
  const { body: bytes } = await client.get(url);
  return { server, client, path, url, bytes };
}

test("a NAR has its length, takes ranges, and is not content-encoded whatever the client accepts", async () => {
  const { client, path, url, bytes } = await openFilledView();

  for (const encodings of [
    undefined,
    "zstd, br, gzip, deflate, bzip2, xz",
    "deflate, gzip, br, zstd",
    "identity;q=0, *",
  ]) {
    const answer = await client.get(
      url,
      encodings === undefined ? {} : { "accept-encoding": encodings },
    );
    expect(answer.status).toBe(200);
    expect(answer.headers).toMatchObject({
      "content-type": "application/x-nix-nar",
      "content-length": String(bytes.length),
      "accept-ranges": "bytes",
    });
    expect(answer.headers["content-encoding"]).toBeUndefined();
    expect(answer.headers["transfer-encoding"]).toBeUndefined();
    expect(answer.body.equals(bytes)).toBe(true);
  }
  expect(zstdDecompressSync(bytes).equals(path.nar)).toBe(true);
});

test("both names of a NAR give the same bytes", async () => {
  const { client, path, bytes } = await openFilledView();

  const byPath = await client.get(`nar/${path.storePathHash}.nar`);

  expect(byPath.status).toBe(200);
  expect(byPath.body.equals(bytes)).toBe(true);
  // Another NAR may come under the path's name when the path is deleted and built again.
  expect(byPath.headers["cache-control"]).not.toContain("immutable");
});

test("a file's name must carry its own extension", async () => {
  const { client, url } = await openFilledView();

  for (const name of [
    url.replace(".zst", ".xz"),
    url.replace(".zst", ""),
    `${url}.zst`,
    url.replace("nar/", "nar//"),
  ]) {
    expect([name, (await client.head(name)).status]).toEqual([name, 404]);
  }
  expect((await client.get(`${url}?anything=ignored`)).status).toBe(200);
});

describe("ranges", () => {
  let filled: Awaited<ReturnType<typeof openFilledView>>;
  beforeAll(async () => {
    const server = await startTestServer();
    await server.createView("main");
    const client = await openNixClient(server, "main");
    const path = await createTestPath("noise", noise(300_000));
    await client.copy(path, compressNar(path.nar, "none"));
    const { url } = await client.narInfo(path);
    filled = { server, client, path, url, bytes: (await client.get(url)).body };
    return () => server[Symbol.asyncDispose]();
  });

  test("any range inside answers 206 with its place and its bytes", async () => {
    const { client, url, bytes } = filled;
    const size = bytes.length;
    await fc.assert(
      fc.asyncProperty(
        fc.nat({ max: size - 1 }),
        fc.option(fc.nat({ max: 2 * size })),
        async (start, length) => {
          const last = length === null ? undefined : start + length;
          const answer = await client.get(url, {
            range: `bytes=${start}-${last ?? ""}`,
            "accept-encoding": "zstd, br, gzip",
          });
          const end = Math.min(last === undefined ? size : last + 1, size);
          expect(answer.status).toBe(206);
          expect(answer.headers["content-range"]).toBe(`bytes ${start}-${end - 1}/${size}`);
          expect(answer.headers["content-length"]).toBe(String(end - start));
          expect(answer.headers["content-encoding"]).toBeUndefined();
          expect(answer.body.equals(bytes.subarray(start, end))).toBe(true);
        },
      ),
      { numRuns: 60 },
    );
  });

  test("a suffix range answers the last bytes", async () => {
    const { client, url, bytes } = filled;
    for (const count of [1, 17, bytes.length - 1, bytes.length, bytes.length + 1, 10 ** 15]) {
      const answer = await client.get(url, { range: `bytes=-${count}` });
      expect(answer.status).toBe(206);
      expect(answer.body.equals(bytes.subarray(-count))).toBe(true);
    }
  });

  test("a range outside answers 416 with the size", async () => {
    const { client, url, bytes } = filled;
    for (const range of [
      `bytes=${bytes.length}-`,
      `bytes=${bytes.length + 5}-${bytes.length + 9}`,
      "bytes=-0",
    ]) {
      const answer = await client.get(url, { range });
      expect([range, answer.status]).toEqual([range, 416]);
      expect(answer.headers["content-range"]).toBe(`bytes */${bytes.length}`);
    }
  });

  test("what is no single byte range is ignored", async () => {
    const { client, url, bytes } = filled;
    for (const range of [
      "bytes=0-1,5-6",
      "lines=1-2",
      "bytes=5-2",
      "bytes=a-b",
      "bytes=-",
      "0-5",
    ]) {
      const answer = await client.get(url, { range });
      expect([range, answer.status, answer.body.length]).toEqual([range, 200, bytes.length]);
    }
  });

  test("If-Range with another tag answers the whole, with the same tag the range", async () => {
    const { client, url, bytes } = filled;
    const etag = (await client.head(url)).headers.etag ?? "";
    const range = "bytes=100-199";

    expect((await client.get(url, { range, "if-range": etag })).status).toBe(206);
    for (const condition of ['"other"', `W/${etag}`, "Wed, 21 Oct 2065 07:28:00 GMT"]) {
      const answer = await client.get(url, { range, "if-range": condition });
      expect([condition, answer.status, answer.body.length]).toEqual([
        condition,
        200,
        bytes.length,
      ]);
    }
  });

  test("a download in pieces is the whole, byte for byte", async () => {
    const { client, url, bytes } = filled;
    const pieces: Buffer[] = [];
    for (let offset = 0; offset < bytes.length; offset += 50_000) {
      const { body } = await client.get(url, { range: `bytes=${offset}-${offset + 49_999}` });
      pieces.push(body);
    }
    expect(Buffer.concat(pieces).equals(bytes)).toBe(true);
  });
});

test("an uploaded file is ranged and whole under its own name, too", async () => {
  await using server = await startTestServer();
  await server.createView("main");
  const client = await openNixClient(server, "main");
  const path = await createTestPath("own-name", noise(50_000));
  const file = compressNar(path.nar, "br");
  await client.copy(path, file);

  expect((await client.get(file.url)).body.equals(file.bytes)).toBe(true);
  const part = await client.get(file.url, { range: "bytes=1000-" });
  expect(part.status).toBe(206);
  expect(part.body.equals(file.bytes.subarray(1000))).toBe(true);
});

test("a NAR's bytes do not change when it comes again in other encodings", async () => {
  const { client, path, url, bytes } = await openFilledView();
  const before = await client.get(`${path.storePathHash}.narinfo`);

  for (const compression of ["zstd", "gzip", "br", "none"] as const) {
    await client.copy(path, compressNar(path.nar, compression));
  }

  expect((await client.get(`${path.storePathHash}.narinfo`)).text).toBe(before.text);
  expect((await client.get(url)).body.equals(bytes)).toBe(true);
});

test("a NAR whose object is damaged or gone in the store is a miss, and a new upload heals it", async () => {
  const { server, client, path, url } = await openFilledView();
  await server.store.delete(`nar/${nixFile("zstd", (await client.get(url)).body).fileHash}`);

  expect((await client.head(url)).status).toBe(404);
  expect((await client.get(url)).status).toBe(404);

  await client.copy(path, compressNar(path.nar, "gzip"));
  const healed = await client.get((await client.narInfo(path)).url);
  expect(zstdDecompressSync(healed.body).equals(path.nar)).toBe(true);
});
