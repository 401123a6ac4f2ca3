import { randomUUID } from "node:crypto";

import {
  describeEachBazel,
  findBazelVersions,
  findNixVersions,
  type IdentityWorld,
  startIdentityWorld,
} from "@glorious/testkit";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import {
  createExample,
  leaksOf,
  logOf,
  RUNS,
  setupOf,
  startRunner,
  TENANTS,
} from "./example-job.ts";

const nix = findNixVersions().at(-1);
let world: IdentityWorld;
beforeAll(async () => {
  world = await startIdentityWorld({ tenants: TENANTS });
});
afterAll(() => world[Symbol.asyncDispose]());

describe.skipIf(nix === undefined)("with Nix on the runner as well", () => {
  describeEachBazel("the one line of setup-bazel-cache", (bazel) => {
    test("a cold job fills the cache; a fresh machine takes every action from it", async () => {
      if (nix === undefined) return;
      await using repository = await createExample("bazel", randomUUID());
      await using cold = await startRunner({ nix, bazel }, world);

      const first = await cold.run(repository, { claims: RUNS.main });

      expect(first.conclusion, logOf(first)).toBe("success");
      expect(setupOf(first).outputs, logOf(first)).toMatchObject({
        ...{ status: "ready", tenant: "acme", trust: "trusted", "can-push": "true" },
      });
      expect(first.summary, logOf(first)).toMatch(/\| Bazel \| 0 of 2 actions/);

      await using fresh = await startRunner({ nix, bazel }, world);
      const second = await fresh.run(repository, { claims: RUNS.main });

      expect(second.conclusion, logOf(second)).toBe("success");
      expect(logOf(second)).toMatch(/2 remote cache hit/);
      expect(second.summary).toMatch(/\| Bazel \| 2 of 2 actions/);
      for (const job of [first, second]) {
        expect(leaksOf(job)).toEqual([]);
        expect(job.leftovers.temp).toEqual([]);
        expect(job.leftovers.home.filter((file) => file.includes("bazelrc"))).toEqual([]);
        expect(job.orphans).toEqual([]);
      }
    });
  });

  const bazel = findBazelVersions().at(-1);
  test.skipIf(bazel === undefined)(
    "the one line of setup-flywheel: Nix and Bazel both build, and both find it again",
    async () => {
      if (nix === undefined || bazel === undefined) return;
      await using repository = await createExample("both", randomUUID());
      await using cold = await startRunner({ nix, bazel }, world);
      const first = await cold.run(repository, { claims: RUNS.main });
      expect(first.conclusion, logOf(first)).toBe("success");
      expect(first.summary, logOf(first)).toMatch(/\| Bazel \| 0 of 2 [^]*\| Pushed \| 2 paths/);
      const built = await cold.builtPaths();
      await cold.forget(built);

      await using fresh = await startRunner({ nix, bazel }, world);
      const second = await fresh.run(repository, { claims: RUNS.main });
      expect(second.conclusion, logOf(second)).toBe("success");
      expect(second.summary).toMatch(/\| Nix \| 2 paths [^]*\| Bazel \| 2 of 2 actions/);
      await fresh.forget(built);
    },
  );
});
