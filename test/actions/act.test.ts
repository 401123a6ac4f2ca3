import { randomUUID } from "node:crypto";
import { rm } from "node:fs/promises";
import path from "node:path";

import {
  type CommandResult,
  createTemporaryDirectory,
  describeWithAct,
  findNixVersions,
  type IdentityWorld,
  runCommand,
  startIdentityWorld,
} from "@glorious/testkit";
import { afterAll, beforeAll, expect, test } from "vitest";

import { copyAction } from "./action-copy.ts";
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

describeWithAct("the example's workflow", (act) => {
  let world: IdentityWorld;
  beforeAll(async () => {
    world = await startIdentityWorld({ tenants: TENANTS });
  });
  afterAll(() => world[Symbol.asyncDispose]());

  /** Runs the workflow on this machine, `uses: glorious/setup-attic@v1` from a folder. */
  async function runAct(
    runner: ExampleRunner,
    { directory }: ExampleRepository,
    action: string,
  ): Promise<CommandResult> {
    const { requestUrl, requestToken } = identityOf(world, RUNS.main);
    const node = path.dirname(process.execPath);
    const env = { ...runner.sandbox.env, PATH: `${node}:${runner.sandbox.env["PATH"]}` };
    return runCommand(
      act,
      [
        ...["push", "--platform", "acme-nix=-self-hosted", "--no-cache-server", "--pull=false"],
        ...["--local-repository", `glorious/setup-attic@v1=${action}`],
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
      for (const words of [
        ["init", "-q"],
        ["add", "."],
        [...GIT, "commit", "-qm", "all"],
      ]) {
        await runCommand("git", words, { cwd: repository.directory });
      }
      await using cold = await startRunner({ nix }, world);

      const first = await runAct(cold, repository, action);

      expect(first.status, first.stdout + first.stderr).toBe(0);
      expect(first.stdout).toContain("Cache: ready.");
      expect(first.stdout).toMatch(/\| Pushed \| 2 paths/);
      const drvs = [...first.stdout.matchAll(/building '(.*\.drv)'/g)].map(([, drv = ""]) => drv);
      expect(drvs).toHaveLength(2);
      const query = ["--query", "--outputs", ...drvs];
      const built = (await cold.sandbox.output("nix-store", query)).split("\n");
      // Its work tree holds the link that keeps what was built.
      await rm(path.join(cold.sandbox.home, ".cache", "act"), { recursive: true, force: true });
      await cold.forget(built);

      await using fresh = await startRunner({ nix }, world);
      const second = await runAct(fresh, repository, action);

      expect(second.status, second.stdout + second.stderr).toBe(0);
      expect(second.stdout).not.toMatch(/building '/);
      expect(second.stdout).toMatch(/\| Nix \| 2 paths from the cache/);
      await rm(path.join(fresh.sandbox.home, ".cache", "act"), { recursive: true, force: true });
      await fresh.forget(built);
    },
  );
});
