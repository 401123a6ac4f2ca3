import { fileURLToPath } from "node:url";

import { type BazelWorkspace, type RunningFlywheel, runCommand } from "@glorious/testkit";
import { expect } from "vitest";

const LAUNCHER = fileURLToPath(new URL("../../bin/flywheel", import.meta.url));

/** Who uses the cache, and how. */
export interface UseBazelOptions {
  /** Default: the administrator's. */
  readonly tokenFile?: string;
  readonly view?: string;
  /** Further options of `use bazel`. */
  readonly args?: readonly string[];
  /** Another address of the server, such as that of a proxy. */
  readonly server?: string;
}

/** Runs `flywheel use bazel` as the workspace's own user would. */
export async function useBazel(
  workspace: BazelWorkspace,
  server: RunningFlywheel,
  options: UseBazelOptions = {},
): Promise<string> {
  const { tokenFile = server.tokenFile, view = server.view, args = [] } = options;
  const { version } = workspace.bazel;
  const { status, stdout, stderr } = await runCommand(
    LAUNCHER,
    [
      ...["use", "bazel", view, "--server", options.server ?? server.url],
      ...["--token-file", tokenFile, "--bazel-version", version, ...args],
    ],
    { env: { PATH: process.env["PATH"], HOME: workspace.home } },
  );
  expect({ status, stderr }).toMatchObject({ status: 0 });
  return stdout;
}

/** Runs a command of the administrator's; gives what it says. */
export async function flywheel(
  server: RunningFlywheel,
  ...words: readonly string[]
): Promise<string> {
  const target = ["--server", server.url, "--token-file", server.tokenFile];
  const { status, stdout, stderr } = await runCommand(LAUNCHER, [...words, ...target]);
  expect({ status, stderr }).toMatchObject({ status: 0 });
  return stdout.trim();
}
