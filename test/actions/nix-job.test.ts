import { randomUUID } from "node:crypto";

import {
  describeEachNix,
  findNixVersions,
  findOlderNode,
  type IdentityWorld,
  startIdentityWorld,
} from "@glorious/testkit";
import { afterAll, beforeAll, expect, test } from "vitest";

import {
  createExample,
  leaksOf,
  logOf,
  RUNS,
  setupOf,
  startRunner,
  TENANTS,
} from "./example-job.ts";

let world: IdentityWorld;
beforeAll(async () => {
  world = await startIdentityWorld({ tenants: TENANTS });
});
afterAll(() => world[Symbol.asyncDispose]());

const older = findOlderNode(22);
const nix = findNixVersions().at(-1);

test("the bundles run on the oldest Node that is promised", async ({ skip }) => {
  skip("reason" in older, `Node 22 is not here: ${"reason" in older ? older.reason : ""}`);
  skip(nix === undefined, "there is no Nix");
  if ("reason" in older || nix === undefined) return;
  await using repository = await createExample("nix", randomUUID());
  await using runner = await startRunner({ nix }, world);
  const options = { claims: RUNS.main, nodePath: older.node };
  const first = await runner.run(repository, options);
  expect(first.summary, logOf(first)).toMatch(/\| Pushed \| 2 paths/);
  const built = await runner.builtPaths();
  await runner.forget(built);
  const second = await runner.run(repository, options);
  expect(second.summary, logOf(second)).toMatch(/\| Nix \| 2 paths from the cache/);
  expect([first, second].flatMap(({ steps }) => steps.flatMap((it) => it.annotations))).toEqual([]);
  await runner.forget(built);
});

describeEachNix("the one line of setup-attic", (version) => {
  test("a cold job builds and pushes; a fresh machine builds nothing: all of it comes from the cache", async () => {
    await using repository = await createExample("nix", randomUUID());
    await using cold = await startRunner({ nix: version }, world);

    const first = await cold.run(repository, { claims: RUNS.main });

    expect(first, logOf(first)).toMatchObject({ conclusion: "success" });
    expect(setupOf(first).outputs, logOf(first)).toMatchObject({
      ...{ status: "ready", tenant: "acme", trust: "trusted", "can-push": "true" },
    });
    expect(first.summary, logOf(first)).toMatch(/\| Pushed \| 2 paths/);
    const built = await cold.builtPaths();
    expect(built).toHaveLength(2);
    await cold.forget(built);

    await using fresh = await startRunner({ nix: version }, world);
    const second = await fresh.run(repository, { claims: RUNS.main });

    expect(second, logOf(second)).toMatchObject({ conclusion: "success" });
    expect(logOf(second)).not.toMatch(/building '/);
    expect(second.summary, logOf(second)).toMatch(/\| Nix \| 2 paths from the cache/);
    expect(await fresh.builtPaths()).toEqual(built);
    for (const job of [first, second]) {
      expect(leaksOf(job)).toEqual([]);
      expect(job.leftovers).toEqual({ temp: [], home: expect.not.arrayContaining([".bazelrc"]) });
      expect(job.orphans).toEqual([]);
    }
    await fresh.forget(built);
  });
});
