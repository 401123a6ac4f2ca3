import { parseNarInfo, sha256HexToNix32 } from "@glorious/nix-store";
import { expect, test } from "vitest";

import { createAddressedPath, createTestPath, type TestPath } from "./test-path.ts";
import { sha256, startTestServer, type TestServer } from "./test-server.ts";
import { closurePath, encode, postJson, pushAttic, putNar } from "./uploads.ts";

interface Pushed {
  readonly server: TestServer;
  readonly token: string;
}

async function readNarInfo({ server, token }: Pushed, view: string, path: TestPath) {
  const answer = await server.send("GET", `/${view}/${path.storePathHash}.narinfo`, { token });
  expect(answer.status).toBe(200);
  return parseNarInfo(answer.text);
}

/** The SHA-256 of the file that the view's narinfo names, as it comes over the wire. */
async function servedHash(pushed: Pushed, view: string, path: TestPath): Promise<string> {
  const { url } = await readNarInfo(pushed, view, path);
  const file = await pushed.server.send("GET", `/${view}/${url}`, { token: pushed.token });
  return sha256(file.body);
}

async function pushOurs(
  { server, token }: Pushed,
  view: string,
  path: TestPath,
  encoded: Uint8Array,
): Promise<void> {
  expect((await putNar(server, token, view, path, encoded)).status).toBe(200);
  const commit = { paths: [closurePath(path)] };
  const answer = await postJson(server, token, `/_flywheel/v1/views/${view}/closures`, commit);
  expect(answer.status).toBe(200);
}

test("an upload with its info in the header is stored, signed and served", async () => {
  await using server = await startTestServer();
  await server.createView("main");
  const token = await server.token({ main: ["pull", "push"] });
  const path = await createTestPath("hello");

  const put = await pushAttic(server, token, "main", path);

  expect(put.status).toBe(200);
  expect(put.json()).toEqual({
    kind: "Uploaded",
    file_size: expect.any(Number),
    frac_deduplicated: null,
  });
  const narInfo = await server.send("GET", `/main/${path.storePathHash}.narinfo`, { token });
  expect(narInfo.status).toBe(200);
  expect(narInfo.headers["content-type"]).toBe("text/x-nix-narinfo");
  expect(narInfo.text).toMatch(
    new RegExp(
      `^StorePath: ${path.storePath}\nURL: nar/[0-9a-z]{52}\\.nar\\.zst\nCompression: zstd\n` +
        "FileHash: sha256:[0-9a-z]{52}\nFileSize: \\d+\nNarHash: sha256:[0-9a-z]{52}\n" +
        `NarSize: ${path.nar.length}\nReferences: \nSig: main-[0-9a-f]{8}:[A-Za-z0-9+/=]{88}\n$`,
    ),
  );
});

test.each([
  ["hexadecimal", (hex: string) => `sha256:${hex}`],
  ["capitals", (hex: string) => `sha256:${hex.toUpperCase()}`],
  ["nix32", (hex: string) => `sha256:${sha256HexToNix32(hex)}`],
])("a NAR hash in %s is understood", async (_, format) => {
  await using server = await startTestServer();
  await server.createView("main");
  const token = await server.token({ main: ["pull", "push"] });
  const path = await createTestPath("hashed");
  const put = await pushAttic(server, token, "main", path, { nar_hash: format(path.narHash) });
  expect(put.json()).toMatchObject({ kind: "Uploaded" });
});

test("deriver, system, content address and signatures are served as they came", async () => {
  await using server = await startTestServer();
  await server.createView("main");
  const token = await server.token({ main: ["pull", "push"] });
  const { path, ca } = await createAddressedPath("whole", "whole", "nar");
  const deriver = `${path.storePathHash}-whole.drv`;
  const signature = `builder-1:${Buffer.alloc(64, 1).toString("base64")}`;
  await pushAttic(server, token, "main", path, {
    deriver: `/nix/store/${deriver}`,
    system: "x86_64-linux",
    ca,
    sigs: [signature, "no signature", signature],
  });
  const narInfo = await readNarInfo({ server, token }, "main", path);
  expect(narInfo).toMatchObject({ deriver, system: "x86_64-linux", ca });
  expect(narInfo.signatures).toEqual([expect.stringMatching(/^main-/), signature]);
});

test("a scheme of any case and a path with a reference to itself are taken", async () => {
  await using server = await startTestServer();
  await server.createView("main");
  const token = await server.token({ main: ["pull", "push"] });
  const path = await createTestPath("self");
  const changes = { references: [path.baseName] };
  expect((await pushAttic(server, token, "main", path, changes)).status).toBe(200);
  for (const scheme of ["Bearer", "bearer", "BEARER"]) {
    const answer = await server.send("GET", `/main/${path.storePathHash}.narinfo`, {
      headers: { authorization: `${scheme} ${token}` },
    });
    expect(parseNarInfo(answer.text).references).toEqual([path.baseName]);
  }
});

test("tenants that send a raw NAR share the server's own encoding, whatever others encoded", async () => {
  await using server = await startTestServer();
  for (const view of ["acme+ci", "globex+ci", "initech+ci"]) await server.createView(view);
  const token = await server.token({ "*": ["pull", "push"] });
  const pushed = { server, token };
  const path = await createTestPath("encoded", "some text to compress ".repeat(5000));
  const theirs = await encode(path, 19);
  await pushOurs(pushed, "acme+ci", path, theirs);
  for (const view of ["globex+ci", "initech+ci"]) {
    expect((await pushAttic(server, token, view, path)).json()).toMatchObject({ kind: "Uploaded" });
  }
  const ours = sha256(await encode(path));
  expect(await servedHash(pushed, "acme+ci", path)).toBe(sha256(theirs));
  expect(await servedHash(pushed, "globex+ci", path)).toBe(ours);
  expect(await servedHash(pushed, "initech+ci", path)).toBe(ours);
  expect(await Array.fromAsync(server.store.list("nar/"))).toHaveLength(2);
});

test("a view keeps the encoding it has, whoever sends the NAR again", async () => {
  await using server = await startTestServer();
  await server.createView("main");
  const token = await server.token({ main: ["pull", "push"] });
  const pushed = { server, token };
  const path = await createTestPath("kept", "some text to compress ".repeat(5000));
  const first = await encode(path, 1);
  await pushOurs(pushed, "main", path, first);
  await pushOurs(pushed, "main", path, await encode(path, 19));
  expect((await pushAttic(server, token, "main", path)).json()).toMatchObject({
    kind: "Deduplicated",
  });
  expect(await servedHash(pushed, "main", path)).toBe(sha256(first));
  expect(await Array.fromAsync(server.store.list("nar/"))).toHaveLength(1);
});

test("a NAR whose bytes were lost is stored anew by the next push, and served", async () => {
  await using server = await startTestServer();
  await server.createView("main");
  const token = await server.token({ main: ["pull", "push"] });
  const pushed = { server, token };
  const path = await createTestPath("lost");
  await pushAttic(server, token, "main", path);
  const hash = await servedHash(pushed, "main", path);
  await server.store.delete(`nar/${hash}`);
  expect((await server.send("GET", `/main/nar/${path.storePathHash}.nar`, { token })).status).toBe(
    404,
  );
  expect((await pushAttic(server, token, "main", path)).status).toBe(200);
  expect(await servedHash(pushed, "main", path)).toBe(hash);
});
