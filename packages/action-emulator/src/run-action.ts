import type { JobResult, RunnerOptions, StepResult } from "./job-options.ts";
import { runJob } from "./run-job.ts";

/** One action to run. */
export interface ActionOptions extends RunnerOptions {
  readonly actionDirectory: string;
  readonly inputs?: Readonly<Record<string, string>>;
}

/** What became of an action. */
export interface ActionResult extends JobResult {
  readonly main: StepResult;
  /** `undefined` when the action has no post part. */
  readonly post: StepResult | undefined;
}

/** Runs one action as a job of its own: its main, then its post part. */
export async function runAction(options: ActionOptions): Promise<ActionResult> {
  const { actionDirectory, inputs = {}, ...runner } = options;
  const result = await runJob({ ...runner, steps: [{ uses: actionDirectory, with: inputs }] });
  const [main, post] = result.steps;
  // A job of one step without a condition has always run it.
  if (main === undefined) throw new Error("The job has run no step");
  return { ...result, main, post };
}
