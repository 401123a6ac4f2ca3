import { randomUUID } from "node:crypto";
import { rm } from "node:fs/promises";
import path from "node:path";

import {
  type CommandResult,
  createTemporaryDirectory,
  describeWithAct,
  findBazelVersions,
  findNixVersions,
  type IdentityWorld,
  runCommand,
  startIdentityWorld,
} from "@glorious/testkit";
import { afterAll, beforeAll, expect, test } from "vitest";

import { type ActionName, copyAction } from "./action-copy.ts";
import {
  createExample,
  type ExampleRepository,
  type ExampleRunner,
  identityOf,
  RUNS,
  startRunner,
  TENANTS,
} from "./example-job.ts";

const nix = findNixVersions().at(-1);
const GIT = ["-c", "user.name=test", "-c", "user.email=test@example.org"];

const bazel = findBazelVersions().at(-1);

describeWithAct("the example's workflow", (act) => {
  let world: IdentityWorld;
  beforeAll(async () => {
    world = await startIdentityWorld({ tenants: TENANTS });
  });
  afterAll(() => world[Symbol.asyncDispose]());

  /** Makes a repository of a folder, as act wants it. */
  async function commitAll({ directory }: ExampleRepository): Promise<void> {
    for (const words of [
      ["init", "-q"],
      ["add", "."],
      [...GIT, "commit", "-qm", "all"],
    ]) {
      await runCommand("git", words, { cwd: directory });
    }
  }

  /** Runs the workflow on this machine, `uses: glorious/<name>@v1` from a folder. */
  async function runAct(
    runner: ExampleRunner,
    { directory }: ExampleRepository,
    name: ActionName,
    action: string,
  ): Promise<CommandResult> {
    const { requestUrl, requestToken } = identityOf(world, RUNS.main);
    const node = path.dirname(process.execPath);
    const env = { ...runner.sandbox.env, PATH: `${node}:${runner.path}` };
    return runCommand(
      act,
      [
        ...["push", "--no-cache-server", "--pull=false"],
        ...["--platform", "acme-nix=-self-hosted", "--platform", "acme-docker=-self-hosted"],
        ...["--local-repository", `glorious/${name}@v1=${action}`],
        ...["--env", `FLYWHEEL_SERVER=${world.server.url}`],
        ...["--env", `ACTIONS_ID_TOKEN_REQUEST_URL=${requestUrl}`],
        ...["--env", `ACTIONS_ID_TOKEN_REQUEST_TOKEN=${requestToken}`],
      ],
      { cwd: directory, env },
    );
  }

  test.skipIf(nix === undefined)(
    "the one line pushes, and a fresh machine builds nothing",
    async () => {
      if (nix === undefined) return;
      await using repository = await createExample("nix", randomUUID());
      await using folder = await createTemporaryDirectory("flywheel-act-");
      const action = await copyAction("setup-attic", folder.path);
      await commitAll(repository);
      await using cold = await startRunner({ nix }, world);

      const first = await runAct(cold, repository, "setup-attic", action);

      expect(first.status, first.stdout + first.stderr).toBe(0);
      expect(first.stdout).toContain("Cache: ready.");
      expect(first.stdout).toMatch(/\| Pushed \| 2 paths/);
      const built = await builtBy(cold, first);
      expect(built).toHaveLength(2);
      // Its work tree holds the link that keeps what was built.
      await rm(path.join(cold.sandbox.home, ".cache", "act"), { recursive: true, force: true });
      await cold.forget(built);

      await using fresh = await startRunner({ nix }, world);
      const second = await runAct(fresh, repository, "setup-attic", action);

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

      const first = await runAct(cold, repository, actionName, action);
      expect(first.status, first.stdout + first.stderr).toBe(0);
      expect(first.stdout).toMatch(/\| Bazel \| 0 of 2 actions/);
      const built = await builtBy(cold, first);
      expect(built).toHaveLength(paths);
      await rm(path.join(cold.sandbox.home, ".cache", "act"), { recursive: true, force: true });
      if (paths > 0) await cold.forget(built);

      await using fresh = await startRunner({ nix, bazel }, world);
      await fresh.prepare(repository.directory);
      const second = await runAct(fresh, repository, actionName, action);
      expect(second.status, second.stdout + second.stderr).toBe(0);
      expect(second.stdout).toMatch(/\| Bazel \| 2 of 2 actions/);
      expect(second.stdout).not.toMatch(/building '/);
      await rm(path.join(fresh.sandbox.home, ".cache", "act"), { recursive: true, force: true });
      if (paths > 0) await fresh.forget(built);
    },
  );
});

/** What Nix says that it built in a run. */
async function builtBy(runner: ExampleRunner, { stdout }: CommandResult): Promise<string[]> {
  const drvs = [...stdout.matchAll(/building '(.*\.drv)'/g)].map(([, drv = ""]) => drv);
  if (drvs.length === 0) return [];
  const query = ["--query", "--outputs", ...drvs];
  return (await runner.sandbox.output("nix-store", query)).split("\n");
}
