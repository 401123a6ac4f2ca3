import { writeFile } from "node:fs/promises";
import { join } from "node:path";

import {
  createTemporaryDirectory,
  type IssuerConduct,
  kubernetesClaims,
  startIssuer,
} from "@glorious/testkit";
import { expect, test } from "vitest";

import {
  formatPolicy,
  type IdentityServer,
  MAIN_JOB,
  startIdentityServer,
} from "./identity-policy.ts";
import { startTestServer, type TestAnswer } from "./test-server.ts";

const MINUTE_MS = 60_000;

/** The world with a clock of its own: tokens are made at the server's time. */
function follow(world: IdentityServer) {
  let passedMs = 0;
  return {
    advance: (ms: number): void => {
      passedMs += ms;
      world.server.advance(ms);
    },
    exchange: (options: { readonly key?: IdentityServer["issuer"]["keys"][number] } = {}) =>
      world.exchange({
        token: world.issuer.mint(MAIN_JOB, { issuedAtMs: Date.now() + passedMs, ...options }),
      }),
  };
}

function noticesOf(answer: TestAnswer): unknown {
  return answer.json()["notices"];
}

test("while a known issuer is away its known keys are used, and the answer says so, for a day at most", async () => {
  await using world = await startIdentityServer();
  const { advance, exchange } = follow(world);
  const before = await exchange();
  expect([before.status, noticesOf(before)]).toEqual([200, []]);

  await world.issuer.conduct("refuse");
  expect(noticesOf(await exchange())).toEqual([]);
  advance(11 * MINUTE_MS);
  const during = await exchange();
  expect([during.status, noticesOf(during)]).toEqual([
    200,
    [expect.stringMatching(/issuer does not answer.*keys of 11 ?m/)],
  ]);
  const { token } = before.json();
  const held = await world.server.send("GET", "/acme+main/nix-cache-info", {
    token: String(token),
  });
  expect(held.status).toBe(200);

  advance(24 * 60 * MINUTE_MS);
  const after = await exchange();
  expect(after.json()).toMatchObject({ code: 503, error: "UNAVAILABLE" });
  expect(after.headers["retry-after"]).toBeDefined();

  await world.issuer.conduct("well");
  advance(MINUTE_MS);
  const again = await exchange();
  expect([again.status, noticesOf(again)]).toEqual([200, []]);
});

test.each<IssuerConduct>([
  "refuse",
  "fail",
  "garbage",
  "enormous",
  "redirect",
  "impostor",
  "duplicate",
])("an issuer that answers with %j is one that does not answer", async (conduct) => {
  await using world = await startIdentityServer();
  const { advance, exchange } = follow(world);
  await world.issuer.conduct(conduct);
  expect((await exchange()).json()).toMatchObject({ error: "UNAVAILABLE" });
  // Left alone for half a minute, and then asked again.
  const asked = world.issuer.keyRequests;
  await world.issuer.conduct("well");
  expect((await exchange()).status).toBe(503);
  expect(world.issuer.keyRequests).toBe(asked);
  advance(MINUTE_MS);
  expect((await exchange()).status).toBe(200);
  await world.issuer.conduct(conduct);
  advance(11 * MINUTE_MS);
  expect(noticesOf(await exchange())).toHaveLength(1);
});

test("an issuer that never ends its answer is given up, for all who wait at once, and others are served meanwhile", async () => {
  await Promise.all(
    (["hang", "drip"] as const).map(async (conduct) => {
      await using world = await startIdentityServer();
      const { exchange } = follow(world);
      await world.issuer.conduct(conduct);
      const waiting = [exchange(), exchange(), exchange()];
      const health = await world.server.send("GET", "/healthz");
      expect(health.status).toBe(200);
      const statuses = (await Promise.all(waiting)).map(({ status }) => status);
      expect(statuses).toEqual([503, 503, 503]);
      expect(world.issuer.keyRequests).toBeLessThanOrEqual(1);
    }),
  );
});

test("a new key is found at once, and unknown ones make no more than one request a minute", async () => {
  await using world = await startIdentityServer();
  const { advance, exchange } = follow(world);
  await exchange();
  const [old] = world.issuer.keys;
  if (old === undefined) throw new Error("The issuer has no key");

  await world.issuer.rotate({ keepsOld: true });
  expect((await exchange()).status).toBe(200);
  expect((await exchange({ key: old })).status).toBe(200);

  const asked = world.issuer.keyRequests;
  await world.issuer.rotate({ algorithm: "ES256" });
  for (let count = 0; count < 20; count += 1) {
    expect((await exchange()).json()).toMatchObject({ code: 401, reason: "not-accepted" });
  }
  expect(world.issuer.keyRequests).toBe(asked);
  advance(MINUTE_MS);
  expect((await exchange()).status).toBe(200);
  // What the issuer does not publish any more is no key any more.
  expect((await exchange({ key: old })).status).toBe(401);
});

test("a key that nobody knows while the issuer is away is no refusal: nobody can tell", async () => {
  await using world = await startIdentityServer();
  const { exchange } = follow(world);
  await exchange();
  await world.issuer.rotate();
  await world.issuer.conduct("refuse");
  expect((await exchange()).json()).toMatchObject({ error: "UNAVAILABLE" });
});

test("a restart while the issuer is away changes nothing", async () => {
  await using directory = await createTemporaryDirectory();
  await using issuer = await startIssuer();
  const policy = join(directory.path, "policy.json");
  await writeFile(policy, formatPolicy(issuer.issuer));
  const settings = { dataDirectory: directory.path, trustPolicyFile: policy };
  const exchange = async (): Promise<TestAnswer> => {
    await using server = await startTestServer(settings);
    issuer.audience = server.url;
    return await server.send("POST", "/_flywheel/v1/exchange", {
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ token: issuer.mint(MAIN_JOB) }),
    });
  };
  expect((await exchange()).status).toBe(200);
  await issuer.conduct("refuse");
  expect((await exchange()).status).toBe(200);
});

test("a cluster's keys may come from a file, beside the policy, and change there", async () => {
  await using cluster = await startIssuer();
  const account = {
    namespace: "runners",
    name: "acme",
    uid: "5e0bd49b-f040-43b0-99b7-22765a53f7f3",
  };
  const issuer = "https://kubernetes.default.svc.cluster.local";
  await using world = await startIdentityServer({
    policy: () =>
      JSON.stringify({
        version: 1,
        issuers: { cluster: { kind: "kubernetes", issuer, jwksFile: "keys.json" } },
        tenants: {
          acme: {
            views: { main: {} },
            scopes: [
              {
                issuer: "cluster",
                serviceAccount: { namespace: "runners", name: "acme" },
                untrusted: "read",
              },
            ],
          },
        },
      }),
  });
  const { server, exchange, policyFile } = world;
  const file = join(policyFile, "..", "keys.json");
  const token = (): string =>
    cluster.mint({ ...kubernetesClaims(account), iss: issuer }, { audience: [server.url] });
  expect((await exchange({ token: token() })).status).toBe(503);
  await writeFile(file, cluster.keySetText());
  server.advance(MINUTE_MS);
  expect((await exchange({ token: token() })).json()).toMatchObject({
    grant: { tenant: "acme", trust: "untrusted", read: ["acme+main"] },
  });
  await cluster.rotate();
  await writeFile(file, cluster.keySetText());
  expect((await exchange({ token: token() })).status).toBe(200);
});
