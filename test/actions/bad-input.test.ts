import { mkdir, readFile } from "node:fs/promises";
import path from "node:path";

import { type JobResult, runJob } from "@glorious/action-emulator";
import {
  createTemporaryDirectory,
  type IdentityWorld,
  startIdentityWorld,
  type TemporaryDirectory,
} from "@glorious/testkit";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { parse } from "yaml";

import { actionDirectory } from "./action-copy.ts";
import { identityOf, logOf, RUNS, TENANTS } from "./example-job.ts";

const ACTION = actionDirectory("setup-bazel-cache");
/** What makes a machine without Bazel do. */
const NEEDED: Readonly<Record<string, string>> = { "bazel-version": "8.0.0" };

describe("the real action on a bare machine", () => {
  let world: IdentityWorld;
  let folder: TemporaryDirectory;
  beforeAll(async () => {
    world = await startIdentityWorld({ tenants: TENANTS });
    folder = await createTemporaryDirectory("flywheel-bare-");
    await mkdir(path.join(folder.path, "empty"));
  });
  afterAll(async () => {
    await folder[Symbol.asyncDispose]();
    await world[Symbol.asyncDispose]();
  });

  /** Runs a job with the action alone, where PATH names a folder in which there is nothing. */
  async function run(
    inputs: Readonly<Record<string, string>>,
    env: Readonly<Record<string, string>> = {},
  ): Promise<JobResult> {
    await using runner = await createTemporaryDirectory("flywheel-runner-");
    return await runJob({
      directory: runner.path,
      env: { PATH: path.join(folder.path, "empty"), FLYWHEEL_SERVER: world.server.url },
      identity: identityOf(world, RUNS.main),
      steps: [{ uses: ACTION, with: { ...NEEDED, ...inputs }, env }],
    });
  }

  async function allEmpty(): Promise<Readonly<Record<string, string>>> {
    const manifest = await readFile(path.join(ACTION, "action.yml"), "utf8");
    const { inputs } = parse(manifest) as { readonly inputs: Readonly<Record<string, unknown>> };
    return Object.fromEntries(Object.keys(inputs).map((name) => [name, NEEDED[name] ?? ""]));
  }

  test.each<[string, () => Promise<JobResult>]>([
    ["no shell and no tool in PATH", () => run({})],
    ["inputs that are all empty", async () => run(await allEmpty())],
  ])("%s: the cache is used, without a word", async (_, start) => {
    const job = await start();

    expect(job.conclusion, logOf(job)).toBe("success");
    expect(job.steps[0]?.outputs, logOf(job)).toMatchObject({ status: "ready" });
    expect(job.steps.flatMap(({ annotations }) => annotations)).toEqual([]);
    expect(job).toMatchObject({ leftovers: { temp: [] }, orphans: [] });
  });

  test.each<[string, string, () => Promise<JobResult>, RegExp]>([
    ["an input that there is not", "ready", () => run({ cahce: "main" }), /Unexpected.*'cahce'/],
    [
      ...(["a HOME that cannot be written", "degraded"] as const),
      () => run({}, { HOME: "/proc/1" }),
      /^\/proc\/1\/\.bazelrc cannot be written \(.*\), so Bazel does not use the cache by itself/,
    ],
    [
      ...(["an empty HOME", "degraded"] as const),
      () => run({}, { HOME: "" }),
      /^There is no HOME, so Bazel does not use the cache by itself/,
    ],
  ])("%s: the job is green, with one warning", async (_, status, start, message) => {
    const job = await start();

    expect(job.conclusion, logOf(job)).toBe("success");
    expect(job.steps[0]?.outputs, logOf(job)).toMatchObject({ status });
    expect(job.steps.flatMap(({ annotations }) => annotations)).toEqual([
      expect.objectContaining({ level: "warning", message: expect.stringMatching(message) }),
    ]);
    expect(job).toMatchObject({ leftovers: { temp: [] }, orphans: [] });
  });
});
