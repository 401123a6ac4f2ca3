import {
  parsePublicKey,
  parseNarInfo,
  narInfoFingerprint,
  verifySignature,
} from "@glorious/nix-store";
import { expect, test } from "vitest";

import { compressNar, narInfoOf, openNixClient } from "./nix-client.ts";
import { createTestPath } from "./test-path.ts";
import { startTestServer, type TestAnswer } from "./test-server.ts";

/** Headers that a repeated question may change. */
const VOLATILE = new Set(["date", "x-request-id", "connection", "keep-alive"]);

function steadyHeaders({ headers }: TestAnswer): Record<string, unknown> {
  return Object.fromEntries(Object.entries(headers).filter(([name]) => !VOLATILE.has(name)));
}

test("nix-cache-info says the store, mass queries and the priority", async () => {
  await using server = await startTestServer();
  await server.createView("main", { isPublic: true });
  const client = await openNixClient(server, "main", { isAnonymous: true });

  const answer = await client.get("nix-cache-info");

  expect(answer.status).toBe(200);
  expect(answer.headers["content-type"]).toBe("text/x-nix-cache-info");
  expect(answer.headers["x-attic-cache-visibility"]).toBe("public");
  expect(answer.text).toBe("StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 41\n");
});

test("a narinfo has Nix's fields, order and notation, and true facts about the stored file", async () => {
  await using server = await startTestServer();
  await server.createView("main");
  const client = await openNixClient(server, "main");
  const [zebra, apple] = [await createTestPath("zebra"), await createTestPath("apple")];
  const path = await createTestPath("top", "top", [zebra.baseName, apple.baseName]);
  const self = { ...path, references: [zebra.baseName, path.baseName, apple.baseName] };
  const file = compressNar(path.nar, "br");
  await client.put(file.url, file.bytes);
  const put = await client.put(
    `${path.storePathHash}.narinfo`,
    narInfoOf(self, file, {
      deriver: `${apple.storePathHash}-top.drv`,
      signatures: ["other-1:" + Buffer.alloc(64, 7).toString("base64")],
    }),
  );
  expect(put.status).toBe(200);

  const answer = await client.get(`${path.storePathHash}.narinfo`);

  expect(answer.status).toBe(200);
  expect(answer.headers["content-type"]).toBe("text/x-nix-narinfo");
  const lines = answer.text.split("\n");
  expect(lines.map((line) => line.split(": ")[0])).toEqual([
    ..."StorePath URL Compression FileHash FileSize NarHash NarSize References Deriver".split(" "),
    ..."Sig Sig".split(" "),
    "",
  ]);
  const info = parseNarInfo(answer.text);
  expect(info.references).toEqual(self.references.toSorted());
  expect(info.compression).toBe("zstd");
  expect(answer.text).toMatch(/^NarHash: sha256:[0-9a-df-np-sv-z]{52}$/m);
  const nar = await client.get(info.url);
  expect(nar.body.length).toBe(info.fileSize);
  const stored = compressNar(nar.body, "none");
  expect(info.fileHash?.bytes.toString("hex")).toBe(stored.fileHash);
  expect(info.narHash.bytes.toString("hex")).toBe(path.narHash);
  expect(info.narSize).toBe(path.nar.length);
});

test("a path without references has the list's trailing space", async () => {
  await using server = await startTestServer();
  await server.createView("main");
  const client = await openNixClient(server, "main");
  const path = await createTestPath("lonely");
  await client.copy(path, compressNar(path.nar, "zstd"));

  const { text } = await client.get(`${path.storePathHash}.narinfo`);

  expect(text).toContain("\nReferences: \nSig: ");
  expect(text.endsWith("\n")).toBe(true);
  expect(text).not.toMatch(/\r|\n\n/);
});

test("every key of the view signs, and a client cannot sign in the view's name", async () => {
  await using server = await startTestServer();
  const view = await server.createView("main");
  const client = await openNixClient(server, "main");
  const path = await createTestPath("signed");
  const [key] = await server.index.listSigningKeys(view.id);
  if (key === undefined) throw new Error("The view has no key");
  const forged = `${key.name}:${Buffer.alloc(64, 1).toString("base64")}`;
  const foreign = `builder-1:${Buffer.alloc(64, 2).toString("base64")}`;
  const file = compressNar(path.nar, "none");
  await client.put(file.url, file.bytes);
  await client.put(
    `${path.storePathHash}.narinfo`,
    narInfoOf(path, file, { signatures: [forged, foreign] }),
  );

  const info = await client.narInfo(path);

  expect(info.signatures).toHaveLength(2);
  expect(info.signatures).toContain(foreign);
  expect(info.signatures).not.toContain(forged);
  const fingerprint = narInfoFingerprint(info);
  const ours = info.signatures.filter((signature) => signature.startsWith(`${key.name}:`));
  expect(
    ours.map((it) => verifySignature([parsePublicKey(key.publicKey)], fingerprint, it)),
  ).toEqual([true]);
});

test("signatures added later join those of the path, and none is pushed out", async () => {
  await using server = await startTestServer();
  await server.createView("main");
  const client = await openNixClient(server, "main");
  const path = await createTestPath("resigned");
  const file = compressNar(path.nar, "none");
  await client.put(file.url, file.bytes);
  const sign = (name: string): string => `${name}:${Buffer.alloc(64, 9).toString("base64")}`;
  const put = (signatures: string[]): Promise<TestAnswer> =>
    client.put(`${path.storePathHash}.narinfo`, narInfoOf(path, file, { signatures }));

  await put([sign("zz-first")]);
  const flood = await put(Array.from({ length: 40 }, (_, index) => sign(`aa-${index}`)));

  expect(flood.status).toBe(200);
  const { signatures } = await client.narInfo(path);
  expect(signatures).toContain(sign("zz-first"));
  expect(signatures).toHaveLength(17);
});

test("the server's own narinfo can be sent back with one signature more, as nix store sign does", async () => {
  await using server = await startTestServer();
  await server.createView("main");
  const client = await openNixClient(server, "main");
  const path = await createTestPath("sign-again");
  await client.copy(path, compressNar(path.nar, "br"));
  const served = await client.get(`${path.storePathHash}.narinfo`);
  const added = `late-1:${Buffer.alloc(64, 3).toString("base64")}`;

  const put = await client.put(`${path.storePathHash}.narinfo`, `${served.text}Sig: ${added}\n`);

  expect(put.status).toBe(200);
  const again = await client.get(`${path.storePathHash}.narinfo`);
  expect(again.text).toBe(`${served.text}Sig: ${added}\n`);
});

test("HEAD answers what GET answers, without the body", async () => {
  await using server = await startTestServer();
  await server.createView("main");
  const client = await openNixClient(server, "main");
  const path = await createTestPath("twice");
  await client.copy(path, compressNar(path.nar, "br"));
  const { url } = await client.narInfo(path);

  for (const name of [
    "nix-cache-info",
    `${path.storePathHash}.narinfo`,
    `${path.storePathHash}.ls`,
    url,
  ]) {
    const [get, head] = [await client.get(name), await client.head(name)];
    expect(get.status).toBe(200);
    expect(head.status).toBe(200);
    expect(steadyHeaders(head)).toEqual(steadyHeaders(get));
    expect(Number(get.headers["content-length"])).toBe(get.body.length);
    expect(head.body).toHaveLength(0);
  }
  const [getMiss, headMiss] = [
    await client.get("0".repeat(32) + ".narinfo"),
    await client.head("0".repeat(32) + ".narinfo"),
  ];
  expect(getMiss.status).toBe(404);
  expect(headMiss.status).toBe(404);
  expect(headMiss.body).toHaveLength(0);
});

test("an entity tag that the client has already is answered with 304", async () => {
  await using server = await startTestServer();
  await server.createView("main");
  const client = await openNixClient(server, "main");
  const path = await createTestPath("tagged");
  await client.copy(path, compressNar(path.nar, "zstd"));
  const { url } = await client.narInfo(path);

  for (const name of [
    "nix-cache-info",
    `${path.storePathHash}.narinfo`,
    `${path.storePathHash}.ls`,
    url,
  ]) {
    const first = await client.get(name);
    const etag = first.headers.etag ?? "";
    expect(etag).toMatch(/^"[^"]+"$/);
    for (const value of [etag, `"x", W/${etag}`, "*"]) {
      const again = await client.get(name, { "if-none-match": value });
      expect([name, value, again.status]).toEqual([name, value, 304]);
      expect(again.body).toHaveLength(0);
      expect(again.headers.etag).toBe(etag);
    }
    expect((await client.get(name, { "if-none-match": '"other"' })).status).toBe(200);
  }
});

test("small answers are never content-encoded, whatever the client accepts", async () => {
  await using server = await startTestServer();
  await server.createView("main");
  const client = await openNixClient(server, "main");
  const path = await createTestPath("plain");
  await client.copy(path, compressNar(path.nar, "zstd"));

  for (const name of [
    "nix-cache-info",
    `${path.storePathHash}.narinfo`,
    `${path.storePathHash}.ls`,
  ]) {
    const answer = await client.get(name, { "accept-encoding": "zstd, br, gzip, deflate" });
    expect(answer.headers["content-encoding"]).toBeUndefined();
  }
});

test("names that are no hash are 404, and a wrong method is 405 with those that work", async () => {
  await using server = await startTestServer();
  await server.createView("main");
  const client = await openNixClient(server, "main");
  const token = await server.token({ main: ["pull", "push"] });

  for (const name of [
    "foo.narinfo",
    "foo.ls",
    "nar/foo.nar",
    "nar/foo",
    `${"e".repeat(32)}.narinfo`,
    "x",
  ]) {
    expect([name, (await client.get(name)).status]).toEqual([name, 404]);
  }
  const path = `/main/${"0".repeat(32)}.narinfo`;
  for (const method of ["DELETE", "POST", "PATCH"]) {
    const answer = await server.send(method, path, { token });
    expect(answer.status).toBe(405);
    expect(answer.headers.allow).toBe("GET, HEAD, PUT");
  }
});
