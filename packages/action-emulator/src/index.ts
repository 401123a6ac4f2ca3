export { type ActionInput, type ActionManifest, readActionManifest } from "./action-manifest.ts";
export { findLeaks, type SecretLeak } from "./find-leaks.ts";
export type { Flavour, JobEvent } from "./job-environment.ts";
export type {
  ActionStep,
  JobOptions,
  JobResult,
  JobStep,
  RunnerOptions,
  RunStep,
  StepBase,
  StepResult,
} from "./job-options.ts";
export type { OrphanProcess } from "./processes.ts";
export { type ActionOptions, type ActionResult, runAction } from "./run-action.ts";
export { runJob } from "./run-job.ts";
export type { CancelTimes } from "./run-step-process.ts";
export type { Annotation, AnnotationLevel } from "./step-log.ts";
export type { Conclusion } from "./workflow/expression.ts";
export { runWorkflow, type WorkflowOptions } from "./workflow/run-workflow.ts";
