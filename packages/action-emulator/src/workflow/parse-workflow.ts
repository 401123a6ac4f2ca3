import { CacheError } from "@glorious/core";
import { parse } from "yaml";

import { asRecord, readText } from "../action-manifest.ts";
import type { Flavour } from "../job-environment.ts";

/** A workflow file, as far as the emulator runs it. */
export interface Workflow {
  readonly name: string | undefined;
  /** The events it runs on. */
  readonly events: readonly string[];
  readonly jobs: Readonly<Record<string, WorkflowJob>>;
}

/** One job of a workflow. */
export interface WorkflowJob {
  /** Variables of the workflow and of the job. */
  readonly env: Readonly<Record<string, string>>;
  /** `permissions: id-token: write`, or Forgejo's `enable-openid-connect`. */
  readonly mayIdentify: Readonly<Record<Flavour, boolean>>;
  readonly steps: readonly WorkflowStep[];
}

/** One step; `uses` is as written. */
export interface WorkflowStep {
  readonly name: string | undefined;
  readonly id: string | undefined;
  readonly if: string | undefined;
  readonly env: Readonly<Record<string, string>>;
  readonly continueOnError: boolean;
  readonly timeoutMs: number | undefined;
  readonly uses: string | undefined;
  readonly with: Readonly<Record<string, string>>;
  readonly run: string | undefined;
  readonly shell: "bash" | "sh" | undefined;
  readonly workingDirectory: string | undefined;
}

const WORKFLOW_KEYS = new Set([
  ...["name", "run-name", "on", "permissions", "env", "jobs", "concurrency"],
  "enable-openid-connect",
]);
const JOB_KEYS = new Set([
  ...["name", "runs-on", "permissions", "env", "steps", "timeout-minutes", "concurrency"],
  ...["enable-openid-connect", "cache-mode"],
]);
const STEP_KEYS = new Set([
  ...["name", "id", "if", "env", "continue-on-error", "timeout-minutes", "uses", "with", "run"],
  ...["shell", "working-directory"],
]);

/**
 * Parses a workflow file of the documented subset.
 *
 * @throws {CacheError} `INVALID` when it is no workflow, `UNSUPPORTED` when it says something that the emulator would
 *   have to leave out.
 */
export function parseWorkflow(text: string): Workflow {
  const document = asRecord(parse(text), "The workflow");
  requireKnown(document, WORKFLOW_KEYS, "the workflow");
  const env = readTexts(document["env"], "env");
  const jobs = Object.entries(asRecord(document["jobs"], "jobs")).map(([id, value]) => {
    const job = asRecord(value, `job ${id}`);
    requireKnown(job, JOB_KEYS, `job ${id}`);
    const hasPermission = mayWriteIdToken(job["permissions"] ?? document["permissions"]);
    const forgejo = job["enable-openid-connect"] ?? document["enable-openid-connect"];
    const parsed: WorkflowJob = {
      env: { ...env, ...readTexts(job["env"], `env of job ${id}`) },
      mayIdentify: { github: hasPermission, gitea: hasPermission, forgejo: forgejo === true },
      steps: readList(job["steps"], `steps of job ${id}`).map((step, index) =>
        readStep(asRecord(step, `step ${index + 1} of job ${id}`), `step ${index + 1} of ${id}`),
      ),
    };
    return [id, parsed] as const;
  });
  return {
    name: readText(document["name"]),
    events: readEvents(document["on"]),
    jobs: Object.fromEntries(jobs),
  };
}

function readStep(step: Readonly<Record<string, unknown>>, what: string): WorkflowStep {
  requireKnown(step, STEP_KEYS, what);
  const [uses, run] = [readText(step["uses"]), readText(step["run"])];
  if ((uses === undefined) === (run === undefined)) {
    throw new CacheError("INVALID", `${what} needs either \`uses\` or \`run\``);
  }
  const shell = readText(step["shell"]);
  if (shell !== undefined && shell !== "bash" && shell !== "sh") {
    throw new CacheError("UNSUPPORTED", `${what} wants the shell ${JSON.stringify(shell)}`, {
      hint: "The emulator runs `bash` and `sh`.",
    });
  }
  const minutes = step["timeout-minutes"];
  return {
    name: readText(step["name"]),
    id: readText(step["id"]),
    if: readText(step["if"]),
    env: readTexts(step["env"], `env of ${what}`),
    continueOnError: step["continue-on-error"] === true,
    timeoutMs: typeof minutes === "number" ? minutes * 60_000 : undefined,
    uses,
    with: readTexts(step["with"], `with of ${what}`),
    run,
    shell,
    workingDirectory: readText(step["working-directory"]),
  };
}

function readEvents(on: unknown): string[] {
  if (typeof on === "string") return [on];
  if (Array.isArray(on)) return on.map(String);
  return Object.keys(asRecord(on, "on"));
}

function mayWriteIdToken(permissions: unknown): boolean {
  if (typeof permissions === "string") return permissions === "write-all";
  if (typeof permissions !== "object" || permissions === null) return false;
  return (permissions as Record<string, unknown>)["id-token"] === "write";
}

function readTexts(value: unknown, what: string): Record<string, string> {
  const entries = Object.entries(asRecord(value ?? {}, what));
  return Object.fromEntries(entries.map(([name, item]) => [name, readText(item) ?? ""]));
}

function readList(value: unknown, what: string): readonly unknown[] {
  if (Array.isArray(value)) return value;
  throw new CacheError("INVALID", `${what} are no list`);
}

function requireKnown(
  value: Readonly<Record<string, unknown>>,
  known: ReadonlySet<string>,
  what: string,
): void {
  const unknown = Object.keys(value).filter((key) => !known.has(key));
  if (unknown.length === 0) return;
  throw new CacheError(
    "UNSUPPORTED",
    `The emulator does not run \`${unknown.join("`, `")}\` of ${what}`,
    {
      hint: "Its README lists what a workflow may say.",
    },
  );
}
