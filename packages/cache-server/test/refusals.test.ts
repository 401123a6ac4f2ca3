import { randomBytes } from "node:crypto";
import { inspect } from "node:util";

import { sha256HexToNix32 } from "@glorious/nix-store";
import { signToken } from "@glorious/trust";
import { expect, test } from "vitest";

import { createTestPath, type TestPath } from "./test-path.ts";
import { startTestServer, type TestAnswer, type TestServer } from "./test-server.ts";
import { postJson, pushAttic } from "./uploads.ts";

const ABSENT = "0".repeat(32);

/** Every way into a view, for a path that is there and for one that is not, and for an absent view. */
function everyRequest(
  server: TestServer,
  token: string | undefined,
  view: string,
  path: TestPath,
  fileHash: string,
): Record<string, () => Promise<TestAnswer>> {
  const auth = token === undefined ? {} : { token };
  const get = (route: string) => () => server.send("GET", `/${view}/${route}`, auth);
  const put = (route: string) => () =>
    server.send("PUT", `/${view}/${route}`, { ...auth, body: "nonsense" });
  const nar = `nar/${sha256HexToNix32(fileHash)}.nar.zst`;
  return {
    "nix-cache-info": get("nix-cache-info"),
    "narinfo, present": get(`${path.storePathHash}.narinfo`),
    "narinfo, absent": get(`${ABSENT}.narinfo`),
    "NAR by file, present": get(nar),
    "NAR by file, absent": get(`nar/${"0".repeat(52)}.nar.zst`),
    "NAR by path, present": get(`nar/${path.storePathHash}.nar`),
    "NAR by path, absent": get(`nar/${ABSENT}.nar`),
    "listing, present": get(`${path.storePathHash}.ls`),
    "listing, absent": get(`${ABSENT}.ls`),
    log: get("log/x.drv"),
    "cache-config": () => server.send("GET", `/_api/v1/cache-config/${view}`, auth),
    "attic-cache-info": get("attic-cache-info"),
    stats: () => server.send("GET", `/_flywheel/v1/views/${view}/stats`, auth),
    "get-missing-paths": () =>
      postJson(server, token, "/_api/v1/get-missing-paths", { cache: view, store_path_hashes: [] }),
    "upload-path": () => pushAttic(server, token, view, path),
    "PUT narinfo": put(`${path.storePathHash}.narinfo`),
    "PUT NAR": put(nar),
    "PUT listing": put(`${path.storePathHash}.ls`),
    "PUT log": put("log/x.drv"),
    missing: () => postJson(server, token, `/_flywheel/v1/views/${view}/missing`, { paths: [] }),
    "delete, present": () =>
      server.send("DELETE", `/_flywheel/v1/views/${view}/paths/${path.storePathHash}`, auth),
    "delete, absent": () =>
      server.send("DELETE", `/_flywheel/v1/views/${view}/paths/${ABSENT}`, auth),
    destroy: () => server.send("DELETE", `/_api/v1/cache-config/${view}`, auth),
    configure: () =>
      postJson(server, token, `/_api/v1/cache-config/${view}`, { priority: 1 }, "PATCH"),
  };
}

/** What an answer tells, without what differs in every answer. */
function tells(answer: TestAnswer): unknown {
  const { requestId: _, ...body } = answer.json();
  const { date: _date, "x-request-id": _id, ...headers } = answer.headers;
  return { status: answer.status, body, headers };
}

interface Scene {
  readonly server: TestServer;
  readonly path: TestPath;
  readonly fileHash: string;
}

async function withPath(run: (scene: Scene) => Promise<void>): Promise<void> {
  await using server = await startTestServer();
  const view = await server.createView("main");
  await server.createView("other");
  const path = await createTestPath("secret");
  await pushAttic(server, await server.token({ main: ["push"] }), "main", path);
  const holding = await server.index.findHolding(view.id, path.narHash);
  await run({ server, path, fileHash: holding?.fileHash ?? "" });
}

/** Not as JSON: errors and their causes, which hold the most, would be `{}` there. */
function everythingLogged(server: TestServer): string {
  return inspect(server.logs, { depth: 20, maxArrayLength: null, maxStringLength: null });
}

const STRANGERS: Readonly<
  Record<string, (server: TestServer) => Promise<string | undefined> | string | undefined>
> = {
  nobody: () => undefined,
  "a malformed token": () => "nonsense",
  "an expired token": (server) =>
    server.token({ main: ["pull", "push"] }, { expiresAtMs: Date.now() - 3_600_000 }),
  "a token from the future": (server) =>
    server.token({ main: ["pull"] }, { notBeforeMs: Date.now() + 3_600_000 }),
  "a token that never expires": (server) =>
    server.token({ main: ["pull"] }, { expiresAtMs: undefined }),
  "a token of another key": () =>
    signToken(
      { algorithm: "HS256", secret: randomBytes(64) },
      { expiresAtMs: Date.now() + 3_600_000, caches: [["*", new Set(["pull"])]], isAdmin: true },
    ),
  "a token of another cache": (server) => server.token({ other: ["pull", "push", "destroy"] }),
  "a token whose first pattern takes away": (server) =>
    server.token({ "m*": [], "ab*": [], "*": ["pull", "push"] }),
  "a revoked token": async (server) => {
    await server.index.revokeToken("stolen", undefined);
    return server.token({ main: ["pull", "push"] }, { jti: "stolen" });
  },
};

test.each(Object.entries(STRANGERS))(
  "%s learns nothing: each route answers alike whether the path or the view is there or not",
  async (_, makeToken) => {
    await withPath(async ({ server, path, fileHash }) => {
      const token = await makeToken(server);
      const there = everyRequest(server, token, "main", path, fileHash);
      const nowhere = everyRequest(server, token, "absent", path, fileHash);
      const answers = new Map<string, unknown>();
      for (const [name, request] of Object.entries(there)) {
        const answer = await request();
        expect([name, answer.status]).toEqual([name, 401]);
        expect(answer.headers["www-authenticate"]).toMatch(/^Basic realm=/);
        answers.set(name, tells(answer));
        const elsewhere = tells((await nowhere[name]?.()) ?? answer);
        expect(JSON.stringify(elsewhere).replaceAll("absent", "main")).toBe(
          // The name's length shows in the length of the message.
          JSON.stringify(answers.get(name)).replaceAll(
            `"content-length":"${answer.headers["content-length"]}"`,
            `"content-length":"${Number(answer.headers["content-length"]) + 2}"`,
          ),
        );
      }
      for (const name of ["narinfo", "NAR by file", "NAR by path", "listing", "delete"]) {
        expect(answers.get(`${name}, absent`)).toEqual(answers.get(`${name}, present`));
      }
    });
  },
);

test("what a token lacks is said by name, to those who may know that the view is there", async () => {
  await withPath(async ({ server, path, fileHash }) => {
    const puller = everyRequest(
      server,
      await server.token({ main: ["pull"] }),
      "main",
      path,
      fileHash,
    );
    for (const name of ["get-missing-paths", "upload-path", "PUT narinfo", "PUT NAR", "missing"]) {
      const answer = await puller[name]?.();
      expect([name, answer?.status, answer?.json()["message"]]).toEqual([
        name,
        403,
        "The token gives no push permission on cache main",
      ]);
    }
    const pusher = everyRequest(
      server,
      await server.token({ main: ["push"] }),
      "main",
      path,
      fileHash,
    );
    for (const name of ["nix-cache-info", "narinfo, present", "narinfo, absent", "cache-config"]) {
      expect([name, (await pusher[name]?.())?.status]).toEqual([name, 403]);
    }
    for (const name of ["delete, present", "destroy", "configure"]) {
      expect([name, (await puller[name]?.())?.status]).toEqual([name, 403]);
    }
  });
});

test("a view that is not there is said so to those whose token names it", async () => {
  await withPath(async ({ server, path, fileHash }) => {
    const token = await server.token({ "*": ["pull"] });
    const requests = everyRequest(server, token, "absent", path, fileHash);
    for (const name of ["nix-cache-info", "narinfo, absent", "upload-path", "stats"]) {
      const answer = await requests[name]?.();
      expect([name, answer?.status, answer?.json()["message"]]).toEqual([
        name,
        404,
        "There is no cache absent",
      ]);
    }
  });
});

test.each([
  ["an expired token", /^The token expired at \d{4}-/],
  ["nobody", /^No token was sent/],
  ["a token of another key", /signature is wrong/],
  ["a revoked token", /^The token has been revoked/],
  ["a token that never expires", /never expires/],
])("to %s the refusal says why", async (who, reason) => {
  await withPath(async ({ server }) => {
    const token = await STRANGERS[who]?.(server);
    const answer = await server.send(
      "GET",
      "/main/nix-cache-info",
      token === undefined ? {} : { token },
    );
    expect(answer.json()["message"]).toMatch(reason);
  });
});

test("a public view is read by everybody, a bad token included, and written by nobody without one", async () => {
  await using server = await startTestServer();
  await server.createView("open", { isPublic: true });
  const path = await createTestPath("open");
  await pushAttic(server, await server.token({ open: ["push"] }), "open", path);
  for (const token of [undefined, "nonsense"]) {
    const answer = await server.send(
      "GET",
      `/open/${path.storePathHash}.narinfo`,
      token === undefined ? {} : { token },
    );
    expect([answer.status, answer.headers["x-attic-cache-visibility"]]).toEqual([200, "public"]);
    expect((await pushAttic(server, token, "open", path)).status).toBe(401);
  }
});

test("a token is taken as Basic password too, whatever the user", async () => {
  await withPath(async ({ server }) => {
    const token = await server.token({ main: ["pull"] });
    for (const user of ["", "anybody"]) {
      const authorization = `BASIC ${Buffer.from(`${user}:${token}`).toString("base64")}`;
      const answer = await server.send("GET", "/main/nix-cache-info", {
        headers: { authorization },
      });
      expect(answer.status).toBe(200);
    }
  });
});

test("no log line holds a token or a key", async () => {
  await withPath(async ({ server, path, fileHash }) => {
    const token = await server.token({ main: ["pull", "push"] });
    for (const request of Object.values(everyRequest(server, token, "main", path, fileHash))) {
      await request();
    }
    await server.send("GET", `/main/nix-cache-info?token=${token}`);
    const [key] = await server.index.listSigningKeys(1);
    const logs = everythingLogged(server);
    expect(logs).not.toContain(token);
    expect(logs).not.toContain(token.split(".")[2]);
    expect(logs).not.toContain(key?.secretKey.split(":")[1]?.slice(0, 40));
    expect(server.logs.length).toBeGreaterThan(20);
  });
});

test("only an administrator makes and revokes tokens", async () => {
  await using server = await startTestServer();
  await server.createView("main");
  const body = { subject: "ci", caches: { main: { r: 1 } }, expiresInSeconds: 60 };
  const powerful = await server.token({ "*": ["pull", "push", "create", "destroy"] });
  expect((await postJson(server, undefined, "/_flywheel/v1/tokens", body)).status).toBe(401);
  expect((await postJson(server, powerful, "/_flywheel/v1/tokens", body)).status).toBe(403);

  const admin = await server.token({}, { isAdmin: true });
  const made = await postJson(server, admin, "/_flywheel/v1/tokens", body);
  expect(made.json()).toEqual({
    token: expect.any(String),
    jti: expect.stringMatching(/^[0-9a-f]{32}$/),
    expiresAt: expect.any(String),
  });
  const { token, jti } = made.json();
  const read = (): Promise<TestAnswer> =>
    server.send("GET", "/main/nix-cache-info", { token: String(token) });
  expect((await read()).status).toBe(200);
  expect(
    (await server.send("DELETE", `/_flywheel/v1/tokens/${String(jti)}`, { token: powerful }))
      .status,
  ).toBe(403);
  expect(
    (await server.send("DELETE", `/_flywheel/v1/tokens/${String(jti)}`, { token: admin })).status,
  ).toBe(204);
  expect((await read()).status).toBe(401);
});

test.each([
  [{ caches: { main: { r: 2 } } }],
  [{ caches: { "no spaces": { r: 1 } } }],
  [{ caches: { main: { r: true } } }],
  [{ expiresInSeconds: 0 }],
  [{ admin: "yes" }],
])("a token of %j is not made", async (body) => {
  await using server = await startTestServer();
  const admin = await server.token({}, { isAdmin: true });
  const answer = await postJson(server, admin, "/_flywheel/v1/tokens", body);
  expect(answer.json()).toMatchObject({ code: 400, error: "INVALID" });
});

test("no log line holds a refused token, nor a key in a body that is no JSON or of another form", async () => {
  await withPath(async ({ server, path, fileHash }) => {
    const secrets: string[] = [];
    for (const makeToken of Object.values(STRANGERS)) {
      const token = await makeToken(server);
      if (token === undefined || token === "nonsense") continue;
      secrets.push(token, token.split(".")[2] ?? token);
      for (const request of Object.values(everyRequest(server, token, "main", path, fileHash))) {
        await request();
      }
    }
    const configurer = await server.token({ main: ["configure"], new: ["create"] });
    const key = Buffer.alloc(64, "key").toString("base64");
    secrets.push(configurer, key.slice(0, 5));
    for (const body of [
      `{"keypair":main:${key}}`,
      `main:${key}`,
      JSON.stringify({ keypair: `main:${key}` }),
      JSON.stringify({ keypair: { Keypair: `main:${key}x` } }),
      JSON.stringify({ keypair: { Keypair: [`main:${key}`] } }),
    ]) {
      for (const [method, view] of [
        ["PATCH", "main"],
        ["POST", "new"],
      ] as const) {
        const answer = await server.send(method, `/_api/v1/cache-config/${view}`, {
          token: configurer,
          headers: { "content-type": "application/json" },
          body,
        });
        expect([400, 422]).toContain(answer.status);
      }
    }
    const logs = everythingLogged(server);
    for (const secret of secrets) expect(logs).not.toContain(secret);
  });
});
