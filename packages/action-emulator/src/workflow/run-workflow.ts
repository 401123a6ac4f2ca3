import { cp, mkdir, readFile, rm } from "node:fs/promises";
import path from "node:path";

import { CacheError } from "@glorious/core";

import type { JobResult, JobStep, RunnerOptions } from "../job-options.ts";
import { runJob } from "../run-job.ts";
import { type ActionSources, actionName, findAction } from "./find-action.ts";
import { parseWorkflow, type WorkflowJob, type WorkflowStep } from "./parse-workflow.ts";

/** A workflow to run. */
export interface WorkflowOptions extends RunnerOptions {
  /** The workflow file. */
  readonly file: string;
  /** The job; may be left out when there is one only. */
  readonly job?: string;
  /** What `actions/checkout` puts into the workspace: a copy of this folder. */
  readonly repositoryDirectory: string;
  /**
   * Where actions lie, by what stands before the `@` in `uses`, with the forge's address or without it, such as
   * `glorious/setup-attic`: their folders, or bare Git repositories that are checked out at the reference.
   */
  readonly actions: Readonly<Record<string, string>>;
}

/**
 * Runs one job of a workflow file. `runs-on`, filters of events and `concurrency` are not looked at; the forge's
 * identity reaches the job only when the file asks for it.
 *
 * @throws {CacheError} `INVALID` or `UNSUPPORTED` when the file is beyond the documented subset, `NOT_FOUND` for an
 *   action, job or event that is not there.
 */
export async function runWorkflow(options: WorkflowOptions): Promise<JobResult> {
  const { file, actions, repositoryDirectory, identity, flavour = "github", ...runner } = options;
  const workflow = parseWorkflow(await readFile(file, "utf8"));
  const event = options.event?.name ?? "push";
  if (!workflow.events.includes(event)) {
    throw new CacheError("NOT_FOUND", `${file} does not run on ${event}`);
  }
  const [jobId, job] = chooseJob(workflow.jobs, options);
  const directory = path.resolve(options.directory, "actions");
  await rm(directory, { recursive: true, force: true });
  const steps: JobStep[] = [];
  for (const step of job.steps) {
    if (!isCheckout(step)) steps.push(await toJobStep(step, { actions, directory }));
  }
  const workspace = path.resolve(options.workspace ?? path.join(options.directory, "work"));
  if (job.steps.some(isCheckout)) {
    // Before the job instead of in it: what a checkout does to the work tree is all that matters here.
    await rm(workspace, { recursive: true, force: true });
    await mkdir(workspace, { recursive: true });
    await cp(repositoryDirectory, workspace, { recursive: true });
  }
  return runJob({
    ...runner,
    flavour,
    workspace,
    jobId,
    jobEnv: job.env,
    ...(identity !== undefined && job.mayIdentify[flavour] ? { identity } : {}),
    steps,
  });
}

function chooseJob(
  jobs: Readonly<Record<string, WorkflowJob>>,
  { job: wanted, file }: WorkflowOptions,
): readonly [string, WorkflowJob] {
  const entries = Object.entries(jobs);
  const found = wanted === undefined ? entries : entries.filter(([id]) => id === wanted);
  const [first] = found;
  if (first !== undefined && found.length === 1) return first;
  throw new CacheError("NOT_FOUND", `${file} holds ${Object.keys(jobs).length} jobs`, {
    hint: `Name one of them: ${Object.keys(jobs).join(", ")}.`,
  });
}

function isCheckout({ uses }: WorkflowStep): boolean {
  return uses !== undefined && actionName(uses) === "actions/checkout";
}

async function toJobStep(step: WorkflowStep, sources: ActionSources): Promise<JobStep> {
  const { uses, run, with: given, ...base } = step;
  if (uses === undefined) return { ...base, run: run ?? "" };
  const name = base.name ?? path.basename(actionName(uses));
  return { ...base, name, uses: await findAction(uses, sources), with: given };
}
