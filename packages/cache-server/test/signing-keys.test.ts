import { setTimeout as sleep } from "node:timers/promises";

import {
  formatSecretKey,
  generateSecretKey,
  narInfoFingerprint,
  parseNarInfo,
  parsePublicKey,
  verifySignature,
} from "@glorious/nix-store";
import { expect, test } from "vitest";

import { createTestPath, type TestPath } from "./test-path.ts";
import { startTestServer, type TestServer } from "./test-server.ts";
import { postJson, pushAttic } from "./uploads.ts";

const KEYS = "/_flywheel/v1/views/main/keys";
const CONFIG = "/_api/v1/cache-config/main";

interface KeyList {
  readonly keys: ReadonlyArray<{
    readonly name: string;
    readonly publicKey: string;
    readonly createdAt: string;
  }>;
  readonly outdatedPaths: number;
}

async function listKeys(server: TestServer, token: string): Promise<KeyList> {
  const answer = await server.send("GET", KEYS, { token });
  expect(answer.status).toBe(200);
  return answer.json() as never;
}

/** Waits until every path has the signatures of the present keys. */
async function whenSigned(server: TestServer, token: string): Promise<KeyList> {
  for (;;) {
    const list = await listKeys(server, token);
    if (list.outdatedPaths === 0) return list;
    await sleep(5);
  }
}

/** Which of the keys have really signed what is served. */
async function signers(
  server: TestServer,
  token: string,
  path: TestPath,
  keys: readonly string[],
): Promise<string[]> {
  const answer = await server.send("GET", `/main/${path.storePathHash}.narinfo`, { token });
  const info = parseNarInfo(answer.text);
  const fingerprint = narInfoFingerprint(info);
  return keys.filter((key) =>
    info.signatures.some((text) => verifySignature([parsePublicKey(key)], fingerprint, text)),
  );
}

async function startWithPaths(): Promise<{
  readonly server: TestServer;
  readonly token: string;
  readonly old: TestPath;
}> {
  const server = await startTestServer();
  await server.createView("main");
  const token = await server.token({ main: ["pull", "push", "configure"] });
  const old = await createTestPath("old");
  await pushAttic(server, token, "main", old);
  return { server, token, old };
}

test("an added key signs beside the old one, what is there and what comes", async () => {
  const { server, token, old } = await startWithPaths();
  await using _ = server;
  const [first] = (await listKeys(server, token)).keys;

  const added = await postJson(server, token, KEYS, {});
  expect(added.status).toBe(200);
  expect(added.json()).toEqual({
    name: expect.stringMatching(/^main-[0-9a-f]{8}$/),
    publicKey: expect.stringContaining(":"),
    createdAt: expect.stringMatching(/^\d{4}-\d\d-\d\dT.*Z$/),
  });

  const { keys } = await whenSigned(server, token);
  expect(keys).toEqual([first, added.json()]);
  const publicKeys = keys.map(({ publicKey }) => publicKey);
  const fresh = await createTestPath("fresh");
  await pushAttic(server, token, "main", fresh);
  for (const path of [old, fresh]) {
    expect(await signers(server, token, path, publicKeys)).toEqual(publicKeys);
  }
  const config = (await server.send("GET", CONFIG, { token })).json();
  expect(config).toMatchObject({ public_key: publicKeys[1], flywheel: { publicKeys } });
});

test("a retired key signs no more, and its signatures leave; the last one stays", async () => {
  const { server, token, old } = await startWithPaths();
  await using _ = server;
  await postJson(server, token, KEYS, {});
  const { keys } = await whenSigned(server, token);
  const publicKeys = keys.map(({ publicKey }) => publicKey);
  const [first, second] = keys;
  const retire = async (name: string | undefined): Promise<unknown> => {
    const answer = await server.send("DELETE", `${KEYS}/${name}`, { token });
    return answer.status === 204 ? 204 : answer.json();
  };

  expect(await retire(first?.name)).toBe(204);
  expect(await retire(first?.name)).toMatchObject({ code: 404, error: "NOT_FOUND" });
  expect(await retire(second?.name)).toMatchObject({ code: 409, error: "CONFLICT" });

  expect((await whenSigned(server, token)).keys).toEqual([second]);
  expect(await signers(server, token, old, publicKeys)).toEqual([second?.publicKey]);
});

test("a key of one's own is taken under its name, once, and its secret is nowhere shown", async () => {
  const { server, token } = await startWithPaths();
  await using _ = server;
  const keypair = formatSecretKey(generateSecretKey("mine-1"));

  const added = await postJson(server, token, KEYS, { keypair });
  expect(added.json()).toMatchObject({ name: "mine-1" });
  const again = await postJson(server, token, KEYS, { keypair });
  expect(again.json()).toMatchObject({ code: 409, error: "CONFLICT" });
  const damaged = await postJson(server, token, KEYS, { keypair: keypair.slice(0, -8) });
  expect(damaged.json()).toMatchObject({ code: 400, error: "INVALID" });

  const list = await server.send("GET", KEYS, { token });
  const secret = keypair.slice("mine-1:".length);
  const said = [added.text, again.text, damaged.text, list.text, JSON.stringify(server.logs)];
  for (const text of said) expect(text).not.toContain(secret.slice(0, 20));
});

test("a view has at most eight keys", async () => {
  const { server, token } = await startWithPaths();
  await using _ = server;
  for (let count = 1; count < 8; count += 1) {
    expect((await postJson(server, token, KEYS, {})).status).toBe(200);
  }
  expect((await postJson(server, token, KEYS, {})).json()).toMatchObject({ code: 409 });
});

test("who may pull sees the keys, and only who may configure changes them", async () => {
  const { server } = await startWithPaths();
  await using _ = server;
  const token = await server.token({ main: ["pull", "push"] });
  const { keys } = await listKeys(server, token);

  expect((await postJson(server, token, KEYS, {})).status).toBe(403);
  const retired = await server.send("DELETE", `${KEYS}/${keys[0]?.name}`, { token });
  expect(retired.status).toBe(403);
  expect((await server.send("GET", KEYS)).status).toBe(401);
  expect((await listKeys(server, token)).keys).toEqual(keys);
});

test("Attic's new keypair is the only one, and everything has its signature when it answers", async () => {
  const { server, token, old } = await startWithPaths();
  await using _ = server;
  await postJson(server, token, KEYS, {});
  const before = (await listKeys(server, token)).keys.map(({ publicKey }) => publicKey);

  const changed = await postJson(server, token, CONFIG, { keypair: "Generate" }, "PATCH");
  expect(changed.status).toBe(200);

  const { keys, outdatedPaths } = await listKeys(server, token);
  const [only = ""] = keys.map(({ publicKey }) => publicKey);
  expect(keys).toHaveLength(1);
  expect(outdatedPaths).toBe(0);
  expect(await signers(server, token, old, [...before, only])).toEqual([only]);
});
