import { mkdir, readFile, symlink, writeFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";

import type { ExampleRepository, ExampleRunner, RunOptions } from "../actions/example-job.ts";

const fileOf = (relative: string): string =>
  fileURLToPath(new URL(`../../${relative}`, import.meta.url));

/** A hook of this repository. */
export function hookFile(
  name: "job-started" | "job-completed" | "pre-build" | "post-build",
): string {
  return fileOf(`hooks/${name}.sh`);
}

/** Makes a folder for a PATH that holds our command. */
export async function createCommandFolder(parent: string): Promise<string> {
  const folder = path.join(parent, "command");
  await mkdir(folder);
  await symlink(fileOf("bin/flywheel"), path.join(folder, "flywheel"));
  return folder;
}

/** Writes what a runner's pod mounts for its jobs, and returns the file. */
export async function writeRunnerConfig(parent: string, server: string): Promise<string> {
  const file = path.join(parent, "runner.json");
  await writeFile(file, JSON.stringify({ version: 1, server }));
  return file;
}

/** Takes our line out of a repository's workflow. */
export async function forgetAction(repository: ExampleRepository): Promise<void> {
  const file = repository.workflow();
  const lines = (await readFile(file, "utf8")).split("\n");
  await writeFile(file, lines.filter((line) => !line.includes("glorious/")).join("\n"));
}

/** What makes a runner a hooked one: the two hooks, our command in PATH, the mounted file. */
export async function hookRunner(
  { sandbox, path: searchPath }: ExampleRunner,
  server: string,
): Promise<HookedMachine> {
  return hookMachine(sandbox.directory, server, searchPath);
}

/** Options of a hooked runner. */
export type HookedMachine = Required<Pick<RunOptions, "hooks" | "env">>;

/** The same for a machine with this PATH; what it needs is put into `parent`. */
export async function hookMachine(
  parent: string,
  server: string,
  searchPath: string,
): Promise<HookedMachine> {
  const command = await createCommandFolder(parent);
  return {
    hooks: { jobStarted: hookFile("job-started"), jobCompleted: hookFile("job-completed") },
    env: {
      PATH: `${command}:${searchPath}`,
      FLYWHEEL_SERVER: "",
      FLYWHEEL_RUNNER_CONFIG: await writeRunnerConfig(parent, server),
      // A busy machine is no slow server.
      FLYWHEEL_HOOK_SECONDS: "30",
      FLYWHEEL_SERVER_WAIT: "30s",
    },
  };
}
