import {
  type BazelVersion,
  type BazelWorkspace,
  type Claims,
  createBazelWorkspace,
  type IdentityWorld,
  startTestJob,
  type TestForge,
} from "@glorious/testkit";
import { expect } from "vitest";

import { SAMPLE_WORKSPACE } from "./sample-workspace.ts";

/** A machine with a job that was let in by its identity, and whose Bazel asks for tokens as it needs them. */
export async function startWorkspace(
  bazel: BazelVersion,
  world: IdentityWorld,
  [forge, claims]: readonly [TestForge, Claims],
  ...args: readonly string[]
): Promise<BazelWorkspace> {
  const workspace = await createBazelWorkspace(bazel);
  await workspace.write(SAMPLE_WORKSPACE);
  const job = await startTestJob(world.jobEnvironment(forge, claims), { home: workspace.home });
  const exchanged = await job.run(["exchange", "--server", world.server.url]);
  expect([exchanged.status, exchanged.stderr]).toEqual([0, expect.any(String)]);
  const used = await job.run(["use", "bazel", "--bazel-version", bazel.version, ...args]);
  expect([used.status, used.stderr]).toEqual([0, expect.any(String)]);
  return workspace;
}
