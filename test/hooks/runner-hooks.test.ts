import { randomUUID } from "node:crypto";

import { findNixVersions, type IdentityWorld, startIdentityWorld } from "@glorious/testkit";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import {
  createExample,
  leaksOf,
  logOf,
  RUNS,
  setupOf,
  startRunner,
  TENANTS,
} from "../actions/example-job.ts";
import { forgetAction, hookRunner } from "./hooked-runner.ts";

const [nix] = findNixVersions().toReversed();

describe.skipIf(nix === undefined)("a hooked runner", () => {
  let world: IdentityWorld;
  beforeAll(async () => {
    world = await startIdentityWorld({ tenants: TENANTS });
  });
  afterAll(() => world[Symbol.asyncDispose]());
  const start = () => {
    if (nix === undefined) throw new Error("There is no Nix");
    return startRunner({ nix }, world);
  };

  test("a workflow without any line of ours pushes what it builds, and the next one builds nothing", async () => {
    await using repository = await createExample("nix", randomUUID());
    await forgetAction(repository);
    await using cold = await start();
    const first = await cold.run(repository, {
      ...(await hookRunner(cold, world.server.url)),
      claims: RUNS.main,
    });
    expect(first, logOf(first)).toMatchObject({ conclusion: "success" });
    expect(first.steps.map(({ name }) => name)).not.toContain("setup-attic");
    expect(logOf(first)).toMatch(/== post job-completed\n(.*\n)*2 paths pushed/);
    const built = await cold.builtPaths();
    await cold.forget(built);

    await using fresh = await start();
    const second = await fresh.run(repository, {
      ...(await hookRunner(fresh, world.server.url)),
      claims: RUNS.main,
    });

    expect(second, logOf(second)).toMatchObject({ conclusion: "success" });
    expect(logOf(second)).not.toMatch(/building '/);
    expect(await fresh.builtPaths()).toEqual(built);
    for (const job of [first, second]) {
      expect(leaksOf(job)).toEqual([]);
      expect(job).toMatchObject({ leftovers: { temp: [] }, orphans: [] });
    }
    await fresh.forget(built);
  });

  test("an action in a hooked job only reports, and its post part leaves the session to the hook", async () => {
    await using repository = await createExample("nix", randomUUID());
    await using runner = await start();

    const job = await runner.run(repository, {
      ...(await hookRunner(runner, world.server.url)),
      claims: RUNS.main,
    });

    expect(job, logOf(job)).toMatchObject({ conclusion: "success" });
    expect(setupOf(job)).toMatchObject({
      outputs: { status: "ready" },
      log: expect.stringContaining("Found the cache already set up"),
    });
    expect(logOf(job)).toMatch(/== post job-completed\n(.*\n)*2 paths pushed/);
    expect(job).toMatchObject({ leftovers: { temp: [] }, orphans: [] });
    await runner.forget(await runner.builtPaths());
  });

  test.for([
    ["has no server", { FLYWHEEL_RUNNER_CONFIG: "" }, /disabled: No server is named/],
    ["names a file that is not there", { FLYWHEEL_RUNNER_CONFIG: "/nowhere.json" }, /degraded: /],
    ["has no flywheel", { PATH: "/usr/bin:/bin" }, /there is no flywheel in the runner's PATH/],
  ] as const)("a runner that %s runs the job without the cache, and says so", async (given) => {
    const [, env, line] = given;
    await using repository = await createExample("nix", randomUUID());
    await forgetAction(repository);
    await using runner = await start();
    const hooked = await hookRunner(runner, world.server.url);
    const { PATH = "" } = runner.sandbox.env;
    const nothing = "PATH" in env ? { PATH } : env;

    const job = await runner.run(repository, {
      ...hooked,
      env: { ...hooked.env, ...nothing },
    });

    expect(job, logOf(job)).toMatchObject({ conclusion: "success", leftovers: { temp: [] } });
    expect(job.steps[0]?.log).toMatch(line);
    await runner.forget(await runner.builtPaths());
  });
});
