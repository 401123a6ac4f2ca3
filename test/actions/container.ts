import { fileURLToPath } from "node:url";

import type { JobOptions, JobResult } from "@glorious/action-emulator";
import { runCommand } from "@glorious/testkit";

/** What a job in a container came to. */
export interface ContainerJob {
  readonly job: JobResult;
  /** The names of the processes that were dead and that nobody had collected when the job was over. */
  readonly zombies: readonly string[];
}

const MAIN = fileURLToPath(new URL("container-main.ts", import.meta.url));
const NAMESPACE = ["--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "--kill-child"];

/** Why no container can be made here. */
export async function whyNoContainer(): Promise<string | undefined> {
  const tried = await runCommand("unshare", [...NAMESPACE, "true"]).catch(String);
  if (typeof tried === "string") return tried;
  return tried.status === 0 ? undefined : tried.stderr.trim();
}

/**
 * Runs a job as in a container of Forgejo's runner: its first process is no init, so that what dies without a parent
 * stays a zombie, and everything is killed when it ends.
 */
export async function runInContainer(options: JobOptions): Promise<ContainerJob> {
  const words = [...NAMESPACE, process.execPath, "--conditions=source", MAIN];
  const { status, stdout, stderr } = await runCommand("unshare", words, {
    input: JSON.stringify(options),
  });
  if (status !== 0) throw new Error(`The container ended with ${status}: ${stderr}`);
  return JSON.parse(stdout) as ContainerJob;
}
