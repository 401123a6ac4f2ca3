import { generateKeyPairSync } from "node:crypto";
import { once } from "node:events";
import { chmod, mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { silentLogger } from "@glorious/core";
import { decodeTokenUnverified } from "@glorious/trust";
import { afterEach, beforeEach, expect, test } from "vitest";

import { type EmbeddedOptions, type EmbeddedPlane, startEmbedded } from "../src/embedded.ts";

let data = "";

beforeEach(async () => {
  data = await mkdtemp(join(tmpdir(), "embedded-"));
});

afterEach(async () => {
  await rm(data, { recursive: true });
});

function start(options: Partial<EmbeddedOptions> = {}): Promise<EmbeddedPlane> {
  return startEmbedded({
    environment: { FLYWHEEL_LISTEN: "127.0.0.1:0", FLYWHEEL_STORE_FSYNC: "none" },
    flags: { dataDirectory: { flag: "--data", value: data } },
    logger: silentLogger,
    ...options,
  });
}

async function readToken(plane: EmbeddedPlane): Promise<string> {
  return (await readFile(plane.tokenFile, "utf8")).trim();
}

function readInfo(plane: EmbeddedPlane, token: string): Promise<Response> {
  return fetch(`${plane.substituter}/nix-cache-info`, {
    headers: { authorization: `Bearer ${token}` },
  });
}

/** What a start told, and the token in its file. */
async function visit(options: Partial<EmbeddedOptions> = {}): Promise<{
  readonly plane: EmbeddedPlane;
  readonly token: string;
  readonly status: number;
}> {
  await using plane = await start(options);
  const token = await readToken(plane);
  return { plane, token, status: (await readInfo(plane, token)).status };
}

test("the first start makes view, keys and token, and every later one finds them", async () => {
  const first = await visit();
  expect(first.plane).toMatchObject({ view: "main", isPublic: false, isFirstStart: true });
  expect(first.plane).toMatchObject({
    bazelGrpc: first.plane.url.replace("http:", "grpc:"),
    bazelHttp: `${first.plane.url}/main`,
  });
  expect(first.plane.publicKey).toMatch(/^main-[0-9a-f]{8}:[A-Za-z0-9+/]{43}=$/);
  expect(first.plane.substituter).toBe(`${first.plane.url}/main`);
  expect(first.status).toBe(200);

  const second = await visit();
  expect(second.plane).toMatchObject({
    view: "main",
    isPublic: false,
    isFirstStart: false,
    publicKey: first.plane.publicKey,
  });
  expect(second.token).toBe(first.token);
  expect(second.status).toBe(200);
});

test("what holds a secret is for its owner only, whatever it was before", async () => {
  await visit();
  await chmod(join(data, "netrc"), 0o644);
  const { plane, token } = await visit();
  for (const file of [plane.tokenFile, plane.netrcFile, join(data, "token.key")]) {
    expect([file, (await stat(file)).mode & 0o777]).toEqual([file, 0o600]);
  }
  expect(await readFile(plane.netrcFile, "utf8")).toBe(
    `machine 127.0.0.1\nlogin flywheel\npassword ${token}\n`,
  );
});

test("the private view is made public when asked for, and stays so until told otherwise", async () => {
  const anonymous = async (isPublic?: boolean): Promise<number> => {
    await using plane = await start({ isPublic });
    return (await fetch(`${plane.substituter}/nix-cache-info`)).status;
  };
  expect(await anonymous()).toBe(401);
  expect(await anonymous(true)).toBe(200);
  expect(await anonymous()).toBe(200);
  expect(await anonymous(false)).toBe(401);
});

test.each<[string, (token: string) => Promise<void>]>([
  ["the token is gone", () => rm(join(data, "admin.token"))],
  ["the token is damaged", () => writeFile(join(data, "admin.token"), "nonsense\n")],
  ["the key it was signed with is another", () => rm(join(data, "token.key"))],
  [
    "it was revoked",
    async (token) => {
      await using plane = await start();
      const jti = String(decodeTokenUnverified(token)?.payload["jti"]);
      const answer = await fetch(`${plane.url}/_flywheel/v1/tokens/${jti}`, {
        method: "DELETE",
        headers: { authorization: `Bearer ${token}` },
      });
      expect(answer.status).toBe(204);
    },
  ],
])("when %s, the next start makes a new one that works", async (_, spoil) => {
  const before = await visit();
  await spoil(before.token);
  const after = await visit();
  expect(after.token).not.toBe(before.token);
  expect(after.status).toBe(200);
  expect(await readFile(after.plane.netrcFile, "utf8")).toContain(`password ${after.token}\n`);
});

test("tokens that the server makes name the issuer and audience that it asks for", async () => {
  const environment = {
    FLYWHEEL_LISTEN: "127.0.0.1:0",
    FLYWHEEL_TOKEN_ISSUER: "https://cache.example.org",
    FLYWHEEL_TOKEN_AUDIENCES: "nix,ci",
  };
  await using plane = await start({ environment });
  const token = await readToken(plane);
  expect((await readInfo(plane, token)).status).toBe(200);

  const made = await fetch(`${plane.url}/_flywheel/v1/tokens`, {
    method: "POST",
    headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
    body: JSON.stringify({ caches: { main: { r: 1 } } }),
  });
  const { token: reader } = (await made.json()) as { token: string };
  expect((await readInfo(plane, reader)).status).toBe(200);
});

test("keys that cannot sign need a token of their own, and the error says which file", async () => {
  const file = join(data, "public.pem");
  const { publicKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  await writeFile(file, publicKey.export({ type: "spki", format: "pem" }));
  const environment = {
    FLYWHEEL_LISTEN: "127.0.0.1:0",
    FLYWHEEL_TOKEN_KEYS: JSON.stringify([{ algorithm: "RS256", file }]),
  };
  await expect(start({ environment })).rejects.toMatchObject({
    code: "CONFIG",
    message: "The configured token keys cannot sign the administrator's token",
    hint: expect.stringContaining(join(data, "admin.token")),
  });
});

test.each([
  ["HS256", "c2hvcnQ=\n", /holds no 32 bytes in base64$/],
  ["RS256", "nonsense\n", /is no RSA key in PEM form$/],
] as const)("an unusable %s key is named by its file, without its contents", async (...row) => {
  const [algorithm, text, message] = row;
  const file = join(data, "bad.key");
  await writeFile(file, text);
  const environment = { FLYWHEEL_TOKEN_KEYS: JSON.stringify([{ algorithm, file }]) };
  const failure: unknown = await start({ environment }).catch((error: unknown) => error);
  expect(failure).toMatchObject({ code: "CONFIG", message: expect.stringMatching(message) });
  expect(failure).toMatchObject({ message: expect.stringContaining(file) });
  expect(String(failure)).not.toContain(text.trim());
});

test("without a data directory, and with one that cannot be made, it says what to set and why", async () => {
  await expect(start({ flags: {} })).rejects.toMatchObject({
    code: "CONFIG",
    hint: expect.stringContaining("FLYWHEEL_DATA"),
  });
  const file = join(data, "file");
  await writeFile(file, "");
  for (const [value, why] of [
    [join(file, "below"), `${file} is a file`],
    ["/proc/flywheel/data", "nothing can be made in /proc"],
  ] as const) {
    await expect(
      start({ flags: { dataDirectory: { flag: "--data", value } } }),
    ).rejects.toMatchObject({
      code: "CONFIG",
      message: expect.stringContaining(why),
      hint: expect.stringContaining("FLYWHEEL_DATA"),
    });
  }
});

test("a view's name that is none is refused as such", async () => {
  await expect(start({ view: "A b" })).rejects.toMatchObject({
    code: "INVALID",
    message: expect.stringContaining('"A b" is no view name'),
  });
});

/** A port that is free now. */
async function findPort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

test("a start that fails after the port was bound lets go of the port and of the data", async () => {
  const environment = {
    FLYWHEEL_LISTEN: `127.0.0.1:${await findPort()}`,
    FLYWHEEL_STORE_FSYNC: "none",
  };
  const info = (message: string): void => {
    if (message === "listening") throw new Error("nobody reads the log");
  };
  const logger = { ...silentLogger, info };

  await expect(start({ environment, logger })).rejects.toThrow("nobody reads the log");

  await expect(fetch(`http://${environment.FLYWHEEL_LISTEN}/healthz`)).rejects.toThrow(
    "fetch failed",
  );
  expect((await visit({ environment })).status).toBe(200);
});
