import {
  formatSecretKey,
  generateSecretKey,
  narInfoFingerprint,
  parseNarInfo,
  parsePublicKey,
  verifySignature,
} from "@glorious/nix-store";
import { CACHE_PERMISSIONS } from "@glorious/trust";
import { describe, expect, test } from "vitest";

import { atticNarInfo, createTestPath } from "./test-path.ts";
import { startTestServer, type TestServer } from "./test-server.ts";
import { inPieces, postJson, pushAttic } from "./uploads.ts";

const CREATE = {
  keypair: "Generate",
  is_public: false,
  store_dir: "/nix/store",
  priority: 41,
  upstream_cache_key_names: ["cache.nixos.org-1"],
};
const ALL = CACHE_PERMISSIONS;

async function isSignedBy(server: TestServer, token: string, hash: string): Promise<boolean> {
  const config = (await server.send("GET", "/_api/v1/cache-config/main", { token })).json();
  const info = parseNarInfo((await server.send("GET", `/main/${hash}.narinfo`, { token })).text);
  const key = parsePublicKey(String(config["public_key"]));
  const fingerprint = narInfoFingerprint(info);
  return info.signatures.some((signature) => verifySignature([key], fingerprint, signature));
}

describe("cache-config", () => {
  test("a cache is created, read by both addresses, configured and destroyed", async () => {
    await using server = await startTestServer();
    const token = await server.token({ main: ALL });

    const created = await postJson(server, token, "/_api/v1/cache-config/main", CREATE);
    expect([created.status, created.text]).toEqual([200, ""]);

    const config = await server.send("GET", "/_api/v1/cache-config/main", { token });
    expect(config.json()).toEqual({
      substituter_endpoint: `${server.url}/main`,
      api_endpoint: `${server.url}/`,
      public_key: expect.stringMatching(/^main-[0-9a-f]{8}:[A-Za-z0-9+/]{43}=$/),
      is_public: false,
      store_dir: "/nix/store",
      priority: 41,
      upstream_cache_key_names: ["cache.nixos.org-1"],
      retention_period: "Global",
      flywheel: expect.objectContaining({ version: 1, api: `${server.url}/_flywheel/v1/` }),
    });
    const other = await server.send("GET", "/main/attic-cache-info", { token });
    expect(other.json()).toEqual(config.json());

    const changes = { is_public: true, priority: 10, retention_period: { Period: 3600 } };
    const patched = await postJson(server, token, "/_api/v1/cache-config/main", changes, "PATCH");
    expect([patched.status, patched.text]).toEqual([200, ""]);
    expect((await server.send("GET", "/main/attic-cache-info")).json()).toMatchObject(changes);

    expect((await server.send("DELETE", "/_api/v1/cache-config/main", { token })).status).toBe(200);
    const gone = await server.send("GET", "/_api/v1/cache-config/main", { token });
    expect([gone.status, gone.json()["error"]]).toEqual([404, "NoSuchCache"]);
  });

  test.each([
    ["a name that is taken", "main", CREATE, 400, "CacheAlreadyExists"],
    ["a name with capitals", "Main", CREATE, 400, "RequestError"],
    ["a reserved name", "cas", CREATE, 400, "RequestError"],
    ["a relative store directory", "new", { ...CREATE, store_dir: "nix" }, 400, "RequestError"],
    ["a missing field", "new", { ...CREATE, priority: undefined }, 422, "RequestError"],
    ["a keypair of another form", "new", { ...CREATE, keypair: "Make" }, 422, "RequestError"],
    ["a damaged keypair", "new", { ...CREATE, keypair: { Keypair: "a:b" } }, 400, "RequestError"],
  ])("creating with %s is refused", async (_, name, body, status, error) => {
    await using server = await startTestServer();
    await server.createView("main");
    const token = await server.token({ "*": ALL });
    const answer = await postJson(server, token, `/_api/v1/cache-config/${name}`, body);
    expect(answer.json()).toMatchObject({ code: status, error, message: expect.any(String) });
    expect(answer.status).toBe(status);
  });

  test("a given keypair signs what is pushed, and its secret is never shown", async () => {
    await using server = await startTestServer();
    const token = await server.token({ main: ALL });
    const secret = formatSecretKey(generateSecretKey("given"));
    const body = { ...CREATE, keypair: { Keypair: secret } };
    await postJson(server, token, "/_api/v1/cache-config/main", body);
    const path = await createTestPath("signed");
    await pushAttic(server, token, "main", path);

    expect(await isSignedBy(server, token, path.storePathHash)).toBe(true);
    const config = await server.send("GET", "/_api/v1/cache-config/main", { token });
    expect(config.json()["public_key"]).toMatch(/^given:/);
    expect(config.text).not.toContain(secret.slice("given:".length, 40));
  });

  test("a new keypair signs everything there is anew", async () => {
    await using server = await startTestServer();
    await server.createView("main");
    const token = await server.token({ main: ALL });
    const path = await createTestPath("signed");
    await pushAttic(server, token, "main", path);
    const before = (await server.send("GET", "/main/attic-cache-info", { token })).json();

    await postJson(server, token, "/_api/v1/cache-config/main", { keypair: "Generate" }, "PATCH");

    const after = (await server.send("GET", "/main/attic-cache-info", { token })).json();
    expect(after["public_key"]).not.toBe(before["public_key"]);
    expect(await isSignedBy(server, token, path.storePathHash)).toBe(true);
  });

  test('"Global" resets the retention only on its own, and only then needs its permission', async () => {
    await using server = await startTestServer();
    await server.createView("main");
    const url = "/_api/v1/cache-config/main";
    const all = await server.token({ main: ALL });
    const plain = await server.token({ main: ["pull", "configure"] });
    const retention = async (): Promise<unknown> =>
      (await server.send("GET", url, { token: all })).json()["retention_period"];
    await postJson(server, all, url, { retention_period: { Period: 60 } }, "PATCH");

    const mixed = { priority: 7, retention_period: "Global" };
    expect((await postJson(server, plain, url, mixed, "PATCH")).status).toBe(200);
    expect(await retention()).toEqual({ Period: 60 });

    const alone = { retention_period: "Global" };
    expect((await postJson(server, plain, url, alone, "PATCH")).status).toBe(403);
    expect((await postJson(server, all, url, alone, "PATCH")).status).toBe(200);
    expect(await retention()).toBe("Global");
  });

  test("a change of nothing is refused", async () => {
    await using server = await startTestServer();
    await server.createView("main");
    const token = await server.token({ main: ALL });
    const answer = await postJson(server, token, "/_api/v1/cache-config/main", {}, "PATCH");
    expect(answer.json()).toMatchObject({ code: 400, error: "RequestError" });
  });
});

describe("get-missing-paths", () => {
  test("names what is missing, each once, and only that", async () => {
    await using server = await startTestServer();
    await server.createView("main");
    const token = await server.token({ main: ALL });
    const [here, absent] = [await createTestPath("here"), await createTestPath("absent")];
    await pushAttic(server, token, "main", here);
    const hashes = [absent, here, absent].map((path) => path.storePathHash);
    const answer = await postJson(server, token, "/_api/v1/get-missing-paths", {
      cache: "main",
      store_path_hashes: hashes,
    });
    expect(answer.json()).toEqual({ missing_paths: [absent.storePathHash] });
  });

  test.each([
    ["no JSON type", { body: "{}" }, 415],
    ["malformed JSON", { body: "{", headers: { "content-type": "application/json" } }, 400],
    ["a wrong shape", { body: "{}", headers: { "content-type": "application/json" } }, 422],
    [
      "one bad hash",
      {
        body: '{"cache":"main","store_path_hashes":["e"]}',
        headers: { "content-type": "application/json" },
      },
      422,
    ],
    [
      "a body over 2 MB",
      { body: " ".repeat(2_000_001), headers: { "content-type": "application/json" } },
      413,
    ],
  ])("with %s it is refused", async (_, options, status) => {
    await using server = await startTestServer();
    await server.createView("main");
    const token = await server.token({ main: ALL });
    const answer = await server.send("POST", "/_api/v1/get-missing-paths", { token, ...options });
    expect(answer.json()).toMatchObject({ code: status, error: "RequestError" });
    expect(answer.status).toBe(status);
  });
});

describe("upload-path", () => {
  test("takes its info as a preamble, whatever the pieces it comes in", async () => {
    await using server = await startTestServer();
    await server.createView("main");
    const token = await server.token({ main: ALL });
    const path = await createTestPath("preamble", "ü".repeat(3000));
    const info = Buffer.from(atticNarInfo("main", path, { unknown: "ignored" }));
    const answer = await server.send("PUT", "/_api/v1/upload-path", {
      token,
      headers: {
        "x-attic-nar-info-preamble-size": info.length,
        // The preamble wins when both are there.
        "x-attic-nar-info": "nonsense",
      },
      body: inPieces(Buffer.concat([info, path.nar]), 33),
    });
    expect(answer.json()).toMatchObject({ kind: "Uploaded" });
    expect(
      (await server.send("GET", `/main/${path.storePathHash}.narinfo`, { token })).status,
    ).toBe(200);
  });

  test("a second upload of the same NAR is deduplicated, and says no file size", async () => {
    await using server = await startTestServer();
    await server.createView("main");
    const token = await server.token({ main: ALL });
    const [first, second] = [
      await createTestPath("one", "same"),
      await createTestPath("two", "same"),
    ];
    expect((await pushAttic(server, token, "main", first)).json()).toMatchObject({
      kind: "Uploaded",
    });
    expect((await pushAttic(server, token, "main", second)).json()).toEqual({
      kind: "Deduplicated",
      frac_deduplicated: null,
    });
  });

  test("bytes after the NAR are ignored, as Attic ignores them", async () => {
    await using server = await startTestServer();
    await server.createView("main");
    const token = await server.token({ main: ALL });
    const path = await createTestPath("trailing");
    const body = Buffer.concat([path.nar, Buffer.alloc(1000, "x")]);
    expect((await pushAttic(server, token, "main", path, {}, body)).status).toBe(200);
  });

  test("references are sorted, so that the signature is one that Nix accepts", async () => {
    await using server = await startTestServer();
    await server.createView("main");
    const token = await server.token({ main: ALL });
    const others = await Promise.all(["a", "b", "c"].map((name) => createTestPath(name)));
    const unsorted = others.map((path) => path.baseName).toSorted((l, r) => (l < r ? 1 : -1));
    const path = await createTestPath("sorted", "sorted", unsorted);
    await pushAttic(server, token, "main", path);
    const { text } = await server.send("GET", `/main/${path.storePathHash}.narinfo`, { token });
    expect(text).toContain(`\nReferences: ${unsorted.toReversed().join(" ")}\n`);
    expect(await isSignedBy(server, token, path.storePathHash)).toBe(true);
  });

  test("without any info it says which header is missing", async () => {
    await using server = await startTestServer();
    const answer = await server.send("PUT", "/_api/v1/upload-path", { body: "x" });
    expect(answer.json()).toMatchObject({
      code: 400,
      error: "RequestError",
      message: "X-Attic-Nar-Info must be set",
    });
  });

  test.each([
    ["that is no number", "12x", 400],
    ["over the limit", String(2 ** 20 + 1), 400],
    ["longer than the body", "5000", 400],
  ])("a preamble size %s is refused", async (_, size, status) => {
    await using server = await startTestServer();
    const answer = await server.send("PUT", "/_api/v1/upload-path", {
      headers: { "x-attic-nar-info-preamble-size": size },
      body: "{}",
    });
    expect(answer.json()).toMatchObject({ code: status, error: "RequestError" });
  });

  test.each([
    ["a wrong hash", { nar_hash: `sha256:${"0".repeat(64)}` }, 400, /Bad NAR hash/],
    ["an SRI hash", { nar_hash: `sha256-${"A".repeat(43)}=` }, 422, /nar_hash/],
    ["a size too large", { nar_size: 1_000_000 }, 400, /Received \d+ of the NAR's 1000000 bytes/],
    ["a size too small", { nar_size: 8 }, 400, /Bad NAR hash/],
    ["a size of nothing", { nar_size: 0 }, 400, /NAR size 0/],
    ["a path of another store", { store_path: "/gnu/store/x" }, 400, /store path/],
    ["a hash of another path", { store_path_hash: "0".repeat(32) }, 400, /does not have the hash/],
    ["a reference with a slash", { references: ["../../etc/passwd"] }, 400, /references/],
    ["a content address of nonsense", { ca: "fixed:nonsense" }, 400, /content address/],
    ["no signatures list", { sigs: undefined }, 422, /sigs/],
  ])("with %s it is refused and leaves nothing", async (_, changes, status, message) => {
    await using server = await startTestServer();
    const view = await server.createView("main");
    const token = await server.token({ main: ALL });
    const path = await createTestPath("refused");
    const answer = await pushAttic(server, token, "main", path, changes);
    expect(answer.json()).toMatchObject({
      code: status,
      error: "RequestError",
      message: expect.stringMatching(message),
    });
    expect(answer.status).toBe(status);
    expect(await server.index.findMissingNars(view.id, [path.narHash])).toEqual([path.narHash]);
    expect(await Array.fromAsync(server.store.list("nar/"))).toEqual([]);
  });

  test("a NAR above the server's limit is refused before it is read to its end", async () => {
    await using server = await startTestServer({ maxNarSizeBytes: "1 KiB" });
    await server.createView("main");
    const token = await server.token({ main: ALL });
    const path = await createTestPath("large", "x".repeat(5000));
    expect((await pushAttic(server, token, "main", path)).status).toBe(413);
  });

  test("another NAR under a path that is there is refused, logged with both hashes, and counted", async () => {
    await using server = await startTestServer();
    await server.createView("main");
    const token = await server.token({ main: ALL });
    const first = await createTestPath("same", "first build");
    const second = await createTestPath("same", "second build");
    await pushAttic(server, token, "main", first);

    expect((await pushAttic(server, token, "main", second)).status).toBe(409);

    const { text } = await server.send("GET", `/main/${first.storePathHash}.narinfo`, { token });
    expect(text).toContain(`NarSize: ${first.nar.length}\n`);
    expect(server.logs).toContainEqual(
      expect.objectContaining({
        level: "warn",
        fields: expect.objectContaining({
          narHash: first.narHash,
          refusedNarHash: second.narHash,
        }),
      }),
    );
    const stats = await server.send("GET", "/_flywheel/v1/views/main/stats", { token });
    expect(stats.json()).toMatchObject({ paths: 1, conflicts: 1 });
  });

  test("the same NAR with another signature succeeds, and both signatures are served", async () => {
    await using server = await startTestServer();
    await server.createView("main");
    const token = await server.token({ main: ALL });
    const path = await createTestPath("sigs");
    const signature = `builder-1:${Buffer.alloc(64, 7).toString("base64")}`;
    await pushAttic(server, token, "main", path);
    expect((await pushAttic(server, token, "main", path, { sigs: [signature] })).status).toBe(200);
    const { text } = await server.send("GET", `/main/${path.storePathHash}.narinfo`, { token });
    expect(text.match(/^Sig: .*$/gm)).toEqual([
      expect.stringMatching(/^Sig: main-/),
      `Sig: ${signature}`,
    ]);
  });

  test("concurrent uploads of one NAR are one upload and deduplications", async () => {
    await using server = await startTestServer();
    await server.createView("main");
    const token = await server.token({ main: ALL });
    const paths = await Promise.all(
      ["a", "b", "c", "d"].map((name) => createTestPath(name, "same")),
    );
    const answers = await Promise.all(paths.map((path) => pushAttic(server, token, "main", path)));
    expect(answers.map((answer) => String(answer.json()["kind"])).toSorted()).toEqual([
      "Deduplicated",
      "Deduplicated",
      "Deduplicated",
      "Uploaded",
    ]);
    const stats = await server.send("GET", "/_flywheel/v1/views/main/stats", { token });
    expect(stats.json()).toMatchObject({ paths: 4, nars: 1, uploads: 1 });
  });
});

describe("every route", () => {
  test.each([
    ["PUT", "/main/attic-cache-info", 405, "GET, HEAD"],
    ["POST", "/main/nix-cache-info", 405, "GET, HEAD, PUT"],
    ["GET", "/_api/v1/upload-path", 405, "PUT"],
    ["DELETE", "/main/nix-cache-info", 405, "GET, HEAD, PUT"],
  ])("%s %s is 405 with what is allowed", async (method, path, status, allow) => {
    await using server = await startTestServer();
    const answer = await server.send(method, path);
    expect([answer.status, answer.headers["allow"]]).toEqual([status, allow]);
  });

  test.each(["/nowhere", "/_api/v2/x", "/main/foo.bar", "/main/nar/a/b", "/main/"])(
    "%s is 404 with a body that says so",
    async (path) => {
      await using server = await startTestServer();
      const answer = await server.send("GET", path);
      expect(answer.json()).toMatchObject({ code: 404, error: "NotFound" });
    },
  );

  test("a malformed store path hash is a miss, not a fault", async () => {
    await using server = await startTestServer();
    await server.createView("open", { isPublic: true });
    const answer = await server.send("GET", "/open/foo.narinfo");
    expect(answer.json()).toMatchObject({ code: 404, error: "NotFound" });
  });

  test("with allowed hosts, only those are answered", async () => {
    await using server = await startTestServer({ allowedHosts: "cache.example.org:7480" });
    const bad = await server.send("GET", "/", { headers: { host: "cache.example.org" } });
    expect([bad.status, bad.json()["message"]]).toEqual([400, "Bad Host"]);
    const good = await server.send("GET", "/", { headers: { host: "cache.example.org:7480" } });
    expect(good.status).toBe(200);
  });

  test("behind a proxy, addresses are those of the proxy", async () => {
    await using server = await startTestServer();
    await server.createView("open", { isPublic: true });
    const headers = { host: "cache.example.org", "x-forwarded-proto": "https" };
    const config = await server.send("GET", "/open/attic-cache-info", { headers });
    expect(config.json()).toMatchObject({
      api_endpoint: "https://cache.example.org/",
      substituter_endpoint: "https://cache.example.org/open",
    });
  });
});
