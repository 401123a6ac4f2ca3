import {
  narInfoFingerprint,
  parseNarInfo,
  parsePublicKey,
  verifySignature,
} from "@glorious/nix-store";
import { githubClaims } from "@glorious/testkit";
import { expect, test } from "vitest";

import {
  type Claims,
  type ExchangedJob,
  exchangeJob,
  type IdentityServer,
  startIdentityServer,
  STRANGER_JOB,
} from "./identity-policy.ts";
import { createTestPath, type TestPath } from "./test-path.ts";
import type { TestAnswer } from "./test-server.ts";
import { postJson, pushAttic } from "./uploads.ts";

const SITE = { owner: "acme", ownerId: 1001, repository: "acme/site", repositoryId: 2001 };
const QUEUE = "refs/heads/gh-readonly-queue/main/pr-12-6f1ed002";
const REVOCATIONS = "/_flywheel/v1/revocations";

const queueJob = (more: Partial<Parameters<typeof githubClaims>[0]> = {}): Claims =>
  githubClaims({ ...SITE, ref: QUEUE, event: "merge_group", runId: 70, ...more });
const landingJob = (more: Partial<Parameters<typeof githubClaims>[0]> = {}): Claims =>
  githubClaims({ ...SITE, runId: 71, ...more });

function policy(issuer: string, scope: object = {}, main: object = {}): string {
  const trusted = { refs: ["refs/heads/main"] };
  const site = { issuer: "forge", repository: { id: "2001" }, trusted, adoptMergeQueue: true };
  return JSON.stringify({
    version: 1,
    issuers: { forge: { kind: "github", issuer } },
    tenants: { acme: { views: { main }, scopes: [{ ...site, ...scope }] } },
  });
}

interface Job extends ExchangedJob {
  readonly push: (path: TestPath) => Promise<TestAnswer>;
  readonly read: (path: TestPath) => Promise<TestAnswer>;
}

async function startJob(world: IdentityServer, claims: Claims): Promise<Job> {
  const job = await exchangeJob(world, claims);
  const { server } = world;
  const { token, write } = job;
  return {
    ...job,
    push: (path) => pushAttic(server, token, write, path),
    read: (path) => server.send("GET", `/acme+main/${path.storePathHash}.narinfo`, { token }),
  };
}

async function readMetric({ server }: IdentityServer, name: string): Promise<number> {
  const { text } = await server.send("GET", "/metrics");
  return Number(new RegExp(`^${name} (\\d+)$`, "m").exec(text)?.[1]);
}

test("a push of the queue's very commit takes over what the queue built, signed with the view's own key", async () => {
  await using world = await startIdentityServer({ policy });
  const queue = await startJob(world, queueJob());
  expect(queue.write).toMatch(/^acme\+main_ref-/);
  const [lib, app] = [await createTestPath("lib"), await createTestPath("app")];
  await queue.push(lib);
  await queue.push(app);
  const before = await startJob(world, landingJob({ commit: "0".repeat(40) }));
  expect(before.notices).toEqual([]);
  expect((await before.read(app)).status).toBe(404);

  const landing = await startJob(world, landingJob());

  expect(landing.notices).toEqual([
    `Adopted 2 entries of ${queue.write}, which the merge queue built from this very commit.`,
  ]);
  const text = (await landing.read(app)).text;
  const info = parseNarInfo(text);
  const view = await world.server.index.findView("acme+main");
  const [key] = await world.server.index.listSigningKeys(view?.id ?? 0);
  const publicKey = parsePublicKey(key?.publicKey ?? "");
  expect(verifySignature([publicKey], narInfoFingerprint(info), info.signatures[0] ?? "")).toBe(
    true,
  );
  const { token } = landing;
  expect((await world.server.send("GET", `/acme+main/${info.url}`, { token })).status).toBe(200);
  expect(await readMetric(world, "flywheel_adopted_entries_total")).toBe(2);
  expect(world.server.logs).toContainEqual(
    expect.objectContaining({
      message: "took over what a merge queue built",
      fields: expect.objectContaining({ entries: 2, overlays: [queue.write], run: "71" }),
    }),
  );
  // Once is enough, and what is left of the overlay changes nothing.
  expect((await startJob(world, landingJob())).notices).toEqual([]);
  await world.server.index.deleteView(queue.write);
  expect((await landing.read(app)).text).toBe(text);
});

test("both runs stand in the record, and revoking either takes what was adopted away", async () => {
  for (const run of ["70", "71"]) {
    await using world = await startIdentityServer({ policy });
    const { server } = world;
    const admin = await server.token({}, { isAdmin: true });
    const queue = await startJob(world, queueJob());
    const path = await createTestPath("tool");
    await queue.push(path);
    server.advance(1000);
    const landing = await startJob(world, landingJob());
    const audit = await server.send("GET", `/_flywheel/v1/audit/paths/${path.storePathHash}`, {
      token: admin,
    });
    expect(audit.json()["views"]).toMatchObject([
      {
        view: "acme+main",
        writers: expect.arrayContaining([
          expect.objectContaining({ run: "70", trust: "overlay", adoptedFrom: queue.write }),
          expect.objectContaining({ run: "71", trust: "trusted" }),
        ]),
      },
      { view: queue.write, writers: [{ run: "70" }] },
    ]);
    expect(audit.text).not.toContain("offers");

    const revoked = await postJson(server, admin, REVOCATIONS, { run });

    expect(revoked.json()["samples"]).toContainEqual(
      expect.objectContaining({ view: "acme+main", name: path.storePathHash }),
    );
    const other = await startJob(world, landingJob({ runId: 99 }));
    const hidden = `/acme+main/${path.storePathHash}.narinfo`;
    const status = (await server.send("GET", hidden, { token: other.token })).status;
    // Who adopted it was wrong, not what the queue built: another push may take it over.
    expect([run, status]).toEqual([run, run === "70" ? 404 : 200]);
    expect((await landing.read(path)).status).toBe(run === "71" ? 401 : 404);
  }
});

test.each([
  ["another commit", landingJob({ commit: "0".repeat(40) })],
  ["another workflow", landingJob({ workflow: "release.yml" })],
  ["a pull request", landingJob({ ref: "refs/pull/12/merge", event: "pull_request" })],
  ["another branch", landingJob({ ref: "refs/heads/topic" })],
  ["a schedule", landingJob({ event: "schedule" })],
])("%s takes nothing over", async (_title, claims) => {
  await using world = await startIdentityServer({ policy });
  const path = await createTestPath("app");
  await (await startJob(world, queueJob())).push(path);

  expect((await startJob(world, claims)).notices).toEqual([]);

  const main = await world.server.index.findView("acme+main");
  expect(await world.server.index.findPath([main?.id ?? 0], path.storePathHash)).toBeUndefined();
});

test("the policy's switch turns it off", async () => {
  await using world = await startIdentityServer({
    policy: (issuer) => policy(issuer, { adoptMergeQueue: false }),
  });
  const path = await createTestPath("app");
  await (await startJob(world, queueJob())).push(path);
  const landing = await startJob(world, landingJob());
  expect(landing.notices).toEqual([]);
  expect((await landing.read(path)).status).toBe(404);
});

test("what another workflow of the queue's run wrote stays in the overlay", async () => {
  await using world = await startIdentityServer({ policy });
  const [mine, other] = [await createTestPath("mine"), await createTestPath("other")];
  await (await startJob(world, queueJob())).push(mine);
  await (await startJob(world, queueJob({ workflow: "lint.yml", runId: 72 }))).push(other);

  const landing = await startJob(world, landingJob());

  expect((await landing.read(mine)).status).toBe(200);
  expect((await landing.read(other)).status).toBe(404);
});

test("what the view has with other bytes stays, and the log says how many", async () => {
  await using world = await startIdentityServer({ policy });
  const queue = await startJob(world, queueJob());
  await queue.push(await createTestPath("tool", "the queue's"));
  await queue.push(await createTestPath("fine"));
  const before = await startJob(world, landingJob({ commit: "0".repeat(40) }));
  const own = await createTestPath("tool", "main's");
  await before.push(own);

  const landing = await startJob(world, landingJob());

  expect(landing.notices).toEqual([expect.stringContaining("Adopted 1 entry of")]);
  expect(parseNarInfo((await landing.read(own)).text).narSize).toBe(own.nar.length);
  expect(world.server.logs).toContainEqual(
    expect.objectContaining({ fields: expect.objectContaining({ entries: 1, conflicts: 1 }) }),
  );
});

test("a view that would be over its limit takes nothing over, and loses nothing", async () => {
  await using world = await startIdentityServer({
    policy: (issuer) => policy(issuer, {}, { quota: "200 B" }),
  });
  const { server } = world;
  const own = await createTestPath("own");
  const landing = await startJob(world, landingJob({ commit: "0".repeat(40) }));
  await landing.push(own);
  const queue = await startJob(world, queueJob());
  for (const name of ["a", "b", "c"]) await queue.push(await createTestPath(name));

  const { notices } = await startJob(world, landingJob());

  expect(notices).toEqual([
    expect.stringMatching(/^Adopted 0 entries .*no room for the others\.$/),
  ]);
  expect((await landing.read(own)).status).toBe(200);
  expect(server.logs).toContainEqual(
    expect.objectContaining({ fields: expect.objectContaining({ state: "full" }) }),
  );
  await server.index.updateView("acme+main", { maxSizeBytes: 10_000 });
  const { notices: later } = await startJob(world, landingJob());
  expect(later).toEqual([expect.stringContaining("Adopted 3 entries")]);
});

test("a stranger with the same commit gets nothing", async () => {
  await using world = await startIdentityServer({ policy });
  await (await startJob(world, queueJob())).push(await createTestPath("app"));
  const answer = await world.exchange({ token: world.issuer.mint(STRANGER_JOB) });
  expect(answer.status).toBe(403);
  expect(answer.text).not.toContain("acme");
});
