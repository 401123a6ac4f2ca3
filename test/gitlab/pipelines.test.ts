import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { readFile, rm } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import path from "node:path";

import {
  type Claims,
  type CommandResult,
  findBazelVersions,
  findNixVersions,
  type IdentityWorld,
  startIdentityWorld,
} from "@glorious/testkit";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { type ExampleRunner, startRunner } from "../actions/example-job.ts";
import { readTemplate } from "./component-job.ts";
import { JOBS, TENANTS } from "./gitlab-jobs.ts";
import { createPipeline, type PipelineRepository } from "./pipeline.ts";

const [nix, bazel] = [findNixVersions().at(-1), findBazelVersions().at(-1)];
const NODE = path.dirname(process.execPath);

let world: IdentityWorld;
beforeAll(async () => {
  world = await startIdentityWorld({ tenants: TENANTS });
});
afterAll(() => world[Symbol.asyncDispose]());

/** Runs jobs on a machine that has the tools, Node, and nothing of ours. */
function runOn(
  runner: ExampleRunner,
  repository: PipelineRepository,
  claims: Claims,
): Promise<CommandResult> {
  return repository.run(["build"], {
    env: { ...runner.sandbox.env, PATH: `${NODE}:${runner.path}` },
    variables: { FLYWHEEL_SERVER: world.server.url, ...world.jobEnvironment("gitlab", claims) },
  });
}

const saidBy = ({ stdout, stderr }: CommandResult): string => `${stdout}${stderr}`;

/** Takes out of the machine's store what a run has built in it. */
async function forget(
  { sandbox }: ExampleRunner,
  repository: PipelineRepository,
  built: readonly string[],
): Promise<void> {
  await rm(path.join(repository.directory, "result"), { force: true });
  if (built.length > 0) await sandbox.output("nix-store", ["--delete", ...built]);
}

/** What Nix says that it built in a run. */
async function builtBy({ sandbox }: ExampleRunner, result: CommandResult): Promise<string[]> {
  const drvs = [...saidBy(result).matchAll(/building '(.*\.drv)'/g)].map(([, drv = ""]) => drv);
  const distinct = [...new Set(drvs)];
  if (distinct.length === 0) return [];
  const outputs = await sandbox.output("nix-store", ["--query", "--outputs", ...distinct]);
  return outputs.split("\n");
}

describe.skipIf(nix === undefined || bazel === undefined)("the examples' pipelines", () => {
  const start = () => {
    if (nix === undefined || bazel === undefined) throw new Error("There is no Nix or no Bazel");
    return startRunner({ nix, bazel }, world);
  };

  test("two components in one job fill both caches, and a fresh machine takes all from them", async () => {
    await using repository = await createPipeline("both", { "words.txt": randomUUID() });
    await using cold = await start();
    await cold.prepare(repository.directory);

    const first = await runOn(cold, repository, JOBS.main);

    expect(first.status, saidBy(first)).toBe(0);
    expect(saidBy(first)).toMatch(/ready: [^]*ready: /);
    expect(saidBy(first)).toMatch(/2 paths pushed/);
    expect(saidBy(first)).not.toMatch(/remote cache hit/);
    const built = await builtBy(cold, first);
    expect(built).toHaveLength(2);
    await forget(cold, repository, built);

    await using fresh = await start();
    await fresh.prepare(repository.directory);
    const second = await runOn(fresh, repository, JOBS.main);

    expect(second.status, saidBy(second)).toBe(0);
    expect(saidBy(second)).not.toMatch(/building '/);
    expect(saidBy(second)).toMatch(/2 remote cache hit/);
    await forget(fresh, repository, built);
    for (const result of [first, second]) expect(saidBy(result)).not.toMatch(/eyJ[\w-]+\.eyJ/);
  });

  test("by a plain include too: a fork's merge request reads what the protected branch wrote, and writes nothing", async () => {
    const [words, others] = [randomUUID(), randomUUID()];
    await using repository = await createPipeline("nix", {
      "words.txt": words,
      "attic.yml": await readTemplate("attic"),
      ".gitlab-ci.yml": (await readExample("nix")).replace(/component: .*/, "local: attic.yml"),
    });
    await using runner = await start();
    const main = await runOn(runner, repository, JOBS.main);
    expect(main.status, saidBy(main)).toBe(0);
    expect(saidBy(main)).toMatch(/2 paths pushed/);
    const built = await builtBy(runner, main);
    await forget(runner, repository, built);

    const reading = await runOn(runner, repository, JOBS.fork);
    expect(reading.status, saidBy(reading)).toBe(0);
    expect(saidBy(reading)).toMatch(/read-only: /);
    expect(saidBy(reading)).not.toMatch(/building '/);
    await forget(runner, repository, built);

    await repository.write({ "words.txt": others });
    const writing = await runOn(runner, repository, JOBS.fork);
    expect(saidBy(writing)).toMatch(/ 0 paths pushed/);
    const ofFork = await builtBy(runner, writing);
    expect(ofFork).toHaveLength(2);
    await forget(runner, repository, ofFork);

    const after = await runOn(runner, repository, JOBS.main);
    expect(after.status, saidBy(after)).toBe(0);
    expect(await builtBy(runner, after)).toHaveLength(2);
    await forget(runner, repository, ofFork);
  });
});

async function readExample(name: "nix" | "bazel"): Promise<string> {
  return readFile(new URL(`../../examples/${name}/.gitlab-ci.yml`, import.meta.url), "utf8");
}

/** A pipeline that needs no tool: the shell is all that it runs. */
const SHELL_ONLY = `
  - component: $CI_SERVER_FQDN/glorious/flywheel/bazel@1.2
    inputs: { bazel-version: "8.0.0", bazelrc: file }
`;

async function runShellOnly(jobs: string, includes: string = SHELL_ONLY): Promise<CommandResult> {
  await using repository = await createPipeline("bazel", {
    ".gitlab-ci.yml": `include:${includes}${jobs}`,
  });
  return await repository.run([], {
    env: { PATH: `${NODE}:/usr/bin:/bin`, HOME: repository.directory },
    variables: {
      FLYWHEEL_SERVER: world.server.url,
      ...world.jobEnvironment("gitlab", JOBS.main),
    },
  });
}

test("a job's own before_script and after_script refer to ours", async () => {
  const job = await runShellOnly(`
build:
  extends: .flywheel-bazel
  before_script:
    - set -eu
    - !reference [.flywheel-bazel, before_script]
    - echo "the cache is $FLYWHEEL_STATUS"
  script:
    - flywheel session
  after_script:
    - !reference [.flywheel-bazel, after_script]
    - ls "$CI_PROJECT_DIR.tmp" | wc -l
`);

  expect(job.status, saidBy(job)).toBe(0);
  expect(saidBy(job)).toMatch(/> the cache is ready/);
  expect(saidBy(job)).toMatch(/> 0\n/);
});

test("a job whose before_script takes the place of ours builds without the cache", async () => {
  const job = await runShellOnly(`
build:
  extends: .flywheel-bazel
  before_script: [":"]
  script: echo "the cache is \${FLYWHEEL_STATUS-not set up}"
`);

  expect(job.status, saidBy(job)).toBe(0);
  expect(saidBy(job)).toMatch(/> the cache is not set up/);
});

test("one component twice in a pipeline gives each job what it extends", async () => {
  const twice = `${SHELL_ONLY}
  - component: $CI_SERVER_FQDN/glorious/flywheel/bazel@1.2
    inputs:
      { job-prefix: no-, server-url: "http://127.0.0.1:1", bazel-version: "8.0.0", bazelrc: file }
`;
  const pipeline = await runShellOnly(
    `
one:
  extends: .flywheel-bazel
  script: echo "one is $FLYWHEEL_STATUS"
two:
  extends: .no-flywheel-bazel
  script: echo "two is $FLYWHEEL_STATUS"
`,
    twice,
  );

  expect(pipeline.status, saidBy(pipeline)).toBe(0);
  expect(saidBy(pipeline)).toMatch(/> one is ready/);
  expect(saidBy(pipeline)).toMatch(/> two is degraded/);
});

test("component, local, project and remote include the same", async () => {
  const template = await readTemplate("attic");
  const server = createServer((_, response) => response.end(template));
  await once(server.listen(0, "127.0.0.1"), "listening");
  const { port } = server.address() as AddressInfo;
  const example = await readExample("nix");
  const previews: string[] = [];
  for (const include of [
    "component: $CI_SERVER_FQDN/glorious/flywheel/attic@1",
    "local: attic.yml",
    "{ project: glorious/flywheel, ref: 1.2.3, file: templates/attic.yml }",
    `remote: http://127.0.0.1:${port}/attic.yml`,
  ]) {
    await using repository = await createPipeline("nix", {
      "attic.yml": template,
      ".gitlab-ci.yml": example.replace(/component: .*/, include),
    });
    const { status, stdout, stderr } = await repository.preview();
    expect(status, stderr).toBe(0);
    previews.push(stdout);
  }
  server.close();

  expect(previews[0]).toContain("flywheel setup --kind nix");
  expect(new Set(previews).size).toBe(1);
});

test.each([
  ["push: sometimes", /`push` input: `sometimes` cannot be used/],
  ["timeout: soon", /`timeout` input: provided value is not a number/],
  ["fail-on-error: perhaps", /`fail-on-error` input: provided value is not a boolean/],
  ['server-url: "https://a b"', /`server-url` input: .* does not match/],
  ['job-prefix: "a: b"', /`job-prefix` input: .* does not match/],
])("a value that a type does not allow is refused before any job: %s", async (inputs, message) => {
  const example = await readExample("nix");
  await using repository = await createPipeline("nix", {
    ".gitlab-ci.yml": example.replace("attic@1\n", `attic@1\n    inputs: { ${inputs} }\n`),
  });

  const { status, stdout, stderr } = await repository.preview();

  expect(status).not.toBe(0);
  expect(`${stdout}${stderr}`).toMatch(message);
});
