import { randomUUID } from "node:crypto";
import path from "node:path";

import {
  findNixVersions,
  findOlderNode,
  type IdentityWorld,
  runCommand,
  startIdentityWorld,
} from "@glorious/testkit";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { actionDirectory, createActionRepository } from "./action-copy.ts";
import {
  createExample,
  type ExampleRunner,
  FORGEJO_MAIN,
  leaksOf,
  logOf,
  setupOf,
  startRunner,
  TENANTS,
} from "./example-job.ts";

const nix = findNixVersions().at(-1);
const FORGEJO = { flavour: "forgejo", forge: ".forgejo", issuer: "forgejo" } as const;

/** A summary with what differs from run to run taken out. */
function forCompare(summary: string): string {
  return summary
    .replaceAll(/\d+(\.\d+)? (ms|s|B|KiB|MiB)\b/g, "<so many> $2")
    .replaceAll(/\d+ not in the cache/g, "<so many> not in the cache");
}

describe.skipIf(nix === undefined)("on Forgejo", () => {
  let world: IdentityWorld;
  beforeAll(async () => {
    world = await startIdentityWorld({ tenants: TENANTS });
  });
  afterAll(() => world[Symbol.asyncDispose]());

  function start(): Promise<ExampleRunner> {
    if (nix === undefined) throw new Error("there is no Nix");
    return startRunner({ nix }, world);
  }

  test("the action is used by its full address, enable-openid-connect shows who the job is, and the next one builds nothing", async () => {
    await using repository = await createExample("nix", randomUUID());
    await using cold = await start();
    const bare = await createActionRepository(cold.sandbox.directory);
    const actions = { "https://forge.example.org/glorious/setup-attic": bare };
    const options = { ...FORGEJO, claims: FORGEJO_MAIN, actions };

    const first = await cold.run(repository, options);

    expect(first.conclusion, logOf(first)).toBe("success");
    expect(setupOf(first).outputs, logOf(first)).toMatchObject({
      ...{ status: "ready", tenant: "acme", trust: "trusted", "can-push": "true" },
    });
    await expect(forCompare(first.summary)).toMatchFileSnapshot("golden/forgejo-cold.txt");
    const built = await cold.builtPaths();
    await cold.forget(built);
    await using fresh = await start();
    const second = await fresh.run(repository, options);
    expect(second.conclusion, logOf(second)).toBe("success");
    expect(logOf(second)).not.toMatch(/building '/);
    await expect(forCompare(second.summary)).toMatchFileSnapshot("golden/forgejo-warm.txt");
    for (const job of [first, second]) {
      expect(job.steps.flatMap(({ annotations }) => annotations)).toEqual([]);
      expect(job).toMatchObject({ leftovers: { temp: [] }, orphans: [] });
      expect(leaksOf(job)).toEqual([]);
    }
    await fresh.forget(built);
  });

  describe.each([16, 18, 20] as const)("with Node %i in the job's image", (line) => {
    const older = findOlderNode(line);
    const reason = "reason" in older ? older.reason : undefined;
    const node = "node" in older ? older.node : "";

    test("a job goes on without the cache, and says so in one line", async ({ skip }) => {
      if (reason !== undefined) skip(`Node ${line} is not here: ${reason}`);
      await using repository = await createExample("nix", randomUUID());
      await using runner = await start();

      const job = await runner.run(repository, {
        ...FORGEJO,
        claims: FORGEJO_MAIN,
        nodePath: node,
      });

      expect(job.conclusion, logOf(job)).toBe("success");
      expect(setupOf(job).outputs).toMatchObject({ status: "degraded", "can-push": "false" });
      expect(job.steps.flatMap(({ annotations }) => annotations)).toEqual([
        expect.objectContaining({
          level: "warning",
          message: expect.stringMatching(
            /^The cache needs Node 22\.19 or newer, and this runner's/,
          ),
        }),
      ]);
      expect(job.steps.at(-1)).toMatchObject({ phase: "post", rawOutput: "" });
      await runner.forget(await runner.builtPaths());
    });

    test("the bundled command says in one line that it needs a newer one", async ({ skip }) => {
      if (reason !== undefined) skip(`Node ${line} is not here: ${reason}`);
      const bundle = path.join(actionDirectory("setup-attic"), "dist", "flywheel.mjs");
      const result = await runCommand(node, [bundle, "setup", "--kind", "nix", "--shell"]);
      expect(result).toEqual({
        status: 1,
        stdout: "",
        stderr: expect.stringMatching(
          /^flywheel: this needs Node 22\.19 or newer, and here is .*\n$/,
        ),
      });
    });
  });
});
