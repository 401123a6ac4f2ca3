import {
  type Claims,
  describeEachBazel,
  forgejoClaims,
  githubClaims,
  gitlabClaims,
  type IdentityWorld,
  startIdentityWorld,
} from "@glorious/testkit";
import { afterAll, beforeAll, expect, test } from "vitest";

import { startWorkspace } from "./job-workspace.ts";
import { SAMPLE_WORKSPACE } from "./sample-workspace.ts";

const PROJECT = { owner: "acme", ownerId: 1001, repository: "acme/site", repositoryId: 2001 };
const MAIN = githubClaims(PROJECT);
const REVIEW = githubClaims({ ...PROJECT, ref: "refs/pull/12/merge", event: "pull_request" });
const FORK = githubClaims({ ...PROJECT, event: "pull_request_target" });
const OTHER_TENANT = gitlabClaims({ project: "acme/site", projectId: 2001, namespaceId: 1001 });

const LAB_PROJECT = { project: "acme/site", projectId: 2001, namespaceId: 1001 };
const LAB_REVIEW = {
  source: "merge_request_event",
  ref: "feature",
  refPath: "refs/merge-requests/12/head",
};
/** The same runs as the other forges say them. */
const ELSEWHERE: Readonly<
  Record<"gitlab" | "forgejo", Readonly<Record<"main" | "review" | "fork", Claims>>>
> = {
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
    review: forgejoClaims({
      ...PROJECT,
      ref: "refs/pull/12/merge",
      event: "pull_request",
      hasIds: true,
    }),
    fork: forgejoClaims({ ...PROJECT, event: "pull_request_target", hasIds: true }),
  },
};

const scope = {
  repository: { id: "2001" },
  trusted: { refs: ["refs/heads/main"] },
  untrusted: "read",
};
const TENANTS = {
  hub: { views: { main: {} }, scopes: [{ issuer: "github", ...scope }] },
  lab: { views: { main: {} }, scopes: [{ issuer: "gitlab", ...scope }] },
  forge: { views: { main: {} }, scopes: [{ issuer: "forgejo", ...scope }] },
};

/** A target of nobody else's. */
const withTarget = (name: string): Record<string, string> => ({
  BUILD: `${SAMPLE_WORKSPACE["BUILD"]}
genrule(name = "${name}", outs = ["${name}.txt"], cmd = "echo ${name} > $@")
`,
});

describeEachBazel("a job's identity", (bazel) => {
  let world: IdentityWorld;
  beforeAll(async () => {
    world = await startIdentityWorld({ tenants: TENANTS });
  });
  afterAll(() => world[Symbol.asyncDispose]());

  test("lets main fill the cache, a later job hit it, a fork hit it and write nothing, a pull request write aside, and another tenant see nothing", async () => {
    await using main = await startWorkspace(bazel, world, ["github", MAIN]);
    const first = await main.run(["build", "//..."]);
    expect(first.status, first.stderr).toBe(0);
    const built = first.processes["local"] ?? 0;
    expect(built).toBeGreaterThanOrEqual(5);

    await using later = await startWorkspace(bazel, world, ["github", MAIN]);
    const second = await later.run(["build", "//..."]);
    expect(second.processes).toMatchObject({ "remote cache hit": built });
    expect(second.processes["local"]).toBeUndefined();

    await using fork = await startWorkspace(bazel, world, ["github", FORK]);
    const read = await fork.run(["build", "//..."]);
    expect(read.processes).toMatchObject({ "remote cache hit": built });
    // What it builds itself is refused by the server, whatever its flags are.
    await fork.write(withTarget("poison"));
    const poison = ["build", "--remote_upload_local_results=true", "//:poison"];
    expect((await fork.run(poison)).status).toBe(0);
    await fork.clean();
    const again = await fork.run(["build", "//:poison"]);
    expect(again.processes["remote cache hit"]).toBeUndefined();

    // A pull request hits what main built, and the second time also what it built itself.
    await using review = await startWorkspace(bazel, world, ["github", REVIEW]);
    await review.write(withTarget("proposed"));
    const proposed = await review.run(["build", "//..."]);
    expect(proposed.status, proposed.stderr).toBe(0);
    expect(proposed.processes).toMatchObject({ "remote cache hit": built, local: 1 });
    await using secondReview = await startWorkspace(bazel, world, ["github", REVIEW]);
    await secondReview.write(withTarget("proposed"));
    const repeated = await secondReview.run(["build", "//..."]);
    expect(repeated.processes).toMatchObject({ "remote cache hit": built + 1 });
    await later.write(withTarget("proposed"));
    await later.clean();
    const landed = await later.run(["build", "//..."]);
    expect(landed.processes).toMatchObject({ "remote cache hit": built, local: 1 });

    await using other = await startWorkspace(bazel, world, ["gitlab", OTHER_TENANT]);
    const foreign = await other.run(["build", "//..."]);
    expect(foreign.status, foreign.stderr).toBe(0);
    expect(foreign.processes["remote cache hit"]).toBeUndefined();
  });
});

// What Bazel sees is the same on every forge; one version shows that their claims lead to it.
describeEachBazel(
  "a job's identity on another forge",
  (bazel) => {
    test.concurrent.for(["gitlab", "forgejo"] as const)("does the same on %s", async (forge) => {
      await using world = await startIdentityWorld({ tenants: TENANTS });
      const runs = ELSEWHERE[forge];
      await using main = await startWorkspace(bazel, world, [forge, runs.main]);
      const first = await main.run(["build", "//..."]);
      expect(first.status, first.stderr).toBe(0);
      const built = first.processes["local"] ?? 0;
      expect(built).toBeGreaterThanOrEqual(5);

      await using fork = await startWorkspace(bazel, world, [forge, runs.fork]);
      await fork.write(withTarget("poison"));
      const poison = ["build", "--remote_upload_local_results=true", "//..."];
      expect((await fork.run(poison)).processes).toMatchObject({ "remote cache hit": built });
      await fork.clean();
      const again = await fork.run(["build", "//:poison"]);
      expect(again.processes["remote cache hit"]).toBeUndefined();

      await using review = await startWorkspace(bazel, world, [forge, runs.review]);
      await review.write(withTarget("proposed"));
      const proposed = await review.run(["build", "//..."]);
      expect(proposed.processes).toMatchObject({ "remote cache hit": built, local: 1 });
      await review.clean();
      const repeated = await review.run(["build", "//..."]);
      expect(repeated.processes).toMatchObject({ "remote cache hit": built + 1 });
      await main.write(withTarget("proposed"));
      await main.clean();
      const landed = await main.run(["build", "//..."]);
      expect(landed.processes).toMatchObject({ "remote cache hit": built, local: 1 });
    });
  },
  "newest",
);
