import { randomUUID } from "node:crypto";
import path from "node:path";

import {
  createNixSandbox,
  findNixVersions,
  type IdentityWorld,
  type NixSandbox,
  runCommand,
  startIdentityWorld,
} from "@glorious/testkit";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { actionDirectory } from "./action-copy.ts";
import { type ContainerJob, runInContainer, whyNoContainer } from "./container.ts";
import { FORGEJO_MAIN, identityOf, leaksOf, logOf, TENANTS } from "./example-job.ts";

const nix = findNixVersions().at(-1);
const reason = await whyNoContainer();
const [AGENT, KILL] = [
  `grep -oE '"pid".*[0-9]+' "$FLYWHEEL_SESSION/session.json" | grep -oE '[0-9]+$'`,
  "kill -9 $AGENT; until grep -q '^State:.Z' /proc/$AGENT/status; do :; done",
];

describe.skipIf(nix === undefined || reason !== undefined)("in a container without an init", () => {
  let world: IdentityWorld;
  let sandbox: NixSandbox;
  beforeAll(async () => {
    if (nix === undefined) throw new Error("there is no Nix");
    world = await startIdentityWorld({ tenants: TENANTS });
    sandbox = await createNixSandbox(nix);
  });
  afterAll(async () => {
    await sandbox[Symbol.asyncDispose]();
    await world[Symbol.asyncDispose]();
  });

  /** A job of setup-attic that builds something of its own after these lines. */
  function run(
    lines: readonly string[],
    more: { hasNoPost?: boolean } = {},
  ): Promise<ContainerJob> {
    const expression = `builtins.derivation { name = "contained"; system = builtins.currentSystem; builder = "/bin/sh"; args = [ "-c" "echo ${randomUUID()} > $out" ]; }`;
    const { HOME: _, TMPDIR: __, ...env } = sandbox.env;
    return runInContainer({
      directory: path.join(sandbox.directory, "runner"),
      flavour: "forgejo",
      env: { ...env, FLYWHEEL_SERVER: world.server.url },
      identity: identityOf(world, FORGEJO_MAIN, "forgejo"),
      steps: [
        { uses: actionDirectory("setup-attic"), id: "setup" },
        { run: [...lines, `nix-build --no-out-link --expr '${expression}'`].join("\n") },
      ],
      ...more,
    });
  }

  test("an ended agent that stays a zombie holds nothing up", async () => {
    const { job, zombies } = await run([]);

    expect(job.conclusion, logOf(job)).toBe("success");
    expect(job.summary, logOf(job)).toMatch(/\| Pushed \| 1 path, /);
    expect(job.steps.flatMap(({ annotations }) => annotations)).toEqual([]);
    expect(zombies, "the container is none: somebody collects the dead").not.toEqual([]);
    expect(job.leftovers.temp).toEqual([]);
    expect(leaksOf(job)).toEqual([]);
  });

  test("the post part tells an agent that was killed from one that runs, and pushes what that left", async () => {
    const { job } = await run([`AGENT=$(${AGENT})`, KILL]);

    expect(job.conclusion, logOf(job)).toBe("success");
    expect(job.summary, logOf(job)).toMatch(/\| Pushed \| 1 path, /);
    expect(job.steps.flatMap(({ annotations }) => annotations)).toEqual([
      expect.objectContaining({ message: expect.stringContaining("The agent had ended early") }),
    ]);
    expect(job.leftovers.temp).toEqual([]);
  });

  test("whatever still runs when the container ends goes with it", async () => {
    const { job } = await run([], { hasNoPost: true });
    expect(job.conclusion, logOf(job)).toBe("success");
    expect(job.orphans.map(({ command }) => command)).toEqual(
      expect.arrayContaining([expect.stringContaining("flywheel.mjs agent")]),
    );
    const { stdout } = await runCommand("ps", ["-eo", "args"]);
    expect(stdout).not.toContain(path.join(sandbox.directory, "runner", "temp"));
  });
});
