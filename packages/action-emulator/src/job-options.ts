import type { Flavour, JobEvent } from "./job-environment.ts";
import type { OrphanProcess } from "./processes.ts";
import type { CancelTimes } from "./run-step-process.ts";
import type { Annotation } from "./step-log.ts";
import type { Conclusion } from "./workflow/expression.ts";

/** What a step of any kind may say. */
export interface StepBase {
  readonly name?: string | undefined;
  readonly id?: string | undefined;
  /** A condition as in a workflow; default `success()`. */
  readonly if?: string | undefined;
  readonly env?: Readonly<Record<string, string>> | undefined;
  readonly continueOnError?: boolean | undefined;
  readonly timeoutMs?: number | undefined;
}

/** A step that runs a JavaScript action. */
export interface ActionStep extends StepBase {
  /** The action's folder, which holds its `action.yml`. */
  readonly uses: string;
  readonly with?: Readonly<Record<string, string>> | undefined;
}

/** A step that runs a script. */
export interface RunStep extends StepBase {
  readonly run: string;
  /** Default `bash`, as on Linux runners. */
  readonly shell?: "bash" | "sh" | undefined;
  /** Relative to the workspace. */
  readonly workingDirectory?: string | undefined;
}

/** A step of a job. Texts may hold expressions. */
export type JobStep = ActionStep | RunStep;

/** The runner, and what the forge gives to a job. */
export interface RunnerOptions {
  /**
   * Where the runner keeps everything: `work`, `temp`, `tools` and `home`. Using a folder again is a persistent
   * runner, a fresh one an ephemeral runner. It is left as it is.
   */
  readonly directory: string;
  /** Default `github`. */
  readonly flavour?: Flavour | undefined;
  /** The home of the runner's user; default `home` in the folder. */
  readonly home?: string | undefined;
  /** `RUNNER_TEMP`, which is emptied before the job; default `temp` in the folder. */
  readonly runnerTemp?: string | undefined;
  /** The work tree; default `work` in the folder. Nothing is removed from it. */
  readonly workspace?: string | undefined;
  /** The machine's environment; default `PATH` of this process. */
  readonly env?: Readonly<Record<string, string>> | undefined;
  /** The Node that runs actions; default this process's own. */
  readonly nodePath?: string | undefined;
  readonly event?: JobEvent | undefined;
  readonly serverUrl?: string | undefined;
  /**
   * The OpenID Connect endpoint of the forge. It reaches actions and scripts as `ACTIONS_ID_TOKEN_REQUEST_URL` and
   * `_TOKEN`; leave it out for a job without the permission. A workflow says itself whether it has it.
   */
  readonly identity?: { readonly requestUrl: string; readonly requestToken: string } | undefined;
  /** `ACTIONS_CACHE_MODE`. */
  readonly cacheMode?: "read" | "write" | "write-only" | "none" | undefined;
  /** What actions alone get, such as `ACTIONS_RESULTS_URL`; `ACTIONS_RUNTIME_TOKEN` is masked. */
  readonly actionEnv?: Readonly<Record<string, string>> | undefined;
  readonly secrets?: Readonly<Record<string, string>> | undefined;
  /** Shows debug messages, and sets `RUNNER_DEBUG`. */
  readonly isDebugging?: boolean | undefined;
  /** The runner is stopped after the last step: no post part runs, and what the job left is killed. */
  readonly hasNoPost?: boolean | undefined;
  /** Scripts that the runner runs before the first step and after the last post part: `ACTIONS_RUNNER_HOOK_*`. */
  readonly hooks?:
    | { readonly jobStarted?: string | undefined; readonly jobCompleted?: string | undefined }
    | undefined;
  /** Cancels the job when it fires. */
  readonly signal?: AbortSignal | undefined;
  /** Default: the runner's own 7.5 and 2.5 seconds. */
  readonly cancelTimes?: CancelTimes | undefined;
  /** Called with each masked line while the job runs. */
  readonly onLine?: ((line: string, step: string) => void) | undefined;
}

/** A job to run. */
export interface JobOptions extends RunnerOptions {
  readonly steps: readonly JobStep[];
  /** The job's own variables. */
  readonly jobEnv?: Readonly<Record<string, string>> | undefined;
  readonly jobId?: string | undefined;
}

/** What became of one step, or of the post part of one. */
export interface StepResult {
  readonly name: string;
  readonly id: string | undefined;
  readonly phase: "main" | "post";
  /** Before `continue-on-error`. */
  readonly outcome: Conclusion | "skipped";
  readonly exitCode: number | undefined;
  readonly outputs: Readonly<Record<string, string>>;
  /** What was saved for the post part. */
  readonly state: Readonly<Record<string, string>>;
  /** As the forge shows it: secrets masked, commands carried out. */
  readonly log: string;
  /** What the process wrote, with commands and secrets. */
  readonly rawOutput: string;
  readonly annotations: readonly Annotation[];
  readonly droppedAnnotations: number;
  readonly summary: string;
  readonly durationMs: number;
}

/** What became of a job. */
export interface JobResult {
  readonly conclusion: Conclusion;
  /** Steps in their order, then the post parts in the reverse one; hooks are the first and the last. */
  readonly steps: readonly StepResult[];
  /** What the steps exported, as the last one would see it. */
  readonly env: Readonly<Record<string, string>>;
  /** Folders that steps put on PATH, the newest first. */
  readonly path: readonly string[];
  readonly summary: string;
  /** Everything that was registered as a secret. */
  readonly masks: readonly string[];
  /** Processes that the runner had to kill when the job was over. */
  readonly orphans: readonly OrphanProcess[];
  /** Files that were not there before the job, relative to their folders. */
  readonly leftovers: { readonly temp: readonly string[]; readonly home: readonly string[] };
}
