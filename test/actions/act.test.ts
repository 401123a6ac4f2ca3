import { randomUUID } from "node:crypto";
import { rm } from "node:fs/promises";
import path from "node:path";

import {
  createTemporaryDirectory,
  describeWithAct,
  findBazelVersions,
  findNixVersions,
  type IdentityWorld,
  startIdentityWorld,
} from "@glorious/testkit";
import { afterAll, beforeAll, expect, test } from "vitest";

import { copyAction } from "./action-copy.ts";
import { createExample, startRunner, TENANTS } from "./example-job.ts";
import { builtBy, commitAll, runAct } from "./run-act.ts";

const nix = findNixVersions().at(-1);
const bazel = findBazelVersions().at(-1);

describeWithAct("the example's workflow", (act) => {
  let world: IdentityWorld;
  beforeAll(async () => {
    world = await startIdentityWorld({ tenants: TENANTS });
  });
  afterAll(() => world[Symbol.asyncDispose]());

  test.skipIf(nix === undefined)(
    "the one line pushes, and a fresh machine builds nothing",
    async () => {
      if (nix === undefined) return;
      await using repository = await createExample("nix", randomUUID());
      await using folder = await createTemporaryDirectory("flywheel-act-");
      const action = await copyAction("setup-attic", folder.path);
      await commitAll(repository);
      await using cold = await startRunner({ nix }, world);

      const first = await runAct(cold, repository, { act, world, name: "setup-attic", action });

      expect(first.status, first.stdout + first.stderr).toBe(0);
      expect(first.stdout).toContain("Cache: ready.");
      expect(first.stdout).toMatch(/\| Pushed \| 2 paths/);
      const built = await builtBy(cold, first);
      expect(built).toHaveLength(2);
      // Its work tree holds the link that keeps what was built.
      await rm(path.join(cold.sandbox.home, ".cache", "act"), { recursive: true, force: true });
      await cold.forget(built);

      await using fresh = await startRunner({ nix }, world);
      const second = await runAct(fresh, repository, { act, world, name: "setup-attic", action });

      expect(second.status, second.stdout + second.stderr).toBe(0);
      expect(second.stdout).not.toMatch(/building '/);
      expect(second.stdout).toMatch(/\| Nix \| 2 paths from the cache/);
      await rm(path.join(fresh.sandbox.home, ".cache", "act"), { recursive: true, force: true });
      await fresh.forget(built);
    },
  );

  const examples = [
    ["bazel", "setup-bazel-cache", 0],
    ["both", "setup-flywheel", 2],
  ] as const;
  test.skipIf(nix === undefined || bazel === undefined).for(examples)(
    "%s: the one line of %s fills the cache, and a fresh machine takes all from it",
    async ([name, actionName, paths]) => {
      if (nix === undefined || bazel === undefined) return;
      await using repository = await createExample(name, randomUUID());
      await using folder = await createTemporaryDirectory("flywheel-act-");
      const action = await copyAction(actionName, folder.path);
      await using cold = await startRunner({ nix, bazel }, world);
      await cold.prepare(repository.directory);
      await commitAll(repository);

      const first = await runAct(cold, repository, { act, world, name: actionName, action });
      expect(first.status, first.stdout + first.stderr).toBe(0);
      expect(first.stdout).toMatch(/\| Bazel \| 0 of 2 actions/);
      const built = await builtBy(cold, first);
      expect(built).toHaveLength(paths);
      await rm(path.join(cold.sandbox.home, ".cache", "act"), { recursive: true, force: true });
      if (paths > 0) await cold.forget(built);

      await using fresh = await startRunner({ nix, bazel }, world);
      await fresh.prepare(repository.directory);
      const second = await runAct(fresh, repository, { act, world, name: actionName, action });
      expect(second.status, second.stdout + second.stderr).toBe(0);
      expect(second.stdout).toMatch(/\| Bazel \| 2 of 2 actions/);
      expect(second.stdout).not.toMatch(/building '/);
      await rm(path.join(fresh.sandbox.home, ".cache", "act"), { recursive: true, force: true });
      if (paths > 0) await fresh.forget(built);
    },
  );
});
