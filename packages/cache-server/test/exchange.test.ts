import { createPublicKey, generateKeyPairSync } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";

import { createIssuerKey, forgejoClaims, githubClaims } from "@glorious/testkit";
import {
  createTokenVerifier,
  decodeTokenUnverified,
  parseTrustPolicy,
  type TokenKey,
} from "@glorious/trust";
import { expect, test, vi } from "vitest";

import {
  type Claims,
  formatPolicy,
  type IdentityServer,
  MAIN_JOB,
  REVIEW_JOB,
  startIdentityServer,
  STRANGER_JOB,
} from "./identity-policy.ts";
import { createTestPath } from "./test-path.ts";
import { type LogLine, startTestServer } from "./test-server.ts";
import { postJson, pushAttic } from "./uploads.ts";

function logged({ server }: IdentityServer, message: RegExp): LogLine[] {
  return server.logs.filter((line) => message.test(line.message));
}

function text(value: unknown): string {
  if (typeof value !== "string") throw new TypeError("No text");
  return value;
}

test("a job of the default branch gets a token that pushes to and pulls from its own view, and ends when it says", async () => {
  await using world = await startIdentityServer();
  const { server, issuer, exchange } = world;

  const answer = await exchange({ token: issuer.mint(MAIN_JOB) });

  expect(answer.status).toBe(200);
  const { token, ...rest } = answer.json();
  expect(rest).toEqual({
    tokenType: "Bearer",
    expiresAt: expect.any(String),
    grant: {
      tenant: "acme",
      trust: "trusted",
      read: ["acme+main"],
      write: "acme+main",
      rule: "tenants.acme.scopes[0]",
      reason: expect.stringContaining("refs/heads/main"),
    },
    nix: {
      substituters: [`${server.url}/acme+main`],
      publicKeys: [expect.stringMatching(/^acme\+main/)],
      storeDir: "/nix/store",
      pushEndpoint: `${server.url}/acme+main`,
    },
    bazel: {
      grpc: expect.stringMatching(/^grpc:/),
      http: `${server.url}/acme+main`,
      instance: "acme+main",
    },
    notices: [],
  });
  const lifeMs = Date.parse(text(rest["expiresAt"])) - Date.now();
  expect(lifeMs).toBeGreaterThan(14 * 60_000);
  expect(lifeMs).toBeLessThanOrEqual(15 * 60_000);
  expect(answer.headers["cache-control"]).toBe("no-store");

  const path = await createTestPath("exchanged");
  const narinfo = `/acme+main/${path.storePathHash}.narinfo`;
  expect((await pushAttic(server, text(token), "acme+main", path)).status).toBe(200);
  expect((await server.send("GET", narinfo, { token: text(token) })).status).toBe(200);
  const globex = await server.send("GET", "/globex+main/nix-cache-info", { token: text(token) });
  expect(globex.status).toBe(401);
  server.advance(17 * 60_000);
  expect((await server.send("GET", narinfo, { token: text(token) })).status).toBe(401);
});

test("a pull request's token reads its base and names the overlay that it may write", async () => {
  await using world = await startIdentityServer();
  const answer = await world.exchange({ token: world.issuer.mint(REVIEW_JOB) });
  expect(answer.json()).toMatchObject({
    grant: {
      trust: "overlay",
      read: ["acme+main_pr-12", "acme+main"],
      write: "acme+main_pr-12",
    },
  });
  const decoded = decodeTokenUnverified(text(answer.json()["token"]));
  expect(decoded?.payload["https://jwt.attic.rs/v1"]).toEqual({
    caches: { "acme+main_pr-12": { r: 1, w: 1 }, "acme+main": { r: 1 } },
  });
});

test("a client can give up rights and never gain any", async () => {
  await using world = await startIdentityServer();
  const ask = async (claims: Claims, more: object): Promise<unknown> => {
    const answer = await world.exchange({ token: world.issuer.mint(claims), ...more });
    const { grant, reason } = answer.json();
    return reason ?? grant;
  };
  expect(await ask(MAIN_JOB, { mode: "read" })).not.toHaveProperty("write");
  expect(await ask(MAIN_JOB, { view: "acme+main", mode: "write" })).toMatchObject({
    write: "acme+main",
  });
  expect(await ask(REVIEW_JOB, { view: "globex+main" })).toBe("nothing-granted");
  expect(await ask(REVIEW_JOB, { view: "nowhere+main" })).toBe("nothing-granted");
  expect(await ask(MAIN_JOB, { view: "../acme+main" })).toBe("bad-request");
  const fork = githubClaims({
    ...{ owner: "acme", ownerId: 1001, repository: "acme/site", repositoryId: 2001 },
    event: "pull_request_target",
  });
  expect(await ask(fork, {})).toMatchObject({ trust: "untrusted", read: ["acme+main"] });
  expect(await ask(fork, { mode: "write" })).toBe("write-not-granted");
});

/** Every bad token, what its holder is told, and what the log says. */
const BAD_TOKENS: ReadonlyArray<
  readonly [string, (world: IdentityServer) => Promise<string> | string, string, string]
> = [
  ["is no token", () => "nonsense", "malformed", "malformed"],
  ["is huge", () => `${"x".repeat(20_000)}.e30.e30`, "too-large", "too-large"],
  [
    "names a claim twice",
    ({ issuer }) =>
      issuer.mintText(MAIN_JOB, (payload) => payload.replace("{", '{"repository_id":"3001",')),
    "duplicate-key",
    "duplicate-key",
  ],
  [
    "is meant for another service",
    ({ issuer }) => issuer.mint(MAIN_JOB, { audience: "https://elsewhere.example" }),
    "wrong-audience",
    "wrong-audience",
  ],
  [
    "is meant for another service as well",
    ({ issuer, server }) =>
      issuer.mint(MAIN_JOB, { audience: [server.url, "https://elsewhere.example"] }),
    "wrong-audience",
    "wrong-audience",
  ],
  [
    "has expired",
    ({ issuer }) => issuer.mint(MAIN_JOB, { issuedAtMs: Date.now() - 3_600_000 }),
    "expired",
    "expired",
  ],
  [
    "is not valid yet",
    ({ issuer }) => issuer.mint(MAIN_JOB, { issuedAtMs: Date.now() + 3_600_000 }),
    "not-yet-valid",
    "not-yet-valid",
  ],
  [
    "lives for years",
    ({ issuer }) => issuer.mint(MAIN_JOB, { lifetimeSeconds: 365 * 86_400 }),
    "too-long-lived",
    "too-long-lived",
  ],
  [
    "lacks the repository's id",
    ({ issuer }) => issuer.mint({ ...MAIN_JOB, repository_id: undefined }),
    "bad-claims",
    "bad-claims",
  ],
  [
    "is unsigned",
    ({ issuer }) => `${issuer.mintUnsigned(MAIN_JOB)}e30`,
    "not-accepted",
    "wrong-algorithm",
  ],
  [
    "is signed with HS256 and the public key",
    ({ issuer }) => issuer.mintConfused(MAIN_JOB),
    "not-accepted",
    "wrong-algorithm",
  ],
  [
    "is signed by a key of another id",
    async ({ issuer }) => issuer.mint(MAIN_JOB, { key: await createIssuerKey("nobody's") }),
    "not-accepted",
    "unknown-key",
  ],
  [
    "is signed by another key of the same id",
    async ({ issuer }) => issuer.mint(MAIN_JOB, { key: await createIssuerKey("key-1") }),
    "not-accepted",
    "bad-signature",
  ],
  [
    "is of an issuer that the policy does not know",
    ({ issuer }) => issuer.mint({ ...MAIN_JOB, iss: "https://forge.example" }),
    "not-accepted",
    "unknown-issuer",
  ],
  [
    "names the issuer with another slash",
    ({ issuer }) => issuer.mint({ ...MAIN_JOB, iss: `${issuer.issuer}/` }),
    "not-accepted",
    "unknown-issuer",
  ],
];

test("each bad token has a stable code; what would tell which issuers are known has one answer for all", async () => {
  await using world = await startIdentityServer();
  const told = new Set<string>();
  for (const [what, make, reason, cause] of BAD_TOKENS) {
    const token = await make(world);
    const answer = await world.exchange({ token });
    expect([what, answer.status, answer.json()]).toMatchObject([
      what,
      401,
      { code: 401, error: "UNAUTHENTICATED", reason },
    ]);
    expect(answer.text).not.toContain(token);
    const line = logged(world, /refused an identity token/).at(-1);
    expect([what, line?.fields["reason"]]).toEqual([what, cause]);
    if (reason === "not-accepted") told.add(answer.text.replace(/"requestId":"\w+"/, ""));
  }
  expect(told.size).toBe(1);
  expect(JSON.stringify(world.server.logs)).not.toMatch(/eyJ[\w-]{20,}\.eyJ/);
});

test("a stranger learns nothing of what exists, and the log says who asked and why not", async () => {
  await using world = await startIdentityServer();
  const answers = new Set<string>();
  for (const view of [undefined, "acme+main", "globex+main", "nowhere+main"]) {
    const answer = await world.exchange({ token: world.issuer.mint(STRANGER_JOB), view });
    expect(answer.status).toBe(403);
    answers.add(answer.text.replace(/"requestId":"\w+"/, ""));
  }
  expect([...answers]).toEqual([expect.stringContaining('"reason":"nothing-granted"')]);
  expect(logged(world, /refused an identity$/).at(-1)?.fields).toMatchObject({
    reason: "no-matching-scope",
    principal: `github:${world.issuer.issuer}:owner/6666:repo/6667`,
    repository: "mallory/site",
  });
});

test("neither a token nor a body of another shape gets into the log or an answer", async () => {
  await using world = await startIdentityServer();
  const token = world.issuer.mint(MAIN_JOB);
  const body = await world.exchange({ token: [token] });
  expect(body.status).toBe(400);
  const huge = await world.exchange({ token: "x".repeat(100_000) });
  expect(huge.json()).toMatchObject({ code: 413, error: "TOO_LARGE" });
  const plain = await world.server.send("POST", "/_flywheel/v1/exchange", { body: token });
  expect(plain.status).toBe(415);
  const granted = await world.exchange({ token });
  for (const secret of [token, text(granted.json()["token"])]) {
    expect(JSON.stringify(world.server.logs)).not.toContain(secret);
    expect(body.text + plain.text).not.toContain(secret);
  }
});

test("the same identity token may be exchanged again, and one that came from elsewhere first is noticed", async () => {
  await using world = await startIdentityServer({ settings: { trustAddressHeader: "X-Real-IP" } });
  const token = world.issuer.mint(MAIN_JOB);
  const from = (address: string) => ({ headers: { "x-real-ip": address } });
  const first = await world.exchange({ token }, from("192.0.2.1"));
  const second = await world.exchange({ token }, from("192.0.2.1"));
  expect([first.status, second.status]).toEqual([200, 200]);
  expect(first.json()["token"]).not.toBe(second.json()["token"]);
  expect(logged(world, /another address/)).toEqual([]);
  expect((await world.exchange({ token }, from("198.51.100.9"))).status).toBe(200);
  expect(logged(world, /another address/)[0]?.fields).toMatchObject({
    address: "198.51.100.9",
    firstAddress: "192.0.2.1",
    exchanges: 3,
  });
});

test("an address whose tokens are refused again and again must wait; others and good tokens need not", async () => {
  await using world = await startIdentityServer({ settings: { trustAddressHeader: "X-Real-IP" } });
  const from = (address: string) => ({ headers: { "x-real-ip": address } });
  const good = { token: world.issuer.mint(MAIN_JOB) };
  for (let count = 0; count < 61; count += 1) {
    expect((await world.exchange(good, from("192.0.2.1"))).status).toBe(200);
  }
  const statuses: number[] = [];
  for (let count = 0; count < 70; count += 1) {
    statuses.push((await world.exchange({ token: "nonsense" }, from("192.0.2.2"))).status);
  }
  expect(statuses.slice(0, 60)).toEqual(Array(60).fill(401));
  expect(statuses).toContain(429);
  const limited = await world.exchange(good, from("192.0.2.2"));
  expect(limited.json()).toMatchObject({ code: 429, error: "RATE_LIMITED" });
  expect(limited.headers["retry-after"]).toMatch(/^\d+$/);
  expect((await world.exchange(good, from("192.0.2.1"))).status).toBe(200);
  world.server.advance(120_000);
  expect((await world.exchange(good, from("192.0.2.2"))).status).toBe(200);
});

test("a revoked token is refused at once", async () => {
  await using world = await startIdentityServer();
  const { server, issuer, exchange } = world;
  const token = text((await exchange({ token: issuer.mint(MAIN_JOB) })).json()["token"]);
  const read = () => server.send("GET", "/acme+main/nix-cache-info", { token });
  expect((await read()).status).toBe(200);
  const { jti } = logged(world, /exchanged an identity token/)[0]?.fields ?? {};
  const admin = await server.token({}, { isAdmin: true });
  await server.send("DELETE", `/_flywheel/v1/tokens/${text(jti)}`, { token: admin });
  expect((await read()).status).toBe(401);
});

test("discover says what to ask for, is the same for every issuer, and can be kept", async () => {
  await using world = await startIdentityServer();
  const { server } = world;
  const answer = await server.send("GET", "/_flywheel/v1/discover");
  expect(answer.json()).toMatchObject({
    server: "gloriousflywheel",
    api: 1,
    minimumClient: expect.any(String),
    audience: server.url,
    exchange: `${server.url}/_flywheel/v1/exchange`,
    endpoints: { attic: `${server.url}/`, nix: `${server.url}/{view}` },
    tokens: { issuer: server.url, audiences: [server.url], jwks: { keys: [] } },
  });
  expect(answer.headers["cache-control"]).toContain("max-age");
  const known = await server.send("GET", `/_flywheel/v1/discover?issuer=${world.issuer.issuer}`, {
    headers: { "if-none-match": answer.headers.etag ?? "" },
  });
  expect(known.status).toBe(304);
  const host = await server.send("GET", "/_flywheel/v1/discover", {
    headers: { host: "evil.example" },
  });
  expect(host.json()["audience"]).toBe(server.url);
});

test("with an RSA key, exchanged tokens can be verified elsewhere with what discover publishes", async () => {
  const { privateKey, publicKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  const tokenKey: TokenKey = { algorithm: "RS256", privateKey, publicKey };
  await using world = await startIdentityServer({ parts: { tokenKey } });
  const { server, issuer, exchange } = world;
  const token = text((await exchange({ token: issuer.mint(MAIN_JOB) })).json()["token"]);
  const { tokens } = (await server.send("GET", "/_flywheel/v1/discover")).json() as {
    tokens: { issuer: string; audiences: string[]; jwks: { keys: Record<string, string>[] } };
  };
  const [key = {}] = tokens.jwks.keys;
  expect(Object.keys(key).toSorted()).toEqual(["alg", "e", "kid", "kty", "n", "use"]);
  expect(decodeTokenUnverified(token)?.header).toMatchObject({ alg: "RS256", kid: key["kid"] });
  const elsewhere = createTokenVerifier({
    keys: [
      { algorithm: "RS256", kid: key["kid"], publicKey: createPublicKey({ format: "jwk", key }) },
    ],
    issuer: tokens.issuer,
    audiences: tokens.audiences,
  });
  expect(await elsewhere.verify(token, Date.now())).toMatchObject({
    kind: "valid",
    claims: { grant: { tenant: "acme", run: "9876543210", repository: "acme/site" } },
  });
  expect(logged(world, /HS256/)).toEqual([]);
});

test("with HS256 alone the operator is told what is lost", async () => {
  await using world = await startIdentityServer();
  expect(logged(world, /signed with HS256/)).toHaveLength(1);
});

test("a changed policy counts soon, and a bad one changes nothing and is explained", async () => {
  await using world = await startIdentityServer();
  const { issuer, exchange, policyFile } = world;
  const status = async (): Promise<number> =>
    (await exchange({ token: issuer.mint(STRANGER_JOB) })).status;
  await writeFile(policyFile, "version: 1\nisuers: {}\n");
  await vi.waitFor(() => expect(logged(world, /unusable/)).toHaveLength(1), { timeout: 10_000 });
  expect(String(logged(world, /unusable/)[0]?.fields["error"])).toMatch(/isuers[\s\S]*issuers/);
  expect((await exchange({ token: issuer.mint(MAIN_JOB) })).status).toBe(200);
  expect(await status()).toBe(403);
  await writeFile(policyFile, formatPolicy(issuer.issuer).replace("3001", "6667"));
  await vi.waitFor(async () => expect(await status()).toBe(200), { timeout: 10_000 });
});

test("views that the policy names are there from the start, with its quota, and private", async () => {
  await using world = await startIdentityServer();
  const view = await world.server.index.findView("acme+main");
  expect(view).toMatchObject({ isPublic: false, maxSizeBytes: 5 * 2 ** 30 });
});

test("the policy in docs/how-to/identity.md is a good one", async () => {
  const page = await readFile(new URL("../../../docs/how-to/identity.md", import.meta.url), "utf8");
  const [, policy = ""] = /```yaml\n( *version: 1\n[^`]*)```/.exec(page) ?? [];
  expect(parseTrustPolicy(policy)).toMatchObject({ kind: "valid" });
});

test("without a policy the exchange says that there is none, and how to get in otherwise", async () => {
  await using server = await startTestServer();
  const answer = await server.send("POST", "/_flywheel/v1/exchange", {
    headers: { "content-type": "application/json" },
    body: "{}",
  });
  expect(answer.json()).toMatchObject({ error: "UNSUPPORTED", hint: /trust.policyFile/ });
  const discovered = await server.send("GET", "/_flywheel/v1/discover");
  expect(discovered.json()).not.toHaveProperty("audience");
});

test.each([
  ["a policy that is none", {}, "version: 2"],
  ["no public address beside a public port", { listen: "0.0.0.0:0" }, undefined],
])("the start fails for %s", async (_, settings, policy) => {
  const started = startIdentityServer({
    settings,
    ...(policy === undefined ? {} : { policy: () => policy }),
  });
  await expect(started).rejects.toMatchObject({ code: "CONFIG" });
});

test("a job that was revoked is told so, and nobody else; a new run of the same repository goes on", async () => {
  await using world = await startIdentityServer();
  const { server, issuer, exchange } = world;
  const admin = await server.token({}, { isAdmin: true });
  const revoke = (selection: object): Promise<unknown> =>
    postJson(server, admin, "/_flywheel/v1/revocations", selection);
  const run = text(MAIN_JOB["run_id"]);
  await revoke({ run });

  const refused = await exchange({ token: issuer.mint(MAIN_JOB) });

  expect(refused.status).toBe(403);
  expect(refused.json()).toMatchObject({
    error: "FORBIDDEN",
    reason: "revoked",
    hint: expect.stringContaining("unquarantine"),
  });
  expect(logged(world, /refused an identity/)).toMatchObject([
    { fields: { reason: "revoked", run } },
  ]);
  const next = { ...MAIN_JOB, run_id: "999" };
  expect((await exchange({ token: issuer.mint(next) })).status).toBe(200);
  // Whoever the policy gives nothing learns nothing of revocations either.
  const stranger = issuer.mint({ ...STRANGER_JOB, run_id: run });
  expect((await exchange({ token: stranger })).json()).toMatchObject({ reason: "nothing-granted" });

  const granted = (await exchange({ token: issuer.mint(next) })).json();
  await revoke({ principal: decodeTokenUnverified(text(granted["token"]))?.payload["sub"] });
  expect((await exchange({ token: issuer.mint(next) })).json()).toMatchObject({
    reason: "revoked",
  });
});

test("a name that was confirmed long ago must be confirmed anew, and the operator is told how", async () => {
  const day = (ageDays: number): string =>
    new Date(Date.now() - ageDays * 86_400_000).toISOString().slice(0, 10);
  const policy = (issuer: string, confirmed = day(40)): string => {
    const trusted = { refs: ["refs/heads/main"] };
    const scope = { issuer: "forge", organization: { name: "acme", confirmed }, trusted };
    const issuers = { forge: { kind: "forgejo", issuer } };
    return JSON.stringify({
      version: 1,
      issuers,
      defaultTenant: { views: { main: {} }, scopes: [scope] },
    });
  };
  await using world = await startIdentityServer({ policy });
  const { issuer, exchange, policyFile } = world;
  const job = { owner: "acme", ownerId: 1, repository: "acme/site", repositoryId: 2 };
  const ask = () => exchange({ token: issuer.mint(forgejoClaims({ ...job, hasIds: false })) });

  const refused = await ask();

  expect(refused.status).toBe(403);
  expect(refused.json()).toMatchObject({ reason: "nothing-granted" });
  expect(logged(world, /refused an identity/)).toMatchObject([
    {
      fields: {
        reason: "confirm-again",
        owner: "acme",
        detail: expect.stringContaining(
          `set defaultTenant.scopes[0].organization.confirmed to ${day(0)}`,
        ),
      },
    },
  ]);
  await writeFile(policyFile, policy(issuer.issuer, day(0)));
  await expect.poll(async () => (await ask()).status).toBe(200);
});

test("a job learns the keys of its views' upstreams, and no others, with its view's own last", async () => {
  await using world = await startIdentityServer();
  const { server, issuer, exchange } = world;
  const keysFor = async (job: Claims): Promise<unknown> =>
    (await exchange({ token: issuer.mint(job) })).json()["nix"];
  await keysFor(MAIN_JOB);
  const upstream = await server.index.createUpstream({
    ...{ name: "up", url: "https://cache.example/", publicKeys: ["up-1:AAAA"] },
    ...{ authorization: undefined, onlyViewId: undefined, storeDir: "/nix/store" },
    ...{ priority: 40, maxSizeBytes: undefined, createdAtMs: 0 },
  });
  const main = await server.index.findView("acme+main");
  await server.index.setViewUpstreams(main?.id ?? 0, [upstream.id]);

  const own = expect.stringMatching(/^acme\+main/);
  expect(await keysFor(MAIN_JOB)).toMatchObject({ publicKeys: ["up-1:AAAA", own] });
  expect(await keysFor(REVIEW_JOB)).toMatchObject({
    publicKeys: ["up-1:AAAA", expect.stringMatching(/^acme\+main_/), own],
  });
  await server.index.updateView("acme+main", { signsUpstream: true });
  expect(await keysFor(MAIN_JOB)).toMatchObject({ publicKeys: [own] });
  // Read through the overlay, behind which the view signs.
  expect(await keysFor(REVIEW_JOB)).toMatchObject({
    publicKeys: [expect.stringMatching(/^acme\+main_/), own],
  });
});
