import { readFile, writeFile } from "node:fs/promises";
import path from "node:path";

import { findLeaks, type JobResult } from "@glorious/action-emulator";
import { findNixVersions, type IdentityWorld, startIdentityWorld } from "@glorious/testkit";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { startNixDaemon } from "../agent/nix-daemon.ts";
import {
  createJob,
  type ExampleRunner,
  leaksOf,
  logOf,
  RUNS,
  setupOf,
  startRunner,
  TENANTS,
} from "./example-job.ts";

const nix = findNixVersions().at(-1);
const SETUP = "uses: glorious/setup-attic@v1";
const BUILD = "run: nix build";

/** What a job says to its people, once for each cause. */
const warningsOf = ({ steps }: JobResult): string[] =>
  steps.flatMap(({ annotations }) =>
    annotations.filter(({ level }) => level === "warning").map(({ message }) => message),
  );

function expectNothingLeft(job: JobResult): void {
  expect(job.orphans).toEqual([]);
  expect(job.leftovers.temp).toEqual([]);
  expect(leaksOf(job)).toEqual([]);
}

describe.skipIf(nix === undefined)("a job with setup-attic", () => {
  let world: IdentityWorld;
  beforeAll(async () => {
    world = await startIdentityWorld({ tenants: TENANTS });
  });
  afterAll(() => world[Symbol.asyncDispose]());

  function start(): Promise<ExampleRunner> {
    if (nix === undefined) throw new Error("there is no Nix");
    return startRunner({ nix }, world);
  }

  test("that is cancelled still pushes what it has built, and leaves nothing", async () => {
    await using repository = await createJob(SETUP, BUILD, "run: echo built; exec sleep 60");
    await using runner = await start();
    const cancel = new AbortController();
    const job = await runner.run(repository, {
      claims: RUNS.main,
      signal: cancel.signal,
      onLine: (line) => line === "built" && cancel.abort(),
    });
    expect(job.conclusion, logOf(job)).toBe("cancelled");
    expect(job.summary, logOf(job)).toMatch(/\| Pushed \| 2 paths/);
    expectNothingLeft(job);
    await runner.forget(await runner.builtPaths());
  });

  test("whose agent is killed builds on, and what it has built is pushed all the same", async () => {
    // The only process whose number stands in the session's file.
    const kill = `run: kill -9 $(grep -oE '"pid".*[0-9]+' "$FLYWHEEL_SESSION/session.json" | grep -oE '[0-9]+$')`;
    await using repository = await createJob(SETUP, kill, BUILD);
    await using runner = await start();
    const job = await runner.run(repository, { claims: RUNS.main });
    expect(job.conclusion, logOf(job)).toBe("success");
    expect(job.summary, logOf(job)).toMatch(/\| Pushed \| 2 paths/);
    expect(warningsOf(job)).toHaveLength(1);
    expectNothingLeft(job);
    await runner.forget(await runner.builtPaths());
  });

  test("whose post part never runs has pushed already, and the next one on that runner is well", async () => {
    const wait = `run: until flywheel session | grep -q "Pushed | 2 paths"; do :; done`;
    await using repository = await createJob(SETUP, BUILD, `${wait}\n        timeout-minutes: 1`);
    await using runner = await start();
    const stopped = await runner.run(repository, { claims: RUNS.main, hasNoPost: true });
    expect(stopped.conclusion, logOf(stopped)).toBe("success");
    expect(stopped.orphans.length).toBeGreaterThan(0);
    await runner.forget(await runner.builtPaths());

    await using again = await createJob(SETUP, BUILD);
    await writeFile(
      path.join(again.directory, "words.txt"),
      await readFile(path.join(repository.directory, "words.txt")),
    );
    const next = await runner.run(again, { claims: RUNS.main });
    expect(next.conclusion, logOf(next)).toBe("success");
    expect(next.summary).toMatch(/\| Nix \| 2 paths from the cache/);
    expect(warningsOf(next)).toEqual([]);
    expectNothingLeft(next);
    await runner.forget(await runner.builtPaths());
  });

  test("beside another one on the same machine and home stays apart from it", async () => {
    await using first = await createJob(SETUP, BUILD);
    await using second = await createJob(SETUP, BUILD);
    await using one = await start();
    await using other = await start();
    const { home } = one.sandbox;
    const [left, right] = await Promise.all([
      one.run(first, { claims: RUNS.main, home }),
      other.run(second, { claims: RUNS.review, home }),
    ]);
    for (const job of [left, right]) {
      expect(job.conclusion, logOf(job)).toBe("success");
      expect(job.summary, logOf(job)).toMatch(/\| Pushed \| 2 paths/);
      expectNothingLeft(job);
    }
    expect(setupOf(left).outputs["trust"]).toBe("trusted");
    expect(setupOf(right).outputs["trust"]).toBe("overlay");
    for (const runner of [one, other]) await runner.forget(await runner.builtPaths());
  });

  test("that uses the action twice has one agent, and one summary", async () => {
    await using repository = await createJob(SETUP, SETUP, BUILD);
    await using runner = await start();
    const job = await runner.run(repository, { claims: RUNS.main });
    expect(job.conclusion, logOf(job)).toBe("success");
    expect(job.steps[1]?.log).toContain("Found the cache already set up: ready.");
    expect(job.summary.match(/### /g)).toHaveLength(1);
    expect(job.summary).toMatch(/\| Pushed \| 2 paths/);
    expect(warningsOf(job)).toEqual([]);
    expectNothingLeft(job);
    await runner.forget(await runner.builtPaths());
  });

  test("at a daemon that does not trust the user is told so once, and builds without the cache", async () => {
    if (nix === undefined) return;
    await using daemon = await startNixDaemon(nix, "nobody");
    await using repository = await createJob(SETUP, BUILD);
    await using runner = await start();
    const job = await runner.run(repository, { claims: RUNS.main, env: { ...daemon.env } });
    expect(job.conclusion, logOf(job)).toBe("success");
    expect(setupOf(job).outputs).toMatchObject({ status: "degraded" });
    expect(warningsOf(job)).toEqual([
      expect.stringMatching(/does not trust the user .*trusted-users = /),
    ]);
    expectNothingLeft(job);
  });

  test("prints no secret and exports no token, whatever its steps print; a planted one is found", async () => {
    const show = [
      ...[
        "env",
        "cat ${NIX_USER_CONF_FILES%%:*}",
        'cat "$FLYWHEEL_SESSION"/*.log',
        "flywheel session",
      ],
      ...["nix --version", 'cp "$FLYWHEEL_SESSION/token" "$HOME/kept"'],
    ];
    await using repository = await createJob(SETUP, BUILD, ...show.map((line) => `run: ${line}`));
    await using runner = await start();
    const keptToken = async (): Promise<string> =>
      (await readFile(path.join(runner.sandbox.home, "kept"), "utf8")).trim();

    const job = await runner.run(repository, { claims: RUNS.main });

    expect(job.conclusion, logOf(job)).toBe("success");
    const token = await keptToken();
    expect(token).toMatch(/^eyJ/);
    expect(job.masks).toContain(token);
    expectNothingLeft(job);
    expect(leaksOf(job, [token])).toEqual([]);
    await runner.forget(await runner.builtPaths());

    const plant = `run: echo "found=$(cat "$FLYWHEEL_SESSION/token")" >> "$GITHUB_OUTPUT"`;
    await using careless = await createJob(
      SETUP,
      `run: cp "$FLYWHEEL_SESSION/token" "$HOME/kept"`,
      plant,
    );
    const leaky = await runner.run(careless, { claims: RUNS.main });
    expect(findLeaks(leaky, [await keptToken()]), logOf(leaky)).toMatchObject([
      { kind: "exported", where: expect.stringMatching(/^output found/) },
    ]);
  });
});
