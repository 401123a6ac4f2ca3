import { rm } from "node:fs/promises";
import path from "node:path";

import { findNixVersions, type IdentityWorld, startIdentityWorld } from "@glorious/testkit";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { startOldCacheService } from "./cache-service-v1.ts";
import { startCacheService } from "./cache-service.ts";
import {
  createJob,
  FORGEJO_MAIN,
  leaksOf,
  logOf,
  RUNS,
  startRunner,
  TENANTS,
} from "./example-job.ts";

const nix = findNixVersions().at(-1);
const SETUP = "uses: glorious/setup-attic@v1\n        with: { keep-evaluation: true }";
const FORGEJO = { flavour: "forgejo", forge: ".forgejo", issuer: "forgejo" } as const;
/** What there is, and what a job that finds its key asks it. */
const SERVICES = [
  [
    "GitHub's",
    { start: startCacheService, found: ["GetCacheEntryDownloadURL"], claims: RUNS.main },
  ],
  [
    "the older one, of Forgejo",
    {
      start: startOldCacheService,
      found: ["find", "download"],
      claims: FORGEJO_MAIN,
      ...FORGEJO,
    },
  ],
] as const;
const FILE = '"$XDG_CACHE_HOME/nix/eval-cache-v6/kept"';

describe.skipIf(nix === undefined)("what the forge's own cache keeps on demand", () => {
  let world: IdentityWorld;
  beforeAll(async () => {
    world = await startIdentityWorld({ tenants: TENANTS });
  });
  afterAll(() => world[Symbol.asyncDispose]());

  test.for(SERVICES)(
    "is saved by a trusted job, restored by the next one, and not saved again under the same key: %s",
    async ([, { start, found, ...runner }]) => {
      if (nix === undefined) return;
      await using service = await start();
      await using machine = await startRunner({ nix }, world);
      const caches = path.join(machine.sandbox.home, ".cache");
      const options = { ...runner, actionEnv: service.env };
      await using writing = await createJob(
        SETUP,
        `run: mkdir -p ${path.posix.dirname(FILE)}" && echo evaluated > ${FILE}`,
      );

      const first = await machine.run(writing, options);

      expect(first.conclusion, logOf(first)).toBe("success");
      expect(service.keys(), logOf(first)).toEqual([expect.stringMatching(/^flywheel-nix-linux-/)]);
      await rm(caches, { recursive: true, force: true });
      const calls = service.calls.length;
      await using reading = await createJob(SETUP, `run: cat ${FILE}`);
      const second = await machine.run(reading, options);
      expect(second.conclusion, logOf(second)).toBe("success");
      expect(logOf(second)).toContain("evaluated\n");
      expect(service.calls.slice(calls)).toEqual(found);
      expect(leaksOf(second)).toEqual([]);
    },
  );

  test("is neither read nor written by a job that is not trusted, nor without being asked for", async () => {
    if (nix === undefined) return;
    await using service = await startCacheService();
    await using runner = await startRunner({ nix }, world);
    const actionEnv = service.env;
    await using asking = await createJob(SETUP);
    await using plain = await createJob("uses: glorious/setup-attic@v1");
    for (const [repository, claims] of [
      [asking, RUNS.fork],
      [asking, RUNS.review],
      [plain, RUNS.main],
    ] as const) {
      const job = await runner.run(repository, { claims, actionEnv });
      expect(job.conclusion, logOf(job)).toBe("success");
    }
    expect(service.calls).toEqual([]);
  });

  test("fails no job when the forge has no cache service, or it is broken", async () => {
    if (nix === undefined) return;
    await using runner = await startRunner({ nix }, world);
    await using repository = await createJob(SETUP);
    const broken = {
      ACTIONS_RESULTS_URL: "http://127.0.0.1:1/",
      ACTIONS_CACHE_SERVICE_V2: "true",
      ACTIONS_RUNTIME_TOKEN: "x.e30.x",
    };
    const older = { ACTIONS_CACHE_URL: "http://127.0.0.1:1/", ACTIONS_RUNTIME_TOKEN: "x" };
    const onForgejo = { claims: FORGEJO_MAIN, ...FORGEJO };
    for (const options of [
      { claims: RUNS.main, actionEnv: {} },
      { claims: RUNS.main, actionEnv: broken },
      { ...onForgejo, actionEnv: {} },
      { ...onForgejo, actionEnv: older },
    ]) {
      const job = await runner.run(repository, options);
      expect(job.conclusion, logOf(job)).toBe("success");
      expect(
        job.steps
          .flatMap(({ annotations }) => annotations)
          .filter(({ level }) => level === "error"),
      ).toEqual([]);
    }
  });
});
