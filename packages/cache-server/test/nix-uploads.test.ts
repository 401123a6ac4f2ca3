import { readFileSync } from "node:fs";
import { request as httpRequest } from "node:http";

import { sha256HexToNix32 } from "@glorious/nix-store";
import { describe, expect, test } from "vitest";

import {
  compressNar,
  expectNothingStored,
  listStoreFiles,
  narInfoOf,
  type NixClient,
  type NixFile,
  nixFile,
  openNixClient,
} from "./nix-client.ts";
import { createTestPath, type TestPath } from "./test-path.ts";
import { startTestServer, type TestServer } from "./test-server.ts";

/** What the path of the xz fixtures holds. */
const XZ_CONTENTS = Array.from({ length: 300 }, (_, line) => `line ${line} of a file\n`).join("");

function readXz(name: string): NixFile {
  return nixFile("xz", readFileSync(new URL(`fixtures/${name}.xz`, import.meta.url)));
}

/** One path in every compression that is taken. */
async function compressAll(): Promise<{ path: TestPath; files: NixFile[] }> {
  const path = await createTestPath("xz", XZ_CONTENTS);
  const compress = (["none", "gzip", "br", "zstd"] as const).map((it) => compressNar(path.nar, it));
  return { path, files: [...compress, readXz("plain")] };
}

async function expectNothingKnown(
  server: TestServer,
  client: NixClient,
  file: NixFile,
): Promise<void> {
  expect((await client.head(file.url)).status).toBe(404);
  const view = await server.index.findView("main");
  const { nars, uploads } = await server.index.viewStats(view?.id ?? 0);
  expect({ nars, uploads }).toEqual({ nars: 0, uploads: 0 });
  await expectNothingStored(server);
}

test("a NAR comes in every compression, is served from one zstd object, and each file as it came", async () => {
  await using server = await startTestServer();
  await server.createView("main");
  const client = await openNixClient(server, "main");
  const { path, files } = await compressAll();
  const urls = new Set<string>();

  for (const file of files) {
    await client.copy(path, file);
    urls.add((await client.narInfo(path)).url);
    const own = await client.get(file.url);
    expect([file.compression, own.status]).toEqual([file.compression, 200]);
    expect(own.body.equals(file.bytes)).toBe(true);
  }

  expect(urls.size).toBe(1);
  const view = await server.index.findView("main");
  expect(await server.index.viewStats(view?.id ?? 0)).toMatchObject({ paths: 1, nars: 1 });
});

test("gzip and no compression share a name's form and are told apart by their bytes", async () => {
  await using server = await startTestServer();
  await server.createView("main");
  const client = await openNixClient(server, "main");
  const path = await createTestPath("told-apart");
  for (const compression of ["none", "gzip"] as const) {
    const file = compressNar(path.nar, compression);
    expect(file.url.endsWith(".nar")).toBe(true);
    await client.copy(path, file);
    const wrong = { ...file, compression: compression === "none" ? "gzip" : "none" };
    const narInfo = await client.put(`${path.storePathHash}.narinfo`, narInfoOf(path, wrong));
    expect([narInfo.status, narInfo.json()["error"]]).toEqual([422, "CORRUPT"]);
  }
});

test("streams behind one another are one NAR, where Nix reads them so", async () => {
  const path = await createTestPath("xz", XZ_CONTENTS);
  const half = path.nar.length >> 1;
  const [start, end] = [path.nar.subarray(0, half), path.nar.subarray(half)];
  const join = (compression: "gzip" | "zstd" | "br"): NixFile =>
    nixFile(
      compression,
      Buffer.concat([start, end].map((part) => compressNar(part, compression).bytes)),
    );
  for (const file of [join("gzip"), join("zstd"), readXz("two-streams"), readXz("blocks")]) {
    await using server = await startTestServer();
    await server.createView("main");
    const client = await openNixClient(server, "main");
    await client.copy(path, file);
    expect((await client.narInfo(path)).narSize).toBe(path.nar.length);
  }
  await using server = await startTestServer();
  await server.createView("main");
  const client = await openNixClient(server, "main");
  // Nix cannot read such a brotli file, so nobody may rely on it.
  const put = await client.put(join("br").url, join("br").bytes);
  expect(put.status).toBe(422);
  await expectNothingKnown(server, client, join("br"));
});

describe("damage", () => {
  const damages: [string, (bytes: Buffer) => Buffer, number[]][] = [
    ["cut in half", (bytes) => bytes.subarray(0, bytes.length >> 1), [400]],
    ["without its last byte", (bytes) => bytes.subarray(0, -1), [400]],
    ["empty", () => Buffer.alloc(0), [400, 415]],
    [
      "with garbage behind it",
      (bytes) => Buffer.concat([bytes, Buffer.from("garbage")]),
      [400, 422],
    ],
    ["with zeros behind it", (bytes) => Buffer.concat([bytes, Buffer.alloc(13)]), [400, 422]],
    [
      "with a wrong start",
      (bytes) => Buffer.concat([Buffer.from("?"), bytes.subarray(1)]),
      [415, 422],
    ],
    ["that is something else", () => Buffer.from("<html>login please</html>"), [415, 422]],
  ];

  test.each(damages)(
    "a file %s is refused for good under the hash of its own bytes, and nothing is left",
    async (_name, damage, statuses) => {
      await using server = await startTestServer();
      await server.createView("main");
      const client = await openNixClient(server, "main");
      const { files } = await compressAll();
      for (const file of files) {
        // Without compression there is no telling a cut NAR from a whole one before its narinfo comes.
        if (file.compression === "none" && !statuses.includes(415)) continue;
        const damaged = nixFile(file.compression, damage(file.bytes));
        const put = await client.put(damaged.url, damaged.bytes);
        expect([file.compression, statuses.includes(put.status), put.text]).toEqual([
          file.compression,
          true,
          put.text,
        ]);
        expect(put.json()["message"]).toEqual(expect.any(String));
        await expectNothingKnown(server, client, damaged);
      }
    },
  );

  test("a file with one byte changed is refused under its old name, and nothing is left", async () => {
    await using server = await startTestServer();
    await server.createView("main");
    const client = await openNixClient(server, "main");
    const { files } = await compressAll();
    for (const file of files) {
      for (const at of [10, file.bytes.length >> 1, file.bytes.length - 1]) {
        const bytes = Buffer.from(file.bytes);
        bytes[at] = (bytes[at] ?? 0) ^ 0x40;
        const put = await client.put(file.url, bytes);
        expect([file.compression, at, Math.floor(put.status / 100)]).toEqual([
          file.compression,
          at,
          4,
        ]);
        await expectNothingKnown(server, client, file);
      }
    }
  });

  test("a checked format with one byte changed is refused under its new name, too", async () => {
    await using server = await startTestServer();
    await server.createView("main");
    const client = await openNixClient(server, "main");
    const { files } = await compressAll();
    for (const file of files.filter((it) => ["gzip", "xz"].includes(it.compression))) {
      const bytes = Buffer.from(file.bytes);
      const at = bytes.length - 20;
      bytes[at] = (bytes[at] ?? 0) ^ 0x40;
      const damaged = nixFile(file.compression, bytes);
      const put = await client.put(damaged.url, bytes);
      expect([file.compression, put.status]).toEqual([file.compression, 422]);
      await expectNothingKnown(server, client, damaged);
    }
  });

  test("a changed NAR in an unchecked format never becomes visible: its narinfo is refused", async () => {
    await using server = await startTestServer();
    await server.createView("main");
    const client = await openNixClient(server, "main");
    const path = await createTestPath("unchecked", "contents");
    const changed = Buffer.from(path.nar);
    changed[100] = (changed[100] ?? 0) ^ 1;
    const file = compressNar(changed, "none");
    expect((await client.put(file.url, file.bytes)).status).toBe(200);

    const put = await client.put(`${path.storePathHash}.narinfo`, narInfoOf(path, file));

    expect([put.status, put.json()["error"]]).toEqual([422, "CORRUPT"]);
    expect((await client.get(`${path.storePathHash}.narinfo`)).status).toBe(404);
    expect((await client.get(`nar/${path.storePathHash}.nar`)).status).toBe(404);
  });

  test("a sound file under another hash is refused, and nothing is left", async () => {
    await using server = await startTestServer();
    await server.createView("main");
    const client = await openNixClient(server, "main");
    const { files } = await compressAll();
    for (const file of files) {
      const url = file.url.replace(/nar\/\w+/, `nar/${sha256HexToNix32("ab".repeat(32))}`);
      const put = await client.put(url, file.bytes);
      expect([file.compression, put.status, put.json()["error"]]).toEqual([
        file.compression,
        422,
        "CORRUPT",
      ]);
      await expectNothingKnown(server, client, { ...file, url });
    }
  });

  test("an upload whose connection breaks leaves nothing, and the repeated one is taken", async () => {
    await using server = await startTestServer();
    await server.createView("main");
    const client = await openNixClient(server, "main");
    const { path, files } = await compressAll();
    for (const file of files) {
      await breakUpload(server, file);
      await expectNothingKnown(server, client, file);
    }
    for (const file of files) await client.copy(path, file);
    expect((await client.narInfo(path)).storePath).toBe(path.storePath);
  });
});

/** Announces the whole file, sends half of it, waits until the server writes it down, and hangs up. */
async function breakUpload(server: TestServer, file: NixFile): Promise<void> {
  const token = await server.token({ main: ["push"] });
  const { hostname, port } = new URL(server.url);
  const request = httpRequest({
    hostname,
    port,
    method: "PUT",
    path: `/main/${file.url}`,
    agent: false,
    headers: { authorization: `Bearer ${token}`, "content-length": file.bytes.length },
  });
  const closed = new Promise((resolve) => request.once("close", resolve));
  request.on("error", () => {});
  request.write(file.bytes.subarray(0, file.bytes.length >> 1));
  await expect.poll(() => listStoreFiles(server)).not.toEqual([]);
  request.destroy();
  await closed;
}

describe("formats that are not taken", () => {
  test.each(["bz2", "lz4", "lzip", "lz", "lzma", "lzo", "Z", "grz", "lrz", "7z"])(
    "an upload with the extension %s is refused for good, naming zstd, and asking for one is a miss",
    async (extension) => {
      await using server = await startTestServer();
      await server.createView("main");
      const client = await openNixClient(server, "main");
      const file = nixFile(extension.toLowerCase(), Buffer.from("BZh91AY&SY and so on"));
      const isKnownForm = extension === extension.toLowerCase();
      const url = isKnownForm ? file.url : file.url.replace(/\.z$/, ".Z");

      expect((await client.head(url)).status).toBe(404);
      const put = await client.put(url, file.bytes);

      expect(put.status).toBe(isKnownForm ? 415 : 404);
      if (isKnownForm) {
        expect(put.json()).toMatchObject({
          error: "UNSUPPORTED",
          hint: expect.stringContaining("?compression=zstd"),
        });
      }
      await expectNothingStored(server);
    },
  );

  test("Nix gives rarer formats no extension; they are known by their bytes and refused alike", async () => {
    await using server = await startTestServer();
    await server.createView("main");
    const client = await openNixClient(server, "main");
    for (const bytes of ["LRZI\0\x06", "\x89LZO\0\r\n\x1a\n", "\x1f\x9d\x90", "]\0\0\x80\0"]) {
      const file = nixFile("none", Buffer.concat([Buffer.from(bytes, "latin1"), Buffer.alloc(99)]));
      const put = await client.put(file.url, file.bytes);
      expect([put.status, put.json()["hint"]]).toEqual([
        415,
        expect.stringContaining("?compression=zstd"),
      ]);
      await expectNothingStored(server);
    }
  });

  test.each(["sha256", "huge-dictionary"])(
    "xz with %s is refused as a format, not as damage, and nothing is left",
    async (name) => {
      await using server = await startTestServer();
      await server.createView("main");
      const client = await openNixClient(server, "main");
      const file = readXz(name);

      const put = await client.put(file.url, file.bytes);

      expect(put.status).toBe(415);
      expect(put.json()).toMatchObject({
        error: "UNSUPPORTED",
        hint: expect.stringContaining("?compression=zstd"),
      });
      await expectNothingStored(server);
    },
  );

  test("a narinfo that names such a compression, or none at all, is refused", async () => {
    await using server = await startTestServer();
    await server.createView("main");
    const client = await openNixClient(server, "main");
    const path = await createTestPath("old");
    const file = compressNar(path.nar, "zstd");
    await client.put(file.url, file.bytes);
    const name = `${path.storePathHash}.narinfo`;

    for (const compression of ["bzip2", "lz4", "lzip"]) {
      const put = await client.put(name, narInfoOf(path, { ...file, compression }));
      expect([put.status, put.json()["hint"]]).toEqual([
        415,
        expect.stringContaining("?compression=zstd"),
      ]);
    }
    // Without the line Nix means bzip2.
    const text = narInfoOf(path, file).replace("Compression: zstd\n", "");
    expect((await client.put(name, text)).status).toBe(415);
    expect((await client.get(name)).status).toBe(404);
  });
});

describe("a narinfo is refused, and nothing becomes visible,", () => {
  const name = (path: TestPath): string => `${path.storePathHash}.narinfo`;
  const edit =
    (from: string | RegExp, to: string) =>
    (text: string): string => {
      const edited = text.replace(from, to);
      if (edited === text) throw new Error(`${String(from)} is not in ${text}`);
      return edited;
    };
  const otherHash = sha256HexToNix32("12".repeat(32));

  const cases: [string, number, (text: string) => string][] = [
    ["with another NarHash", 422, edit(/NarHash: .*/, `NarHash: sha256:${otherHash}`)],
    ["with another NarSize", 422, edit(/NarSize: (\d+)/, "NarSize: 1$1")],
    ["with NarSize 0", 422, edit(/NarSize: .*/, "NarSize: 0")],
    ["with a negative NarSize", 422, edit(/NarSize: .*/, "NarSize: -5")],
    ["with a fractional NarSize", 422, edit(/NarSize: .*/, "NarSize: 1.5")],
    ["with another compression", 422, edit("Compression: zstd", "Compression: xz")],
    ["with a NAR that is not there", 400, edit(/URL: nar\/\w+/, `URL: nar/${otherHash}`)],
    ["with another extension", 422, edit(/URL: (.*)\.zst/, "URL: $1.xz")],
    ["with a URL that climbs", 400, edit(/URL: .*/, "URL: nar/../../../etc/passwd")],
    ["with a URL that climbs in code", 400, edit(/URL: nar\//, "URL: nar/%2e%2e/nar/")],
    ["with a URL elsewhere in the view", 400, edit(/URL: nar\//, "URL: log/")],
    ["with an absolute path as URL", 400, edit(/URL: nar\//, "URL: /nar/")],
    ["with an absolute URL", 400, edit(/URL: /, "URL: http://evil.example/")],
    ["with a file URL", 400, edit(/URL: .*/, "URL: file:///etc/passwd")],
    ["with the path's name as URL", 400, edit(/URL: .*/, `URL: nar/${"0".repeat(32)}.nar`)],
    ["without URL", 422, edit(/URL: .*\n/, "")],
    ["without NarHash", 422, edit(/NarHash: .*\n/, "")],
    ["without StorePath", 422, edit(/StorePath: .*\n/, "")],
    [
      "with a StorePath of another hash",
      422,
      edit(/StorePath: \/nix\/store\/\w{32}/, `StorePath: /nix/store/${"0".repeat(32)}`),
    ],
    ["of another store", 400, edit("/nix/store/", "/gnu/store/")],
    ["with a relative StorePath", 422, edit("/nix/store/", "")],
    ["with a StorePath that climbs", 422, edit(/(StorePath: .*)/, "$1/../../x")],
    ["with a reference that climbs", 422, edit("References: ", "References: ../../etc")],
    [
      "with a reference by full path",
      422,
      edit("References: ", `References: /nix/store/${"0".repeat(32)}-x`),
    ],
    ["with CRLF", 422, (text) => text.replaceAll("\n", "\r\n")],
    ["without its last newline", 422, (text) => text.slice(0, -1)],
    ["with `References:` and no space", 422, edit("References: ", "References:")],
    ["with two spaces", 422, edit("StorePath: ", "StorePath:  ")],
    ["with a NUL", 422, edit("References: ", "References: \0")],
    ["with StorePath twice", 422, (text) => `${text}${text.split("\n")[0]}\n`],
    ["with References twice", 422, (text) => `${text}References: \n`],
    [
      "with CA twice",
      422,
      (text) => `${text}CA: text:sha256:${otherHash}\nCA: text:sha256:${otherHash}\n`,
    ],
    ["with a CA that is none", 422, (text) => `${text}CA: trust me\n`],
    ["with a deriver that is no path", 422, (text) => `${text}Deriver: ../x.drv\n`],
    ["when it is no narinfo", 422, () => "<html>login please</html>\n"],
    ["when it is empty", 422, () => ""],
    ["when it is over the limit", 413, (text) => `${text}X: ${"x".repeat(2 ** 20)}\n`],
    ["when it is not UTF-8", 422, edit("-refused", "-refus\ufffd")],
  ];

  test.each(cases)("%s: %i", async (_title, status, change) => {
    await using server = await startTestServer();
    await server.createView("main");
    const client = await openNixClient(server, "main");
    const path = await createTestPath("refused");
    const file = compressNar(path.nar, "zstd");
    await client.put(file.url, file.bytes);

    const put = await client.put(name(path), change(narInfoOf(path, file)));

    expect([put.status, put.json()["code"]]).toEqual([status, status]);
    expect(put.json()["message"]).toEqual(expect.stringMatching(/./));
    expect((await client.get(name(path))).status).toBe(404);
    const view = await server.index.findView("main");
    expect(await server.index.listPaths(view?.id ?? 0, { limit: 10 })).toEqual([]);
    // The NAR waits for a right one.
    expect((await client.put(name(path), narInfoOf(path, file))).status).toBe(200);
  });

  test("before its NAR: 400", async () => {
    await using server = await startTestServer();
    await server.createView("main");
    const client = await openNixClient(server, "main");
    const path = await createTestPath("early");
    const put = await client.put(name(path), narInfoOf(path, compressNar(path.nar, "zstd")));
    expect([put.status, put.json()["error"]]).toEqual([400, "INVALID"]);
    expect((await client.get(name(path))).status).toBe(404);
  });

  test("when only another view has its NAR: 400", async () => {
    await using server = await startTestServer();
    await server.createView("main");
    await server.createView("team+main");
    const [owner, other] = [
      await openNixClient(server, "main"),
      await openNixClient(server, "team+main"),
    ];
    const path = await createTestPath("theirs");
    const file = compressNar(path.nar, "zstd");
    await owner.copy(path, file);
    const { url } = await owner.narInfo(path);

    for (const wanted of [file, { ...file, url }]) {
      expect((await other.put(name(path), narInfoOf(path, wanted))).status).toBe(400);
      expect((await other.head(wanted.url)).status).toBe(404);
    }
  });

  test("when the path is there with another NAR: 409, logged and counted", async () => {
    await using server = await startTestServer();
    await server.createView("main");
    const client = await openNixClient(server, "main");
    const [first, second] = [
      await createTestPath("twice", "one"),
      await createTestPath("twice", "two"),
    ];
    await client.copy(first, compressNar(first.nar, "zstd"));
    const before = (await client.get(name(first))).text;
    const file = compressNar(second.nar, "zstd");
    expect((await client.put(file.url, file.bytes)).status).toBe(200);

    const put = await client.put(name(second), narInfoOf(second, file));

    expect([put.status, put.json()["error"]]).toEqual([409, "CONFLICT"]);
    expect((await client.get(name(first))).text).toBe(before);
    const view = await server.index.findView("main");
    expect((await server.index.viewStats(view?.id ?? 0)).conflicts).toBe(1);
    const warning = server.logs.find((line) => line.level === "warn");
    expect(Object.values(warning?.fields ?? {})).toEqual(
      expect.arrayContaining([first.narHash, second.narHash]),
    );
  });
});

test("unknown fields of a narinfo and FileHash and FileSize that are wrong do no harm", async () => {
  await using server = await startTestServer();
  await server.createView("main");
  const client = await openNixClient(server, "main");
  const path = await createTestPath("newer");
  const file = compressNar(path.nar, "zstd");
  await client.put(file.url, file.bytes);
  const text = narInfoOf(path, file)
    .replace(/FileHash: .*/, `FileHash: sha256:${sha256HexToNix32("12".repeat(32))}`)
    .replace(/FileSize: .*/, "FileSize: 1");

  const put = await client.put(`${path.storePathHash}.narinfo`, `${text}Future: yes\n`);

  expect(put.status).toBe(200);
  const info = await client.narInfo(path);
  expect(info.fileSize).toBe((await client.get(info.url)).body.length);
});

test("no PUT is taken without a token that may push, whatever is there", async () => {
  await using server = await startTestServer();
  await server.createView("main", { isPublic: true });
  await server.createView("secret");
  const path = await createTestPath("guarded");
  const file = compressNar(path.nar, "zstd");
  const puller = await server.token({ main: ["pull"], secret: ["pull"] });
  const expired = await server.token({ main: ["push"] }, { expiresAtMs: Date.now() - 3_600_000 });
  const elsewhere = await server.token({ other: ["pull", "push"] });
  const puts: [string, string | Buffer][] = [
    ["nix-cache-info", "StoreDir: /nix/store\n"],
    [file.url, file.bytes],
    [`${path.storePathHash}.narinfo`, narInfoOf(path, file)],
    [`${path.storePathHash}.ls`, "{}"],
    [`log/${path.baseName}.drv`, "log"],
    [`debuginfo/${"ab".repeat(20)}`, "{}"],
  ];

  for (const view of ["main", "secret", "absent"]) {
    for (const [name, body] of puts) {
      for (const [token, status] of [
        [undefined, 401],
        ["nonsense", 401],
        [expired, 401],
        [elsewhere, 401],
        [puller, view === "absent" ? 401 : 403],
      ] as const) {
        const put = await server.send("PUT", `/${view}/${name}`, {
          body,
          ...(token === undefined ? {} : { token }),
        });
        expect([view, name, put.status]).toEqual([view, name, status]);
      }
    }
  }
  await expectNothingStored(server);
});

test("a refused upload that waits for 100-continue is never asked to send", async () => {
  await using server = await startTestServer();
  await server.createView("main");
  const token = await server.token({ main: ["push"] });
  const file = compressNar((await createTestPath("waiting")).nar, "zstd");
  const cases: [string, string | undefined, string, number][] = [
    ["no token", undefined, `/main/${file.url}`, 401],
    ["an unknown view", undefined, `/absent/${file.url}`, 401],
    ["a format that is not taken", token, `/main/${file.url.replace("zst", "bz2")}`, 415],
    ["no file name", token, "/main/nar/x.nar", 404],
    ["nothing there", token, "/main/nowhere/at/all", 404],
  ];
  for (const [title, bearer, path, status] of cases) {
    const outcome = await putExpecting(server, path, bearer, file.bytes);
    expect([title, outcome.status, outcome.wasAsked]).toEqual([title, status, false]);
  }
  expect(await putExpecting(server, `/main/${file.url}`, token, file.bytes)).toEqual({
    status: 200,
    wasAsked: true,
  });
});

/** Sends the body only when asked for it, as curl does. */
function putExpecting(
  server: TestServer,
  path: string,
  token: string | undefined,
  body: Buffer,
): Promise<{ readonly status: number | undefined; readonly wasAsked: boolean }> {
  const { hostname, port } = new URL(server.url);
  return new Promise((resolve, reject) => {
    let wasAsked = false;
    const request = httpRequest({
      hostname,
      port,
      method: "PUT",
      path,
      agent: false,
      headers: {
        expect: "100-continue",
        "content-length": body.length,
        ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
      },
    });
    request.on("continue", () => {
      wasAsked = true;
      request.end(body);
    });
    request.on("response", (response) => {
      response.resume();
      response.on("end", () => {
        resolve({ status: response.statusCode, wasAsked });
        request.destroy();
      });
    });
    request.on("error", reject);
    request.flushHeaders();
  });
}

test("Nix before 2.29 never sees a status that makes it repeat a PUT", async () => {
  await using server = await startTestServer();
  await server.createView("main");
  const client = await openNixClient(server, "main");
  const path = await createTestPath("unlucky");
  const file = compressNar(path.nar, "zstd");
  await client.copy(path, file);
  // From here on every look into the index fails.
  await server.index[Symbol.asyncDispose]();
  const puts: [string, string | Buffer][] = [
    ["nix-cache-info", "StoreDir: /nix/store\n"],
    [file.url, file.bytes],
    [`${path.storePathHash}.narinfo`, narInfoOf(path, file)],
    [`${path.storePathHash}.ls`, "{}"],
    [`log/${path.baseName}.drv`, "log"],
  ];

  for (const [name, body] of puts) {
    for (const [agent, status] of [
      ["curl/7.88.1 Nix/2.8.0", 501],
      ["curl/8.14.1 Nix/2.26.3", 501],
      ["curl/8.14.1 Nix/2.28.5", 501],
      ["curl/8.16.0 Nix/2.29.0", 503],
      ["curl/8.16.0 Nix/2.34.8", 503],
      ["curl/8.16.0 Nix/3.0.0", 503],
    ] as const) {
      const put = await client.put(name, body, { "user-agent": agent });
      expect([name, agent, put.status]).toEqual([name, agent, status]);
    }
  }
  const get = await client.get(`${path.storePathHash}.narinfo`, {
    "user-agent": "curl/7 Nix/2.8.0",
  });
  expect(get.status).toBe(503);
});
