import { randomUUID } from "node:crypto";
import { writeFile } from "node:fs/promises";
import path from "node:path";

import {
  CLUSTER_ISSUER,
  findNixVersions,
  type IdentityWorld,
  kubernetesClaims,
  startIdentityWorld,
} from "@glorious/testkit";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import {
  createExample,
  type ExampleRepository,
  leaksOf,
  logOf,
  type ExampleRunner,
  RUNS,
  setupOf,
  startRunner,
  TENANTS,
} from "./example-job.ts";

const version = findNixVersions().at(-1);
const OPEN = { views: { main: { public: true } }, scopes: [] };

describe.skipIf(version === undefined)("what a job may do, by who it is", () => {
  let world: IdentityWorld;
  let repository: ExampleRepository;
  const opened = new AsyncDisposableStack();
  beforeAll(async () => {
    world = opened.use(await startIdentityWorld({ tenants: { ...TENANTS, open: OPEN } }));
    repository = opened.use(await createExample("nix", randomUUID()));
    await using first = await start();
    const main = await first.run(repository, { claims: RUNS.main });
    if (main.conclusion !== "success") throw new Error(logOf(main));
    await first.forget(await first.builtPaths());
  });
  afterAll(() => opened.disposeAsync());

  function start(): Promise<ExampleRunner> {
    if (version === undefined) throw new Error("there is no Nix");
    return startRunner({ nix: version }, world);
  }

  test.each([
    ["a tag", RUNS.tag, { status: "ready", trust: "trusted", "can-push": "true" }],
    ["a pull request", RUNS.review, { status: "ready", trust: "overlay", "can-push": "true" }],
    ["a fork", RUNS.fork, { status: "read-only", trust: "untrusted", "can-push": "false" }],
  ])("%s reads what main built, and has its own rights", async (_, claims, outputs) => {
    await using runner = await start();
    const job = await runner.run(repository, { claims });
    expect(job.conclusion, logOf(job)).toBe("success");
    expect(setupOf(job).outputs).toMatchObject(outputs);
    expect(job.summary).toMatch(/\| Nix \| 2 paths from the cache/);
    expect(job.summary.includes("| Pushed |")).toBe(outputs["can-push"] === "true");
    expect(setupOf(job).annotations).toEqual([]);
    expect(leaksOf(job)).toEqual([]);
    await runner.forget(await runner.builtPaths());
  });

  describe("without the permission to show who it is", () => {
    test("a job on a runner with an identity of its own reads", async () => {
      await using runner = await start();
      const account = { namespace: "ci", name: "runner", uid: randomUUID() };
      const claims = { ...kubernetesClaims(account), iss: CLUSTER_ISSUER };
      const identityTokenFile = path.join(runner.directory, "identity");
      await writeFile(identityTokenFile, world.issuers.cluster.mint(claims));
      const config = path.join(runner.directory, "runner.json");
      const facts = { version: 1, server: world.server.url, identityTokenFile };
      await writeFile(config, JSON.stringify(facts));
      const env = { FLYWHEEL_SERVER: "", FLYWHEEL_RUNNER_CONFIG: config };

      const job = await runner.run(repository, { env });

      expect(setupOf(job).outputs, logOf(job)).toMatchObject({
        ...{ status: "read-only", trust: "untrusted", "can-push": "false" },
      });
      expect(job.summary).toMatch(/\| Nix \| 2 paths from the cache/);
      await runner.forget(await runner.builtPaths());
    });

    test("a public view is read", async () => {
      await using runner = await start();
      const job = await runner.run(repository, { env: { FLYWHEEL_VIEW: "open+main" } });
      expect(job.conclusion, logOf(job)).toBe("success");
      expect(setupOf(job).outputs, logOf(job)).toMatchObject({
        ...{ status: "read-only", cache: "open+main", "can-push": "false" },
      });
      expect(setupOf(job).annotations).toEqual([]);
      await runner.forget(await runner.builtPaths());
    });

    test.each([
      ["github", ".github", "permissions:\n  contents: read\n  id-token: write"],
      ["forgejo", ".forgejo", "enable-openid-connect: true"],
      ["gitea", ".github", "with:\n  token: ${{ secrets.CACHE_TOKEN }}"],
    ] as const)(
      "on %s a job without either is told the lines to add, and builds without the cache",
      async (flavour, forge, lines) => {
        await using runner = await start();
        const job = await runner.run(repository, { flavour, forge });
        expect(job.conclusion, logOf(job)).toBe("success");
        expect(setupOf(job).outputs).toMatchObject({ status: "disabled", "can-push": "false" });
        expect(setupOf(job).log.replaceAll(/^ {2}/gm, "")).toContain(lines);
        expect(job.summary).toMatch(/\| Status \| disabled: /);
        await runner.forget(await runner.builtPaths());
      },
    );
  });

  test.each([
    ["read", { status: "read-only", "can-push": "false" }],
    ["none", { status: "disabled", "can-push": "false" }],
  ] as const)("cache-mode %s of the workflow is obeyed", async (cacheMode, outputs) => {
    await using runner = await start();
    const job = await runner.run(repository, { claims: RUNS.main, cacheMode });
    expect(job.conclusion, logOf(job)).toBe("success");
    expect(setupOf(job).outputs, logOf(job)).toMatchObject(outputs);
    expect(job.summary).not.toContain("| Pushed |");
    await runner.forget(await runner.builtPaths());
  });
});
