import { readdirSync, readFileSync } from "node:fs";
import { brotliCompressSync, gzipSync, zstdCompressSync } from "node:zlib";

import { parseNarInfo } from "@glorious/nix-store";
import { describe, expect, test } from "vitest";

import { compressNar, narInfoOf, nixFile, openNixClient } from "./nix-client.ts";
import { createTestPath } from "./test-path.ts";
import { startTestServer } from "./test-server.ts";

const FIXTURES = new URL("../../nix-store/fixtures/", import.meta.url);

describe.each(readdirSync(FIXTURES).filter((name) => name.startsWith("nix-")))(
  "files of %s",
  (version) => {
    const folder = new URL(`${version}/cache/`, FIXTURES);
    const names = readdirSync(folder);

    test("every path is taken as Nix wrote it, and its listing is byte for byte Nix's own", async () => {
      await using server = await startTestServer();
      await server.createView("main");
      const client = await openNixClient(server, "main");
      const narInfos = names.filter((name) => name.endsWith(".narinfo"));
      expect(narInfos.length).toBeGreaterThan(5);

      for (const name of narInfos) {
        const text = readFileSync(new URL(name, folder), "utf8");
        const info = parseNarInfo(text);
        expect((await client.put(info.url, readFileSync(new URL(info.url, folder)))).status).toBe(
          200,
        );
        const put = await client.put(name, text);
        expect([name, put.status, put.text]).toEqual([name, 200, ""]);

        const served = parseNarInfo((await client.get(name)).text);
        expect([served.storePath, served.narSize, served.ca]).toEqual([
          info.storePath,
          info.narSize,
          info.ca,
        ]);
        expect(served.references).toEqual(info.references);
        expect(served.signatures).toEqual(expect.arrayContaining([...info.signatures]));
        const listing = name.replace(".narinfo", ".ls");
        const answer = await client.get(listing);
        expect(answer.headers["content-type"]).toBe("application/json");
        const own = readFileSync(new URL(listing, folder), "utf8");
        // Nix 2.8 wrote the same with its keys in another order.
        if (version === "nix-2.8.0") expect(answer.json()).toEqual(JSON.parse(own));
        else expect(answer.text).toBe(own);
      }
    });

    test("its realisations are kept as they are", async () => {
      await using server = await startTestServer();
      await server.createView("main");
      const client = await openNixClient(server, "main");
      const realisations = new URL("realisations/", folder);
      for (const name of readdirSync(realisations)) {
        const body = readFileSync(new URL(name, realisations), "utf8");
        const [, id = "", output = ""] = /^(\w+)-(\w+)\.doi$/.exec(name) ?? [];
        const path = `realisations/sha256:${id}!${output}.doi`;

        expect((await client.put(path, body)).status).toBe(200);

        // Nix writes `!` and `:` as they are or percent-encoded, depending on its version.
        for (const spelling of [
          path,
          path.replace("!", "%21"),
          path.replace(":", "%3A").replace("!", "%21"),
        ]) {
          const answer = await client.get(spelling);
          expect([spelling, answer.status, answer.text]).toEqual([spelling, 200, body]);
        }
      }
    });
  },
);

test("a listing that a client sends is checked and replaced by the true one", async () => {
  await using server = await startTestServer();
  await server.createView("main");
  const client = await openNixClient(server, "main");
  const path = await createTestPath("listed", "12345");
  const ls = `${path.storePathHash}.ls`;
  const lie = '{"root":{"narOffset":96,"size":99,"type":"regular"},"version":1}';

  expect((await client.put(ls, lie)).status).toBe(200);
  expect((await client.get(ls)).status).toBe(404);
  expect((await client.put(ls, "nonsense")).status).toBe(422);
  await client.copy(path, compressNar(path.nar, "zstd"));

  const { root } = (await client.get(ls)).json() as { root: unknown };
  expect(root).toEqual({ type: "regular", size: 5, narOffset: 96 });
});

test("a path that is deleted and pushed again with other bytes has the listing of the new ones", async () => {
  await using server = await startTestServer();
  await server.createView("main");
  const client = await openNixClient(server, "main");
  const old = await createTestPath("rebuilt", "old");
  await client.copy(old, compressNar(old.nar, "zstd"));
  expect((await client.get(`${old.storePathHash}.ls`)).text).toContain('"size":3');
  const token = await server.token({ main: ["delete"] });
  const url = `/_flywheel/v1/views/main/paths/${old.storePathHash}`;
  expect((await server.send("DELETE", url, { token })).status).toBe(204);
  expect((await client.get(`${old.storePathHash}.ls`)).status).toBe(404);

  const fresh = await createTestPath("rebuilt", "brand new");
  await client.copy(fresh, compressNar(fresh.nar, "zstd"));

  expect((await client.get(`${old.storePathHash}.ls`)).text).toContain('"size":9');
});

test("a NAR that is none has no listing, and is served all the same", async () => {
  await using server = await startTestServer();
  await server.createView("main");
  const client = await openNixClient(server, "main");
  const path = await createTestPath("odd");
  const odd = { ...path, nar: Buffer.from("not an archive"), narHash: "" };
  const file = compressNar(odd.nar, "zstd");
  const narHash = nixFile("none", odd.nar).fileHash;
  await client.copy({ ...odd, narHash }, file);

  expect((await client.get(`${path.storePathHash}.ls`)).status).toBe(404);
  expect((await client.get((await client.narInfo(path)).url)).status).toBe(200);
});

const DRV = "0c0ifmb9q5d0i6fkhbckzd90kx14v0ng-hello-2.10.drv";
const OUT = "0c0ifmb9q5d0i6fkhbckzd90kx14v0ng-hello-2.10";
const ID = `sha256:${"ab".repeat(32)}!out`;
const REALISATION = JSON.stringify({
  dependentRealisations: {},
  id: ID,
  outPath: OUT,
  signatures: [],
});
const TRACE = JSON.stringify({ outPath: OUT, signatures: [{ keyName: "k", sig: "AA==" }] });

/** The small files that are kept as they come: name, type, body, another body that would be valid, too. */
const DOCUMENTS = [
  [`log/${DRV}`, "text/plain; charset=utf-8", "building\n", "building again\n"],
  [`realisations/${ID}.doi`, "application/json", REALISATION, REALISATION.replace("2.10", "2.11")],
  [`build-trace-v2/${DRV}/out.doi`, "application/json", TRACE, TRACE.replace("2.10", "2.11")],
  [
    `debuginfo/${"ab".repeat(20)}`,
    "application/json",
    '{"archive":"../nar/x","member":"y"}',
    '{"archive":"z","member":""}',
  ],
  [
    `debuginfo/${"ab".repeat(20)}.debug`,
    "application/json",
    '{"archive":"../nar/x","member":"y"}',
    '{"archive":"z","member":""}',
  ],
] as const;

test.each(DOCUMENTS)(
  "%s: absent is 404, the first one stays, a second one is 200",
  async (name, type, body, other) => {
    await using server = await startTestServer();
    await server.createView("main");
    const client = await openNixClient(server, "main");
    expect((await client.get(name)).status).toBe(404);
    expect((await client.head(name)).status).toBe(404);

    const put = await client.put(name, body);

    expect([put.status, put.text]).toEqual([200, ""]);
    expect((await client.put(name, other)).status).toBe(200);
    const get = await client.get(name);
    expect([get.status, get.headers["content-type"], get.text]).toEqual([200, type, body]);
    const head = await client.head(name);
    expect([head.status, head.headers["content-length"]]).toEqual([200, String(body.length)]);
    expect((await client.get(name, { "if-none-match": get.headers.etag ?? "" })).status).toBe(304);
  },
);

test.each(DOCUMENTS)(
  "%s belongs to its view and needs its permissions",
  async (name, _type, body) => {
    await using server = await startTestServer();
    await server.createView("main");
    await server.createView("team+main", { isPublic: true });
    const [client, team] = [
      await openNixClient(server, "main"),
      await openNixClient(server, "team+main"),
    ];
    const anonymous = await openNixClient(server, "main", { isAnonymous: true });
    const guest = await openNixClient(server, "team+main", { isAnonymous: true });
    await client.put(name, body);

    expect((await team.get(name)).status).toBe(404);
    expect((await anonymous.get(name)).status).toBe(401);
    expect((await anonymous.put(name, body)).status).toBe(401);
    expect((await guest.put(name, body)).status).toBe(401);
    expect((await guest.get(name)).status).toBe(404);
  },
);

test.each([
  ["gzip", gzipSync],
  ["br", brotliCompressSync],
  ["zstd", zstdCompressSync],
] as const)(
  "small files may come with Content-Encoding %s and are kept plain",
  async (encoding, compress) => {
    await using server = await startTestServer();
    await server.createView("main");
    const client = await openNixClient(server, "main");
    const path = await createTestPath("encoded");
    const file = compressNar(path.nar, "zstd");
    await client.put(file.url, file.bytes);
    const headers = { "content-encoding": encoding };

    const bodies: [string, string][] = [
      ...DOCUMENTS.map(([name, , body]): [string, string] => [name, body]),
      [
        `${path.storePathHash}.ls`,
        '{"root":{"narOffset":96,"size":7,"type":"regular"},"version":1}',
      ],
      [`${path.storePathHash}.narinfo`, narInfoOf(path, file)],
      ["nix-cache-info", "StoreDir: /nix/store\n"],
    ];
    for (const [name, body] of bodies) {
      const put = await client.put(name, compress(body), headers);
      expect([name, put.status, put.text]).toEqual([name, 200, ""]);
    }

    for (const [name, , body] of DOCUMENTS) {
      const answer = await client.get(name);
      expect([answer.text, answer.headers["content-encoding"]]).toEqual([body, undefined]);
    }
    expect((await client.narInfo(path)).storePath).toBe(path.storePath);
  },
);

test("a Content-Encoding that is damaged, cut, unknown, or a bomb is refused", async () => {
  await using server = await startTestServer({
    maxNarInfoSizeBytes: "64 KiB",
    maxLogSizeBytes: "64 KiB",
  });
  await server.createView("main");
  const client = await openNixClient(server, "main");
  const log = `log/${DRV}`;
  const narInfo = `${"0".repeat(32)}.narinfo`;
  const bomb = Buffer.alloc(100 * 2 ** 20);

  const cases: [number, string, Buffer][] = [
    [415, "compress", Buffer.from("x")],
    [415, "gzip, br", Buffer.from("x")],
    [422, "gzip", Buffer.from("no gzip")],
    [422, "gzip", gzipSync("cut short").subarray(0, -3)],
    [422, "br", brotliCompressSync("cut short, cut short").subarray(0, -3)],
    [422, "zstd", zstdCompressSync(Buffer.from("cut short")).subarray(0, -3)],
    [413, "gzip", gzipSync(bomb)],
    [413, "br", brotliCompressSync(bomb)],
    [413, "zstd", zstdCompressSync(bomb)],
  ];
  for (const [status, encoding, body] of cases) {
    for (const name of [log, narInfo]) {
      const put = await client.put(name, body, { "content-encoding": encoding });
      expect([name, encoding, put.status]).toEqual([name, encoding, status]);
      expect((await client.get(name)).status).toBe(404);
    }
  }
});

test.each([
  [`realisations/${ID}.doi`, "nonsense", 422, "CORRUPT"],
  [`realisations/${ID}.doi`, REALISATION.replace("!out", "!dev"), 422, "CORRUPT"],
  [`realisations/${ID}.doi`, REALISATION.replace(OUT, "../x"), 422, "CORRUPT"],
  [`realisations/${ID}.doi`, "[]", 422, "CORRUPT"],
  ["realisations/foo.doi", REALISATION, 400, "INVALID"],
  [`realisations/${ID.replace("sha256", "md5")}.doi`, REALISATION, 400, "INVALID"],
  [`build-trace-v2/${DRV}/out.doi`, "{}", 422, "CORRUPT"],
  [`build-trace-v2/${DRV}/out.doi`, '{"outPath":"/etc/passwd"}', 422, "CORRUPT"],
  [`build-trace-v2/hello/out.doi`, TRACE, 400, "INVALID"],
  [`build-trace-v2/${OUT}/out.doi`, TRACE, 400, "INVALID"],
  [`debuginfo/${"ab".repeat(20)}`, "nonsense", 422, "CORRUPT"],
  [`debuginfo/${"ab".repeat(20)}`, "[1]", 422, "CORRUPT"],
])("PUT %s with %s is refused with %i", async (name, body, status, error) => {
  await using server = await startTestServer();
  await server.createView("main");
  const client = await openNixClient(server, "main");

  const put = await client.put(name, body);

  expect(put.status).toBe(status);
  expect(put.json()).toMatchObject({ code: status, error });
  expect((await client.get(name)).status).toBe(
    status === 400 ? (await client.head(name)).status : 404,
  );
});

test("a document over its limit is refused, declared or not, and is not kept", async () => {
  await using server = await startTestServer({ maxLogSizeBytes: "10 KiB" });
  await server.createView("main");
  const client = await openNixClient(server, "main");
  const token = await server.token({ main: ["pull", "push"] });
  const log = `log/${DRV}`;

  expect((await client.put(log, Buffer.alloc(10 * 1024 + 1, "x"))).status).toBe(413);
  async function* pieces(): AsyncGenerator<Uint8Array> {
    for (let index = 0; index < 11; index += 1) yield Buffer.alloc(1024, "x");
  }
  expect((await server.send("PUT", `/main/${log}`, { token, body: pieces() })).status).toBe(413);
  expect((await client.get(log)).status).toBe(404);
  expect((await client.put(log, Buffer.alloc(10 * 1024, "x"))).status).toBe(200);
});

test("nix-cache-info: the view's own store is taken, another is a conflict, and nothing changes", async () => {
  await using server = await startTestServer();
  await server.createView("main");
  const client = await openNixClient(server, "main");
  const before = (await client.get("nix-cache-info")).text;

  expect((await client.put("nix-cache-info", "StoreDir: /nix/store\n")).status).toBe(200);
  expect((await client.put("nix-cache-info", "StoreDir: /nix/store\nPriority: 1\n")).status).toBe(
    200,
  );
  const other = await client.put("nix-cache-info", "StoreDir: /gnu/store\n");
  expect([other.status, other.json()["error"]]).toEqual([409, "CONFLICT"]);
  expect((await client.get("nix-cache-info")).text).toBe(before);
});
