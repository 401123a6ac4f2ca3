import { writeFile } from "node:fs/promises";
import path from "node:path";

import {
  type BazelWorkspace,
  type CommandResult,
  createTemporaryDirectory,
  describeEachBazel,
  githubClaims,
  type IdentityWorld,
  startIdentityWorld,
  startTestJob,
} from "@glorious/testkit";
import { afterAll, beforeAll, expect, test } from "vitest";

import { startWorkspace } from "./job-workspace.ts";

const PROJECT = { owner: "acme", ownerId: 1001, repository: "acme/site", repositoryId: 2001 };
const scope = { repository: { id: "2001" }, trusted: { refs: ["refs/heads/main"] } };
const TENANTS = { hub: { views: { main: {} }, scopes: [{ issuer: "github", ...scope }] } };

describeEachBazel(
  "a revocation",
  (bazel) => {
    let world: IdentityWorld;
    beforeAll(async () => {
      world = await startIdentityWorld({ tenants: TENANTS });
    });
    afterAll(() => world[Symbol.asyncDispose]());

    const start = (runId: number): Promise<BazelWorkspace> =>
      startWorkspace(bazel, world, ["github", githubClaims({ ...PROJECT, runId })]);

    test("of a poisoned run makes the next build a miss and green, names who used it, and a rebuild heals", async () => {
      await using operator = await startTestJob({});
      const { url, tokenFile } = world.server;
      const admin = (words: readonly string[]): Promise<CommandResult> =>
        operator.run([...words, "--server", url, "--token-file", tokenFile]);
      // A compiler of the machine, which no action's digest knows: the poisoned run's is another.
      await using machine = await createTemporaryDirectory();
      const compiler = path.join(machine.path, "compiler");
      const BUILD = `
genrule(name = "tool", outs = ["tool.txt"], cmd = "cat ${compiler} > $@")
genrule(name = "release", srcs = ["tool.txt"], outs = ["release.txt"], cmd = "cat $< $< > $@")
`;
      const build = async (workspace: BazelWorkspace): Promise<readonly unknown[]> => {
        await workspace.write({ BUILD });
        const { status, processes } = await workspace.run(["build", "//:release"]);
        const release = (await workspace.readOutput("release.txt")).toString();
        return [status, processes["local"] ?? 0, release];
      };

      await writeFile(compiler, "evil\n");
      await using poisoned = await start(666);
      expect((await build(poisoned))[2]).toBe("evil\nevil\n");
      await writeFile(compiler, "good\n");
      await using victim = await start(7);
      expect(await build(victim)).toEqual([0, 0, "evil\nevil\n"]);

      const revoked = await admin(["revoke", "--run", "666", "--yes", "--json"]);
      expect([revoked.status, revoked.stderr]).toEqual([0, expect.any(String)]);
      const report: {
        readonly samples: readonly { readonly kind: string; readonly name: string }[];
      } = JSON.parse(revoked.stdout);
      expect(report).toMatchObject({
        writers: [{ run: "666", client: expect.stringContaining("bazel") }],
        consumers: [{ run: "7", repository: "acme/site", entries: 2 }],
      });

      await using healthy = await start(8);
      const [status, local, release] = await build(healthy);
      expect([status, release]).toEqual([0, "good\ngood\n"]);
      expect(local).toBeGreaterThan(0);
      await victim.clean();
      expect(await build(victim)).toEqual([0, 0, "good\ngood\n"]);

      const actions = report.samples.filter(({ kind }) => kind === "action");
      expect(actions).toHaveLength(2);
      const audits = await Promise.all(actions.map(({ name }) => admin(["audit", "action", name])));
      // The action whose inputs are the same was written by both, the other one by the poisoned run alone.
      expect(audits.map(({ stdout }) => stdout).join("")).toMatch(
        /present +wrote .* acme\/site +8 /,
      );
      for (const { stdout } of audits) expect(stdout).toMatch(/wrote .* acme\/site +666 /);
    });
  },
  "newest",
);
