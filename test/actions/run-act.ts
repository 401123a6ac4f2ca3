import path from "node:path";

import { type CommandResult, type IdentityWorld, runCommand } from "@glorious/testkit";

import type { ActionName } from "./action-copy.ts";
import { type ExampleRepository, type ExampleRunner, identityOf, RUNS } from "./example-job.ts";

const GIT = ["-c", "user.name=test", "-c", "user.email=test@example.org"];

/** Makes a repository of a folder, as act wants it. */
export async function commitAll({ directory }: ExampleRepository): Promise<void> {
  for (const words of [
    ["init", "-q"],
    ["add", "."],
    [...GIT, "commit", "-qm", "all"],
  ]) {
    await runCommand("git", words, { cwd: directory });
  }
}

/** A workflow run by act on this machine. */
export interface ActRun {
  /** Its command. */
  readonly act: string;
  readonly world: IdentityWorld;
  /** The action's name, and the folder that `uses: glorious/<name>@v1` takes. */
  readonly name: ActionName;
  readonly action: string;
}

/** Runs the workflow of a repository as a push to the main branch. */
export function runAct(
  runner: ExampleRunner,
  { directory }: ExampleRepository,
  { act, world, name, action }: ActRun,
): Promise<CommandResult> {
  const { requestUrl, requestToken } = identityOf(world, RUNS.main);
  const node = path.dirname(process.execPath);
  const env = { ...runner.sandbox.env, PATH: `${node}:${runner.path}` };
  return runCommand(
    act,
    [
      ...["push", "--no-cache-server", "--pull=false"],
      ...["--platform", "acme-nix=-self-hosted", "--platform", "acme-docker=-self-hosted"],
      ...["--local-repository", `glorious/${name}@v1=${action}`],
      ...["--env", `FLYWHEEL_SERVER=${world.server.url}`],
      ...["--env", `ACTIONS_ID_TOKEN_REQUEST_URL=${requestUrl}`],
      ...["--env", `ACTIONS_ID_TOKEN_REQUEST_TOKEN=${requestToken}`],
    ],
    { cwd: directory, env },
  );
}

/** What Nix says that it built in a run. */
export async function builtBy(runner: ExampleRunner, { stdout }: CommandResult): Promise<string[]> {
  const drvs = [...stdout.matchAll(/building '(.*\.drv)'/g)].map(([, drv = ""]) => drv);
  if (drvs.length === 0) return [];
  const query = ["--query", "--outputs", ...drvs];
  return (await runner.sandbox.output("nix-store", query)).split("\n");
}
