import { randomUUID } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";

import type { JobResult } from "@glorious/action-emulator";
import {
  CLUSTER_ISSUER,
  findNixVersions,
  type IdentityWorld,
  kubernetesClaims,
  runCommand,
  startIdentityWorld,
} from "@glorious/testkit";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { hookRunner } from "../hooks/hooked-runner.ts";
import { createActionRepository } from "./action-copy.ts";
import {
  createJob,
  type ExampleRepository,
  type ExampleRunner,
  leaksOf,
  logOf,
  type RunOptions,
  RUNS,
  setupOf,
  startRunner,
  TENANTS,
} from "./example-job.ts";

const nix = findNixVersions().at(-1);
const LAUNCHER = fileURLToPath(new URL("../../bin/flywheel", import.meta.url));
const ADDRESS = "https://forge.example.org/glorious/setup-attic";
const WITH_TOKEN = `uses: ${ADDRESS}@v1
        with: { token: "\${{ secrets.CACHE_TOKEN }}", cache: acme+main }`;

describe.skipIf(nix === undefined)("on Gitea, which gives jobs no identity", () => {
  let world: IdentityWorld;
  /** A job that names a token, and what it built: in the cache, and in no store. */
  let repository: ExampleRepository;
  let token: string;
  let first: JobResult;
  const opened = new AsyncDisposableStack();
  beforeAll(async () => {
    world = opened.use(await startIdentityWorld({ tenants: TENANTS }));
    repository = opened.use(await createJob(WITH_TOKEN, "run: nix build"));
    await using runner = await start();
    token = await createToken(runner.directory);
    first = await run(runner, { secrets: { CACHE_TOKEN: token } });
    if (first.conclusion !== "success") throw new Error(logOf(first));
    await runner.forget(await runner.builtPaths());
  });
  afterAll(() => opened.disposeAsync());

  function start(): Promise<ExampleRunner> {
    if (nix === undefined) throw new Error("there is no Nix");
    return startRunner({ nix }, world);
  }

  async function run(runner: ExampleRunner, options: RunOptions) {
    const bare = await createActionRepository(path.join(runner.directory, randomUUID()));
    return runner.run(repository, { flavour: "gitea", actions: { [ADDRESS]: bare }, ...options });
  }

  /** Makes what an administrator puts into the repository's secrets. */
  async function createToken(folder: string): Promise<string> {
    const out = path.join(folder, "ci.token");
    const { url, tokenFile } = world.server;
    const words = ["token", "create", "--sub", "gitea", "--pull", "acme+main", "--push"];
    words.push("acme+main", "--out", out, "--server", url, "--token-file", tokenFile);
    const { status, stderr } = await runCommand(LAUNCHER, words);
    if (status !== 0) throw new Error(stderr);
    return (await readFile(out, "utf8")).trim();
  }

  /** What a runner of Gitea's mounts into jobs so that they read. */
  async function createRunnerConfig(folder: string): Promise<Readonly<Record<string, string>>> {
    const identityTokenFile = path.join(folder, "identity");
    const account = { namespace: "ci", name: "runner", uid: randomUUID() };
    const claims = { ...kubernetesClaims(account), iss: CLUSTER_ISSUER };
    await writeFile(identityTokenFile, world.issuers.cluster.mint(claims));
    const config = path.join(folder, "config.json");
    const facts = { version: 1, server: world.server.url, identityTokenFile };
    await writeFile(config, JSON.stringify(facts));
    return { FLYWHEEL_SERVER: "", FLYWHEEL_RUNNER_CONFIG: config };
  }

  test("a job with a token of the server pushes, and the next one takes all from the cache", async () => {
    expect(setupOf(first).outputs, logOf(first)).toMatchObject({
      ...{ status: "ready", cache: "acme+main", "can-push": "true" },
    });
    expect(first.summary).toMatch(/\| Pushed \| 2 paths/);
    expect(leaksOf(first, [token])).toEqual([]);
    await using runner = await start();
    const job = await run(runner, { secrets: { CACHE_TOKEN: token } });
    expect(job.summary, logOf(job)).toMatch(/\| Nix \| 2 paths from the cache/);
    expect(leaksOf(job, [token])).toEqual([]);
    await runner.forget(await runner.builtPaths());
  });

  test("a fork's pull request, which gets no secrets, is told what to do and builds without the cache", async () => {
    await using runner = await start();
    const job = await run(runner, {});
    expect(job.conclusion, logOf(job)).toBe("success");
    expect(setupOf(job).outputs).toMatchObject({ status: "disabled", "can-push": "false" });
    expect(setupOf(job).log).toContain("Gitea gives jobs no identity");
    await runner.forget(await runner.builtPaths());
  });

  test("a job on a runner with an identity of its own reads, and writes nothing", async () => {
    await using runner = await start();
    const job = await run(runner, { env: await createRunnerConfig(runner.directory) });
    expect(setupOf(job).outputs, logOf(job)).toMatchObject({
      ...{ status: "read-only", trust: "untrusted", "can-push": "false" },
    });
    expect(job.summary).toMatch(/\| Nix \| 2 paths from the cache/);
    await runner.forget(await runner.builtPaths());
  });

  test("the same through the runner's hooks, with no line of ours in the workflow", async () => {
    await using unnamed = await createJob("run: nix build");
    await writeFile(
      path.join(unnamed.directory, "words.txt"),
      await readFile(path.join(repository.directory, "words.txt")),
    );
    await using runner = await start();
    const hooked = await hookRunner(runner, world.server.url);
    const job = await runner.run(unnamed, {
      ...hooked,
      flavour: "gitea",
      env: { ...hooked.env, ...(await createRunnerConfig(runner.directory)) },
    });
    expect(job.conclusion, logOf(job)).toBe("success");
    expect(logOf(job)).toMatch(/read-only/);
    expect(logOf(job)).not.toMatch(/building '/);
    expect(job).toMatchObject({ leftovers: { temp: [] }, orphans: [] });
    await runner.forget(await runner.builtPaths());
  });

  test("an identity that its runner passes on, as it would GitHub's, is used before the runner's", async () => {
    await using runner = await start();
    const env = await createRunnerConfig(runner.directory);
    const job = await run(runner, { claims: RUNS.main, env });
    expect(setupOf(job).outputs, logOf(job)).toMatchObject({ status: "ready", trust: "trusted" });
    await runner.forget(await runner.builtPaths());
  });
});
