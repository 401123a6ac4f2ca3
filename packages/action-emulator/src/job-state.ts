import type { CompleteEvent, RunnerFolders } from "./job-environment.ts";
import type { StepResult } from "./job-options.ts";
import { createSecretMasker, type SecretMasker } from "./secret-masker.ts";
import type { StepWishes } from "./step-files.ts";
import type { Conclusion, ExpressionContext } from "./workflow/expression.ts";

/** What the steps of a job have in common, and what one leaves for the next. */
export interface JobState {
  readonly masker: SecretMasker;
  readonly folders: RunnerFolders;
  readonly status: Conclusion;
  /** What steps put into `GITHUB_ENV`. */
  readonly exported: Readonly<Record<string, string>>;
  /** What steps put into `GITHUB_PATH`, the newest first. */
  readonly path: readonly string[];
  /** The environment of a script. */
  scriptEnv(): Record<string, string>;
  /** The environment of a runner's hook, which knows nothing of what workflow and steps export, PATH apart. */
  hookEnv(): Record<string, string>;
  /** The environment of an action, which gets more. */
  actionEnv(): Record<string, string>;
  expressionContext(stepEnv: Readonly<Record<string, string>> | undefined): ExpressionContext;
  /** Takes over what a step asked for. Returns the variables that no step may set. */
  apply(wishes: StepWishes): readonly string[];
  /** Makes a step's result known to later expressions, and to the job's status. */
  finish(result: StepResult, isTolerated: boolean): void;
  skip(name: string, id: string | undefined, phase: "main" | "post"): StepResult;
  cancel(): void;
}

/** What a job begins with. */
interface JobBeginning {
  readonly machine: Readonly<Record<string, string>>;
  /** What no step can change. */
  readonly fixed: Readonly<Record<string, string>>;
  readonly jobEnv: Readonly<Record<string, string>>;
  readonly actionEnv: Readonly<Record<string, string>>;
  readonly event: CompleteEvent;
  readonly secrets: Readonly<Record<string, string>>;
  readonly folders: RunnerFolders;
}

/** The runner refuses it, because it would run code in every later action. */
const REFUSED = new Set(["NODE_OPTIONS"]);

/** Creates the state of a job that has not begun. */
export function createJobState(beginning: JobBeginning): JobState {
  const { machine, fixed, jobEnv, event, secrets, folders } = beginning;
  const masker = createSecretMasker();
  const exported: Record<string, string> = {};
  const steps: Record<string, unknown> = {};
  let path: readonly string[] = [];
  let status: Conclusion = "success";

  const withIdentity = (env: Record<string, string>): Record<string, string> => {
    env["PATH"] = [...path, env["PATH"] ?? ""].join(":");
    // The forge's identity endpoint reaches scripts as well, the cache's token does not.
    for (const [name, value] of Object.entries(beginning.actionEnv)) {
      if (name.startsWith("ACTIONS_ID_TOKEN_")) env[name] = value;
    }
    return env;
  };
  const scriptEnv = (): Record<string, string> =>
    withIdentity({ ...machine, ...jobEnv, ...exported, ...fixed });
  return {
    masker,
    folders,
    exported,
    scriptEnv,
    hookEnv: () => withIdentity({ ...machine, ...fixed }),
    actionEnv: () => ({ ...scriptEnv(), ...beginning.actionEnv }),
    get status() {
      return status;
    },
    get path() {
      return path;
    },
    expressionContext(stepEnv = {}) {
      return {
        status,
        values: {
          github: githubContext(event, fixed),
          env: { ...jobEnv, ...exported, ...stepEnv },
          job: { status },
          runner: { os: "Linux", temp: folders.temp, tool_cache: folders.tools },
          secrets,
          steps,
        },
      };
    },
    apply(wishes) {
      const refused: string[] = [];
      for (const [name, value] of wishes.env) {
        if (REFUSED.has(name.toUpperCase())) refused.push(name);
        else exported[name] = value;
      }
      path = [...wishes.path.toReversed(), ...path];
      return refused;
    },
    finish(result, isTolerated) {
      const { outcome, id, outputs, phase } = result;
      if (phase === "main" && id !== undefined) {
        const conclusion = isTolerated && outcome === "failure" ? "success" : outcome;
        steps[id] = { outputs, outcome, conclusion };
      }
      if (outcome === "cancelled") status = "cancelled";
      if (outcome === "failure" && !isTolerated && status === "success") status = "failure";
    },
    skip(name, id, phase) {
      const nothing = { outputs: {}, state: {}, annotations: [], droppedAnnotations: 0 };
      const texts = { log: "", rawOutput: "", summary: "" };
      if (phase === "main" && id !== undefined) {
        steps[id] = { outputs: {}, outcome: "skipped", conclusion: "skipped" };
      }
      const ending = { outcome: "skipped", exitCode: undefined, durationMs: 0 } as const;
      return { name, id, phase, ...nothing, ...texts, ...ending };
    },
    cancel() {
      status = "cancelled";
    },
  };
}

function githubContext(
  event: CompleteEvent,
  fixed: Readonly<Record<string, string>>,
): Record<string, unknown> {
  const fromEnv = Object.entries(fixed)
    .filter(([name]) => name.startsWith("GITHUB_"))
    .map(([name, value]) => [name.slice("GITHUB_".length).toLowerCase(), value]);
  return { ...Object.fromEntries(fromEnv), event: event.payload };
}
