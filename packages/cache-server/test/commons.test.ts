import { writeFile } from "node:fs/promises";

import {
  narInfoFingerprint,
  parseNarInfo,
  parsePublicKey,
  verifySignature,
} from "@glorious/nix-store";
import { githubClaims } from "@glorious/testkit";
import { expect, test } from "vitest";

import { exchangeJob, type IdentityServer, startIdentityServer } from "./identity-policy.ts";
import { createAddressedPath, createTestPath, type TestPath } from "./test-path.ts";
import type { TestAnswer } from "./test-server.ts";
import { postJson, pushAttic } from "./uploads.ts";

const TENANTS = { acme: 2001, globex: 3001, initech: 4001, hooli: 5001 } as const;
type Tenant = keyof typeof TENANTS;

interface PolicyChanges {
  readonly contributes?: Partial<Record<Tenant, "agreed" | "content-addressed">>;
  readonly tenants?: number;
}

/** Acme and globex contribute, initech only reads, hooli does neither. */
function formatPolicy(issuer: string, changes: PolicyChanges = {}): string {
  const { contributes = { acme: "agreed", globex: "agreed" }, tenants } = changes;
  const trusted = { refs: ["refs/heads/main"] };
  const entries = Object.entries(TENANTS).map(([name, id]) => [
    name,
    {
      views: {
        main: {
          ...(name === "hooli" ? {} : { reads: ["commons"] }),
          ...(contributes[name as Tenant] && { contributes: contributes[name as Tenant] }),
        },
      },
      scopes: [{ issuer: "forge", repository: { id: String(id) }, trusted, untrusted: "read" }],
    },
  ]);
  return JSON.stringify({
    version: 1,
    issuers: { forge: { kind: "github", issuer } },
    tenants: Object.fromEntries(entries),
    sharedViews: { commons: { agreement: tenants === undefined ? {} : { tenants } } },
  });
}

interface Organization {
  readonly push: (path: TestPath, changes?: object, body?: Uint8Array) => Promise<TestAnswer>;
  readonly read: (path: TestPath) => Promise<TestAnswer>;
  readonly token: string;
}

async function joinAs(
  world: IdentityServer,
  name: Tenant,
  more: Partial<Parameters<typeof githubClaims>[0]> = {},
): Promise<Organization> {
  const repositoryId = TENANTS[name];
  const repository = `${name}/site`;
  const job = await exchangeJob(
    world,
    githubClaims({ owner: name, ownerId: repositoryId + 1, repository, repositoryId, ...more }),
  );
  const { server } = world;
  const { token, write } = job;
  return {
    token,
    push: (path, changes, body) => pushAttic(server, token, write, path, { ...changes }, body),
    read: (path) => server.send("GET", `/${name}+main/${path.storePathHash}.narinfo`, { token }),
  };
}

async function startWorld(changes?: PolicyChanges): Promise<IdentityServer> {
  return startIdentityServer({
    policy: (issuer) => formatPolicy(issuer, changes),
    parts: { timings: { commonsIntervalMs: 10 } },
  });
}

/** Two organizations agree on something new; once it is there, all that came before has been looked at. */
async function settle(world: IdentityServer, ...tenants: readonly [Tenant, Tenant]): Promise<void> {
  const path = await createTestPath(`settled-${crypto.randomUUID()}`);
  for (const name of tenants) await (await joinAs(world, name)).push(path);
  await untilHeld(world, path);
}

async function untilHeld({ server }: IdentityServer, path: TestPath): Promise<void> {
  const view = await server.index.findView("commons");
  await expect.poll(() => server.index.findPath([view?.id ?? 0], path.storePathHash)).toBeDefined();
}

test("what two organizations' trusted jobs built alike is a hit for a third, signed by the commons alone", async () => {
  await using world = await startWorld();
  const { server } = world;
  const [acme, globex, initech, hooli] = await Promise.all([
    joinAs(world, "acme"),
    joinAs(world, "globex"),
    joinAs(world, "initech"),
    joinAs(world, "hooli"),
  ]);
  const lib = await createTestPath("lib");
  const app = await createTestPath("app", "app", [lib.baseName]);
  const sigs = [`acme-1:${Buffer.alloc(64, 1).toString("base64")}`];
  for (const { push } of [acme, globex]) {
    for (const path of [app, lib]) expect((await push(path, { sigs })).status).toBe(200);
  }
  await untilHeld(world, app);

  const answer = await initech.read(app);
  expect(answer.status).toBe(200);
  const info = parseNarInfo(answer.text);
  const view = await server.index.findView("commons");
  const [key] = await server.index.listSigningKeys(view?.id ?? 0);
  expect(info.signatures).toHaveLength(1);
  expect(
    verifySignature(
      [parsePublicKey(key?.publicKey ?? "")],
      narInfoFingerprint(info),
      info.signatures[0] ?? "",
    ),
  ).toBe(true);
  const nar = await server.send("GET", `/initech+main/${info.url}`, { token: initech.token });
  expect(nar.status).toBe(200);
  expect((await initech.read(lib)).status).toBe(200);
  // Who did not ask for it reads none of it.
  expect((await hooli.read(app)).status).toBe(404);
});

test("one organization alone places nothing, however often it builds it and whatever its jobs are", async () => {
  await using world = await startWorld();
  const path = await createTestPath("poisoned");
  await (await joinAs(world, "acme")).push(path);
  await (await joinAs(world, "acme", { runId: 99 })).push(path);
  // A pull request of another one writes an overlay, which is no trusted job's word.
  const review = await joinAs(world, "globex", {
    ref: "refs/pull/7/merge",
    event: "pull_request",
  });
  await review.push(path);
  // Nor is what one who does not contribute built.
  await (await joinAs(world, "initech")).push(path);
  // Nor a person's token.
  const person = await world.server.token({ "globex+main": ["push"] });
  await pushAttic(world.server, person, "globex+main", path);
  await settle(world, "acme", "globex");

  const hooli = await joinAs(world, "hooli");
  const view = await world.server.index.findView("commons");
  expect(await world.server.index.findPath([view?.id ?? 0], path.storePathHash)).toBeUndefined();
  expect((await hooli.read(path)).status).toBe(404);
});

test("builds that differ agree on nothing, and neither do builds with other references", async () => {
  await using world = await startWorld();
  const [acme, globex] = [await joinAs(world, "acme"), await joinAs(world, "globex")];
  const mine = await createTestPath("app", "one build");
  const theirs = await createTestPath("app", "another build");
  expect(mine.storePathHash).toBe(theirs.storePathHash);
  await acme.push(mine);
  await globex.push(theirs);
  const dep = await createTestPath("dep");
  const plain = await createTestPath("tool");
  await acme.push(dep);
  await acme.push(plain, { references: [dep.baseName] });
  await globex.push(plain);
  await settle(world, "acme", "globex");

  const initech = await joinAs(world, "initech");
  expect((await initech.read(mine)).status).toBe(404);
  expect((await initech.read(plain)).status).toBe(404);
});

test("a private path of one organization is not learned by hash, by its NAR, by closure, by asking what is missing, or by explain", async () => {
  await using world = await startWorld();
  const { server } = world;
  const secret = await createTestPath("secret", "nobody else's");
  await (await joinAs(world, "acme")).push(secret);
  await settle(world, "acme", "globex");
  const { token } = await joinAs(world, "globex");
  const absent = await createTestPath("absent");
  const viewId = (await server.index.findView("acme+main"))?.id ?? 0;
  const held = await server.index.findPath([viewId], secret.storePathHash);
  const url = parseNarInfo(held?.narInfo ?? "").url;

  const answers = async (path: TestPath, nar: string): Promise<unknown[]> => {
    const requests = [
      server.send("GET", `/globex+main/${path.storePathHash}.narinfo`, { token }),
      server.send("GET", `/globex+main/${path.storePathHash}.ls`, { token }),
      server.send("GET", `/globex+main/${nar}`, { token }),
      postJson(server, token, "/_flywheel/v1/views/globex+main/closure", {
        roots: [path.storePathHash],
      }),
      postJson(server, token, "/_api/v1/get-missing-paths", {
        cache: "globex+main",
        store_path_hashes: [path.storePathHash],
      }),
      server.send("GET", `/_flywheel/v1/commons/paths/${path.storePathHash}`, { token }),
    ];
    return (await Promise.all(requests)).map(({ status, text }) => [
      status,
      text
        .replaceAll(path.storePathHash, "<hash>")
        .replaceAll(nar, "<nar>")
        .replace(/"requestId":"\w+"/, ""),
    ]);
  };
  expect(await answers(secret, url)).toEqual(
    await answers(absent, `nar/${"0".repeat(52)}.nar.zst`),
  );
});

test("a path waits for the references its builders have, and comes when they have come", async () => {
  await using world = await startWorld();
  const [acme, globex] = [await joinAs(world, "acme"), await joinAs(world, "globex")];
  const lib = await createTestPath("lib");
  const app = await createTestPath("app", "app", [lib.baseName]);
  await acme.push(lib);
  for (const { push } of [acme, globex]) await push(app);
  await settle(world, "acme", "globex");
  const initech = await joinAs(world, "initech");
  expect((await initech.read(app)).status).toBe(404);
  const admin = await world.server.token({}, { isAdmin: true });
  const explained = await world.server.send(
    "GET",
    `/_flywheel/v1/commons/paths/${app.storePathHash}`,
    {
      token: admin,
    },
  );
  expect(explained.json()).toMatchObject({
    view: "commons",
    tenantsNeeded: 2,
    isHeld: false,
    versions: [
      {
        views: ["acme+main", "globex+main"],
        tenants: 2,
        missingReferences: [lib.storePathHash],
      },
    ],
  });

  await globex.push(lib);

  await untilHeld(world, app);
  expect((await initech.read(app)).status).toBe(200);
});

test("a revocation takes back at once what stood on the revoked one's word, and lifting it gives it again", async () => {
  await using world = await startWorld();
  const { server } = world;
  const [acme, globex] = [
    await joinAs(world, "acme", { runId: 41 }),
    await joinAs(world, "globex"),
  ];
  const path = await createTestPath("tool");
  await acme.push(path);
  await globex.push(path);
  await untilHeld(world, path);
  const initech = await joinAs(world, "initech");
  expect((await initech.read(path)).status).toBe(200);
  const admin = await server.token({}, { isAdmin: true });

  const revoked = await postJson(server, admin, "/_flywheel/v1/revocations", { run: "41" });

  expect(revoked.status).toBe(200);
  expect((await initech.read(path)).status).toBe(404);
  expect((await globex.read(path)).status).toBe(200);
  await settle(world, "acme", "globex");
  expect((await initech.read(path)).status).toBe(404);
  const { id } = revoked.json();
  const lifted = await server.send("DELETE", `/_flywheel/v1/revocations/${String(id)}`, {
    token: admin,
  });
  expect(lifted.status).toBe(200);
  await untilHeld(world, path);
  expect((await initech.read(path)).status).toBe(200);
});

test("who has agreed and only collected the path keeps its word; who has withdrawn from the commons does not", async () => {
  await using world = await startWorld();
  const { server, issuer, policyFile } = world;
  const path = await createTestPath("tool");
  for (const name of ["acme", "globex"] as const) await (await joinAs(world, name)).push(path);
  await untilHeld(world, path);
  const view = await server.index.findView("acme+main");
  await server.index.deletePath(view?.id ?? 0, path.storePathHash, 0);
  const admin = await server.token({}, { isAdmin: true });
  // Everything is looked at again after any revocation.
  await postJson(server, admin, "/_flywheel/v1/revocations", { run: "12345" });
  const initech = await joinAs(world, "initech");
  expect((await initech.read(path)).status).toBe(200);

  await writeFile(
    policyFile,
    formatPolicy(issuer.issuer, { contributes: { globex: "agreed", initech: "agreed" } }),
  );

  await expect.poll(async () => (await initech.read(path)).status).toBe(404);
});

test("three organizations must agree where the policy says so", async () => {
  await using world = await startWorld({
    tenants: 3,
    contributes: { acme: "agreed", globex: "agreed", initech: "agreed" },
  });
  const path = await createTestPath("tool");
  for (const name of ["acme", "globex"] as const) await (await joinAs(world, name)).push(path);
  const admin = await world.server.token({}, { isAdmin: true });
  const explain = async (): Promise<Record<string, unknown>> => {
    const where = `/_flywheel/v1/commons/paths/${path.storePathHash}`;
    return (await world.server.send("GET", where, { token: admin })).json();
  };
  expect(await explain()).toMatchObject({ isHeld: false, versions: [{ tenants: 2 }] });
  await (await joinAs(world, "initech")).push(path);
  await untilHeld(world, path);
  expect(await explain()).toMatchObject({
    isHeld: true,
    heldBy: "agreement",
    votes: [{ tenant: "acme" }, { tenant: "globex" }, { tenant: "initech" }],
  });
});

test.each(["nar", "text", "flat"] as const)(
  "a path that its %s content names needs one organization that offers such paths, and a forged one is not taken",
  async (method) => {
    await using world = await startWorld({
      contributes: { acme: "content-addressed", globex: "agreed" },
    });
    const { path, ca } = await createAddressedPath("source", "int main() {}", method);
    const forged = await createAddressedPath("evil", "the named text", method);
    const other = await createTestPath("evil", "another text");
    const notOffered = await createAddressedPath("theirs", "not offered", method);
    const [acme, globex] = [await joinAs(world, "acme"), await joinAs(world, "globex")];
    await acme.push(path, { ca });
    await acme.push({ ...other, ...pick(forged.path) }, { ca: forged.ca });
    await globex.push(notOffered.path, { ca: notOffered.ca });
    await untilHeld(world, path);
    await settle(world, "acme", "globex");

    const initech = await joinAs(world, "initech");
    expect(parseNarInfo((await initech.read(path)).text).ca).toBe(ca);
    expect((await initech.read(forged.path)).status).toBe(404);
    expect((await initech.read(notOffered.path)).status).toBe(404);
  },
);

function pick({ storePath, storePathHash, baseName }: TestPath): Partial<TestPath> {
  return { storePath, storePathHash, baseName };
}

test("explain tells a tenant of its own view alone, and nobody else anything", async () => {
  await using world = await startWorld();
  const path = await createTestPath("tool");
  const [acme, globex] = [await joinAs(world, "acme"), await joinAs(world, "globex")];
  await acme.push(path);
  await globex.push(path);
  await untilHeld(world, path);
  const where = `/_flywheel/v1/commons/paths/${path.storePathHash}`;
  const ask = (token?: string): Promise<TestAnswer> =>
    world.server.send("GET", where, token === undefined ? {} : { token });

  expect((await ask(acme.token)).json()).toMatchObject({
    isHeld: true,
    votes: [{ view: "acme+main" }],
    versions: [{ views: ["acme+main"], tenants: 1 }],
  });
  const hooli = await joinAs(world, "hooli");
  expect((await ask(hooli.token)).status).toBe(403);
  expect((await ask()).status).toBe(401);
});

test("explain tells who only contributes nothing of what the commons has", async () => {
  await using world = await startWorld({
    contributes: { acme: "agreed", globex: "agreed", hooli: "agreed" },
  });
  const [acme, globex] = [await joinAs(world, "acme"), await joinAs(world, "globex")];
  const hooli = await joinAs(world, "hooli");
  const [there, absent] = [await createTestPath("there"), await createTestPath("absent")];
  for (const { push } of [acme, globex]) await push(there);
  await untilHeld(world, there);
  const told = await Promise.all(
    [there, absent].map(async (reference) => {
      const guess = await createTestPath(`uses-${reference.baseName}`, "x", [reference.baseName]);
      for (const path of [reference, guess]) await hooli.push(path);
      const where = `/_flywheel/v1/commons/paths/${guess.storePathHash}`;
      const { isHeld, versions } = (await world.server.send("GET", where, hooli)).json() as {
        isHeld: boolean;
        versions: readonly { missingReferences: readonly string[] }[];
      };
      return { isHeld, missing: versions.map(({ missingReferences }) => missingReferences) };
    }),
  );
  expect(told[0]).toEqual({ isHeld: false, missing: [[]] });
  expect(told[1]).toEqual(told[0]);
});

test("without a commons in the policy nothing is explained", async () => {
  await using world = await startIdentityServer();
  const admin = await world.server.token({}, { isAdmin: true });
  const where = `/_flywheel/v1/commons/paths/${"0".repeat(32)}`;
  const answer = await world.server.send("GET", where, { token: admin });
  expect(answer.status).toBe(404);
  expect(answer.text).toContain("no commons");
});
