import { generateKeyPairSync } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import path from "node:path";

import {
  type Claims,
  type CommandResult,
  CLUSTER_ISSUER,
  createTemporaryDirectory,
  describeEachNix,
  findNixVersions,
  forgejoClaims,
  githubClaims,
  gitlabClaims,
  type IdentityWorld,
  kubernetesClaims,
  startIdentityWorld,
  startTestJob,
  TEST_FORGES,
  type TestForge,
} from "@glorious/testkit";
import { decodeTokenUnverified } from "@glorious/trust";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { buildWithNix as build, type Machine, startMachine } from "./job-machine.ts";

/** A run of one project, as each forge says it. */
interface Runs {
  readonly main: Claims;
  readonly review: Claims;
  /** Code that a stranger wrote, or may have caused to run. */
  readonly fork: Claims;
}

const PROJECT = { owner: "acme", ownerId: 1001, repository: "acme/site", repositoryId: 2001 };
const STRANGER = { owner: "mallory", ownerId: 666, repository: "mallory/site", repositoryId: 667 };
const REVIEW = { ref: "refs/pull/12/merge", event: "pull_request" };
const LAB_PROJECT = { project: "acme/site", projectId: 2001, namespaceId: 1001 };
const LAB_REVIEW = {
  source: "merge_request_event",
  ref: "feature",
  refPath: "refs/merge-requests/12/head",
};

const RUNS: Readonly<Record<TestForge, Runs>> = {
  github: {
    main: githubClaims(PROJECT),
    review: githubClaims({ ...PROJECT, ...REVIEW }),
    fork: githubClaims({ ...PROJECT, event: "pull_request_target" }),
  },
  gitlab: {
    main: gitlabClaims(LAB_PROJECT),
    review: gitlabClaims({ ...LAB_PROJECT, ...LAB_REVIEW }),
    fork: gitlabClaims({
      ...{ project: "mallory/site", projectId: 667, namespaceId: 666 },
      ...{ jobProject: "acme/site", jobProjectId: 2001, jobNamespaceId: 1001 },
      ...LAB_REVIEW,
    }),
  },
  forgejo: {
    main: forgejoClaims({ ...PROJECT, hasIds: true }),
    review: forgejoClaims({ ...PROJECT, ...REVIEW, hasIds: true }),
    fork: forgejoClaims({ ...PROJECT, event: "pull_request_target", hasIds: true }),
  },
};

const TENANTS = Object.fromEntries(
  TEST_FORGES.map((forge) => [
    forge,
    {
      views: { main: {} },
      scopes: [
        {
          issuer: forge,
          repository: { id: "2001" },
          trusted: { refs: ["refs/heads/main"] },
          untrusted: "read",
        },
        // The runners of the same tenant: what a fork's job has to show.
        ...(forge === "github"
          ? [
              {
                issuer: "cluster",
                serviceAccount: { namespace: "ci", name: "runner" },
                untrusted: "read",
              },
            ]
          : []),
      ],
    },
  ]),
);

describeEachNix("a job's identity", (version) => {
  let world: IdentityWorld;
  beforeAll(async () => {
    world = await startIdentityWorld({ tenants: TENANTS });
  });
  afterAll(() => world[Symbol.asyncDispose]());

  test.each(TEST_FORGES)(
    "on %s: main writes for all, a review reads it and writes aside, a fork reads, a stranger is nobody",
    async (forge) => {
      const start = (claims: Claims): Promise<Machine> =>
        startMachine(version, world, world.jobEnvironment(forge, claims));
      const runs = RUNS[forge];

      await using main = await start(runs.main);
      expect(main.exchanged.grant).toMatchObject({ trust: "trusted", write: `${forge}+main` });
      const released = await build(main.sandbox, "released");
      expect(await main.push(released)).toMatchObject({ status: 0 });
      await using later = await start(runs.main);
      expect(await later.pulls(released)).toBe(true);

      await using review = await start(runs.review);
      expect(review.exchanged.grant.trust).toBe("overlay");
      expect(await review.pulls(released)).toBe(true);
      const proposed = await build(review.sandbox, "proposed");
      expect(await review.push(proposed)).toMatchObject({ status: 0 });
      await using secondReview = await start(runs.review);
      expect(await secondReview.pulls(proposed)).toBe(true);
      await using afterwards = await start(runs.main);
      expect(await afterwards.pulls(proposed)).toBe(false);

      await using fork = await start(runs.fork);
      expect(fork.exchanged.grant).toMatchObject({ trust: "untrusted", read: [`${forge}+main`] });
      expect(await fork.pulls(released)).toBe(true);
      expect(await fork.pulls(proposed)).toBe(false);
      const refused = await fork.push(await build(fork.sandbox, "poison"));
      expect([refused.status, refused.stderr]).toEqual([1, expect.stringMatching(/permission/)]);
    },
  );

  test("a tenant's job sees nothing of another tenant, whatever it asks for", async () => {
    await using main = await startMachine(
      version,
      world,
      world.jobEnvironment("github", RUNS.github.main),
    );
    const secret = await build(main.sandbox, "secret");
    expect(await main.push(secret)).toMatchObject({ status: 0 });
    await using other = await startMachine(
      version,
      world,
      world.jobEnvironment("gitlab", RUNS.gitlab.main),
    );
    expect(await other.pulls(secret)).toBe(false);
    const from = `${world.server.url}/github+main`;
    const foreign = await other.sandbox.substitute(secret, { from });
    expect(foreign.status).not.toBe(0);
    const asked = ["exchange", "--server", world.server.url, "--view", "github+main"];
    const wider = await other.job.run([...asked, "--output", "wider"]);
    expect([wider.status, wider.stderr]).toEqual([1, expect.stringMatching(/nothing of the kind/)]);
    expect((await other.push(secret)).status).toBe(0);
    await using stranger = await startTestJob(
      world.jobEnvironment("github", githubClaims(STRANGER)),
    );
    const nobody = await stranger.run(["exchange", "--server", world.server.url]);
    expect(nobody.status).toBe(1);
    expect(nobody.stderr).not.toMatch(/acme|tenants|github\+/);
  });

  test("a poisoned run is undone with one command, which names who used it, and is built anew", async () => {
    const start = (runId: number): Promise<Machine> => {
      const claims = { ...RUNS.github.main, run_id: String(runId) };
      return startMachine(version, world, world.jobEnvironment("github", claims));
    };
    const admin = (words: readonly string[]): Promise<CommandResult> =>
      operator.run([
        ...words,
        "--server",
        world.server.url,
        "--token-file",
        world.server.tokenFile,
      ]);
    await using operator = await startTestJob({});
    await using poisoned = await start(666);
    const tool = await build(poisoned.sandbox, "tool");
    expect(await poisoned.push(tool)).toMatchObject({ status: 0 });
    await using victim = await start(7);
    expect(await victim.pulls(tool)).toBe(true);

    const preview = await admin(["revoke", "--run", "666", "--dry-run"]);
    expect([preview.status, preview.stderr]).toEqual([0, expect.stringMatching(/^2 entries/)]);
    const done = await admin(["revoke", "--run", "666", "--yes", "--json"]);
    expect(JSON.parse(done.stdout)).toMatchObject({
      entries: 2,
      consumers: [{ run: "7", repository: "acme/site", entries: 2 }],
    });
    await using later = await start(8);
    expect(await later.pulls(tool)).toBe(false);
    expect((await poisoned.push(tool)).status).toBe(1);
    const audit = await admin(["audit", "path", tool]);
    expect(audit.stdout).toMatch(/hidden +wrote .* acme\/site +666 /);
    expect(audit.stdout).toMatch(/hidden +read .* acme\/site +7 /);

    await using healthy = await start(9);
    expect(await healthy.push(tool)).toMatchObject({ status: 0 });
    await using last = await start(10);
    expect(await last.pulls(tool)).toBe(true);
    expect((await admin(["unquarantine", "1"])).stderr).toMatch(/0 entries are there again/);
  });

  test("a fork's job with nothing but its runner's identity reads, and writes nothing", async () => {
    await using main = await startMachine(
      version,
      world,
      world.jobEnvironment("github", RUNS.github.main),
    );
    const released = await build(main.sandbox, "for-forks");
    expect(await main.push(released)).toMatchObject({ status: 0 });
    await using directory = await createTemporaryDirectory();
    const identityTokenFile = path.join(directory.path, "identity");
    const account = {
      namespace: "ci",
      name: "runner",
      uid: "5e0bd49b-f040-43b0-99b7-22765a53f7f3",
    };
    const token = world.issuers.cluster.mint({ ...kubernetesClaims(account), iss: CLUSTER_ISSUER });
    await writeFile(identityTokenFile, token);
    const config = path.join(directory.path, "runner.json");
    await writeFile(
      config,
      JSON.stringify({ version: 1, server: world.server.url, identityTokenFile }),
    );
    const env = { GITHUB_ACTIONS: "true", FLYWHEEL_RUNNER_CONFIG: config };
    await using fork = await startMachine(version, world, env);
    expect(fork.exchanged.grant).not.toHaveProperty("write");
    expect(await fork.pulls(released)).toBe(true);
    expect((await fork.push(await build(fork.sandbox, "poison"))).status).toBe(1);
  });
});

describe("a token that a job holds", () => {
  const [version] = findNixVersions();

  test.skipIf(version === undefined)(
    "outlives the forge's key rotation, its outage, a restart of the server, and a rotation of the server's own keys",
    async () => {
      if (version === undefined) return;
      await using keys = await createTemporaryDirectory();
      const makeKey = async (name: string): Promise<object> => {
        const file = path.join(keys.path, `${name}.pem`);
        const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
        await writeFile(file, privateKey.export({ format: "pem", type: "pkcs1" }), { mode: 0o600 });
        return { algorithm: "RS256", file, kid: name };
      };
      const old = await makeKey("old");
      const setKeys = (...list: readonly object[]): Record<string, string> => ({
        FLYWHEEL_TOKEN_KEYS: JSON.stringify(list),
      });
      await using world = await startIdentityWorld({ tenants: TENANTS, env: setKeys(old) });
      const start = (): Promise<Machine> =>
        startMachine(version, world, world.jobEnvironment("github", RUNS.github.main));
      const kidOf = async ({ job }: Machine): Promise<unknown> =>
        decodeTokenUnverified(await job.savedToken())?.header["kid"];

      await using held = await start();
      expect(await kidOf(held)).toBe("old");
      const first = await build(held.sandbox, "first");
      expect(await held.push(first)).toMatchObject({ status: 0 });

      await world.issuers.github.rotate();
      const second = await build(held.sandbox, "second");
      expect(await held.push(second)).toMatchObject({ status: 0 });
      await using rotated = await start();
      expect(await rotated.pulls(second)).toBe(true);

      await world.restart(setKeys(await makeKey("new"), old));
      // The forge gives tokens, and nobody can ask it for its keys: those kept from before the restart are used.
      const token = world.issuers.github.mint(RUNS.github.main);
      await world.issuers.github.conduct("refuse");
      expect(await held.pulls(second)).toBe(true);
      expect(await held.push(await build(held.sandbox, "third"))).toMatchObject({ status: 0 });
      const env = { GITHUB_ACTIONS: "true", FLYWHEEL_ID_TOKEN: token };
      await using during = await startMachine(version, world, env);
      expect(await kidOf(during)).toBe("new");
      expect(await during.pulls(first)).toBe(true);

      const said = world.server.logs() + (await readFile(during.job.configFile, "utf8"));
      expect(said).toContain("exchanged an identity token");
      expect(world.server.logs()).not.toContain(token);
    },
  );
});
