import {
  type BazelWorkspace,
  type Claims,
  type CommandResult,
  describeEachBazel,
  describeEachNix,
  githubClaims,
  type IdentityWorld,
  startIdentityWorld,
  startTestJob,
} from "@glorious/testkit";
import { afterAll, beforeAll, expect, test } from "vitest";

import { startWorkspace } from "./bazel/job-workspace.ts";
import { buildWithNix, type Machine, startMachine } from "./job-machine.ts";

const SITE = { owner: "acme", ownerId: 1001, repository: "acme/site", repositoryId: 2001 };
const DOCS = { owner: "acme", ownerId: 1001, repository: "acme/docs", repositoryId: 2002 };
const QUEUE = { ref: "refs/heads/gh-readonly-queue/main/pr-12-6f1ed002", event: "merge_group" };
const OTHER_COMMIT = "0".repeat(40);

/** The queue's run, the push that lands its commit, and a later run of another commit; numbered from `runId`. */
const runsOf = (repository: typeof SITE, runId: number): Readonly<Record<string, Claims>> => ({
  queue: githubClaims({ ...repository, ...QUEUE, runId }),
  landing: githubClaims({ ...repository, runId: runId + 1 }),
  later: githubClaims({ ...repository, runId: runId + 2, commit: OTHER_COMMIT }),
});

const scopeOf = (id: string, more: object): object => ({
  views: { main: {} },
  scopes: [
    { issuer: "github", repository: { id }, trusted: { refs: ["refs/heads/main"] }, ...more },
  ],
});
const startWorld = (): Promise<IdentityWorld> =>
  startIdentityWorld({
    tenants: { site: scopeOf("2001", {}), docs: scopeOf("2002", { adoptMergeQueue: false }) },
  });

async function revoke(world: IdentityWorld, run: string): Promise<CommandResult> {
  await using operator = await startTestJob({});
  const { url, tokenFile } = world.server;
  const where = ["--server", url, "--token-file", tokenFile];
  return await operator.run(["revoke", "--run", run, "--yes", ...where]);
}

describeEachNix(
  "what a merge queue built",
  (version) => {
    let world: IdentityWorld;
    beforeAll(async () => {
      world = await startWorld();
    });
    afterAll(() => world[Symbol.asyncDispose]());

    test("is Nix's hit for everybody once its commit lands, unless that is off, until its run is revoked", async () => {
      const start = (claims: Claims | undefined): Promise<Machine> =>
        startMachine(version, world, world.jobEnvironment("github", claims ?? {}));
      const land = async (runs: Readonly<Record<string, Claims>>): Promise<[string, Machine]> => {
        await using queue = await start(runs["queue"]);
        expect(queue.exchanged.grant.trust).toBe("overlay");
        const built = await buildWithNix(queue.sandbox, "queued");
        expect(await queue.push(built)).toMatchObject({ status: 0 });
        await using before = await start(runs["later"]);
        expect(await before.pulls(built)).toBe(false);
        return [built, await start(runs["landing"])];
      };

      const site = runsOf(SITE, 70);
      const [queued, landing] = await land(site);
      await using _landing = landing;
      expect(landing.exchanged.notices).toEqual([expect.stringMatching(/^Adopted 2 entries of/)]);
      await using later = await start(site["later"]);
      expect(later.exchanged.grant.read).toEqual(["site+main"]);
      expect(await later.pulls(queued)).toBe(true);
      expect(await revoke(world, "70")).toMatchObject({ status: 0 });
      await using last = await start(site["later"]);
      expect(await last.pulls(queued)).toBe(false);

      const [left, unadopted] = await land(runsOf(DOCS, 80));
      await using _unadopted = unadopted;
      expect(unadopted.exchanged.notices).toEqual([]);
      expect(await unadopted.pulls(left)).toBe(false);
    });
  },
  "newest",
);

describeEachBazel(
  "what a merge queue built",
  (bazel) => {
    let world: IdentityWorld;
    beforeAll(async () => {
      world = await startWorld();
    });
    afterAll(() => world[Symbol.asyncDispose]());

    test("is Bazel's hit for everybody once its commit lands, unless that is off, until its run is revoked", async () => {
      const start = (claims: Claims | undefined): Promise<BazelWorkspace> =>
        startWorkspace(bazel, world, ["github", claims ?? {}]);
      const buildAll = async (
        workspace: BazelWorkspace,
      ): Promise<{ readonly built: number; readonly hits: number }> => {
        const { status, stderr, processes } = await workspace.run(["build", "//..."]);
        expect(status, stderr).toBe(0);
        return { built: processes["local"] ?? 0, hits: processes["remote cache hit"] ?? 0 };
      };

      const site = runsOf(SITE, 70);
      await using queue = await start(site["queue"]);
      const { built } = await buildAll(queue);
      expect(built).toBeGreaterThanOrEqual(5);
      // It presents its commit and builds nothing.
      await using _landing = await start(site["landing"]);
      await using later = await start(site["later"]);
      expect(await buildAll(later)).toEqual({ built: 0, hits: built });
      expect(await revoke(world, "70")).toMatchObject({ status: 0 });
      await using last = await start(site["later"]);
      expect(await buildAll(last)).toEqual({ built, hits: 0 });

      const docs = runsOf(DOCS, 80);
      await using other = await start(docs["queue"]);
      await buildAll(other);
      await using unadopted = await start(docs["landing"]);
      expect(await buildAll(unadopted)).toEqual({ built, hits: 0 });
    });
  },
  "newest",
);
