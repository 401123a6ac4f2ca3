import { randomUUID } from "node:crypto";
import { mkdir, rm, writeFile } from "node:fs/promises";
import path from "node:path";

import { type ActionManifest, readActionManifest } from "./action-manifest.ts";
import { chooseShell } from "./choose-shell.ts";
import { executeStep, type StepCommand } from "./execute-step.ts";
import { completeEvent, defaultServerUrl, jobEnvironment } from "./job-environment.ts";
import type { JobOptions, JobResult, JobStep, RunStep, StepResult } from "./job-options.ts";
import { createJobState, type JobState } from "./job-state.ts";
import { listFiles } from "./list-files.ts";
import { killTracked } from "./processes.ts";
import { RUNNER_CANCEL_TIMES } from "./run-step-process.ts";
import { evaluateCondition, interpolate } from "./workflow/expression.ts";

/**
 * Runs a job's steps as the real runner does: each main in order, then the post parts in reverse, whatever the steps
 * did; then it kills what the job left running.
 *
 * @throws {CacheError} when the job itself is wrong: no such action, an expression that is not understood.
 */
export async function runJob(options: JobOptions): Promise<JobResult> {
  const folders = {
    workspace: path.resolve(options.workspace ?? path.join(options.directory, "work")),
    temp: path.resolve(options.runnerTemp ?? path.join(options.directory, "temp")),
    tools: path.resolve(options.directory, "tools"),
    home: path.resolve(options.home ?? path.join(options.directory, "home")),
  };
  await rm(folders.temp, { recursive: true, force: true });
  for (const folder of Object.values(folders)) await mkdir(folder, { recursive: true });
  const homeBefore = new Set(await listFiles(folders.home));
  const trackingId = `github_${randomUUID()}`;
  const state = await openState(options, folders, trackingId);
  const posts: PostPart[] = [];
  const results: StepResult[] = [];
  const { jobStarted, jobCompleted } = options.hooks ?? {};
  if (jobStarted !== undefined) {
    results.push(await runHook("job-started", jobStarted, options, state));
  }
  for (const [index, step] of options.steps.entries()) {
    results.push(await runMain(step, index, { options, state, posts }));
  }
  for (const post of options.hasNoPost === true ? [] : posts.toReversed()) {
    results.push(await runPost(post, withoutSignal(options), state));
  }
  if (jobCompleted !== undefined && options.hasNoPost !== true) {
    results.push(await runHook("job-completed", jobCompleted, withoutSignal(options), state));
  }
  const orphans = await killTracked(trackingId);
  await rm(path.join(folders.temp, "_runner_file_commands"), { recursive: true, force: true });
  await rm(path.join(folders.temp, "_github_workflow"), { recursive: true, force: true });
  const homeAfter = await listFiles(folders.home);
  return {
    conclusion: state.status,
    steps: results,
    env: state.exported,
    path: state.path,
    summary: results.map(({ summary }) => summary).join(""),
    masks: state.masker.values,
    orphans,
    leftovers: {
      temp: await listFiles(folders.temp),
      home: homeAfter.filter((file) => !homeBefore.has(file)),
    },
  };
}

/** What a step's main leaves to be done after the job. */
interface PostPart {
  readonly name: string;
  readonly id: string | undefined;
  readonly manifest: ActionManifest;
  readonly command: StepCommand;
  readonly state: Readonly<Record<string, string>>;
}

async function openState(
  options: JobOptions,
  folders: Parameters<typeof jobEnvironment>[2],
  trackingId: string,
): Promise<JobState> {
  const { flavour = "github", identity, secrets = {} } = options;
  const event = completeEvent(options.event);
  const eventPath = path.join(folders.temp, "_github_workflow", "event.json");
  await mkdir(path.dirname(eventPath), { recursive: true });
  await writeFile(eventPath, JSON.stringify(event.payload));
  const github = jobEnvironment(flavour, event, folders, {
    serverUrl: options.serverUrl ?? defaultServerUrl(flavour),
    jobId: options.jobId ?? "build",
    eventPath,
    isDebugging: options.isDebugging ?? false,
  });
  const actionEnv: Record<string, string> = { ...options.actionEnv };
  if (options.cacheMode !== undefined) actionEnv["ACTIONS_CACHE_MODE"] = options.cacheMode;
  if (identity !== undefined) {
    actionEnv["ACTIONS_ID_TOKEN_REQUEST_URL"] = identity.requestUrl;
    actionEnv["ACTIONS_ID_TOKEN_REQUEST_TOKEN"] = identity.requestToken;
  }
  const state = createJobState({
    machine: { PATH: process.env["PATH"] ?? "", ...options.env },
    // A step can change what its successors see, but not who they take themselves for.
    fixed: { ...github, HOME: folders.home, RUNNER_TRACKING_ID: trackingId },
    jobEnv: options.jobEnv ?? {},
    actionEnv,
    event,
    secrets,
    folders,
  });
  for (const secret of Object.values(secrets)) state.masker.add(secret);
  state.masker.add(identity?.requestToken ?? "");
  state.masker.add(actionEnv["ACTIONS_RUNTIME_TOKEN"] ?? "");
  return state;
}

/** A hook is a script's step that the workflow does not know of: when it fails, the job does. */
async function runHook(
  name: "job-started" | "job-completed",
  file: string,
  options: JobOptions,
  state: JobState,
): Promise<StepResult> {
  const env = state.hookEnv();
  const shell = chooseShell(undefined, env["PATH"] ?? "");
  return executeStep({
    name,
    id: undefined,
    phase: name === "job-started" ? "main" : "post",
    cancelTimes: options.cancelTimes ?? RUNNER_CANCEL_TIMES,
    options,
    state,
    command: {
      command: shell.command,
      args: [...shell.args, path.resolve(file)],
      cwd: state.folders.workspace,
      env,
    },
    step: {},
  });
}

interface MainContext {
  readonly options: JobOptions;
  readonly state: JobState;
  readonly posts: PostPart[];
}

async function runMain(
  step: JobStep,
  index: number,
  { options, state, posts }: MainContext,
): Promise<StepResult> {
  const name = step.name ?? ("uses" in step ? path.basename(step.uses) : `step ${index + 1}`);
  const isCancelled = options.signal?.aborted === true;
  if (isCancelled) state.cancel();
  // Steps that ask for it run in a cancelled job as well, and are not cancelled themselves.
  const running = isCancelled ? withoutSignal(options) : options;
  const context = state.expressionContext(step.env);
  if (!evaluateCondition(step.if ?? "success()", context)) return state.skip(name, step.id, "main");
  const cancelTimes = options.cancelTimes ?? RUNNER_CANCEL_TIMES;
  const run = { name, id: step.id, cancelTimes, options: running, state } as const;
  const stepEnv = mapValues(step.env ?? {}, (text) => interpolate(text, context));
  if (!("uses" in step)) {
    const script = await writeScript(step, interpolate(step.run, context), state);
    const command = { ...script, env: { ...state.scriptEnv(), ...stepEnv } };
    const result = await executeStep({ ...run, phase: "main", command, step });
    await rm(script.file, { force: true });
    return result;
  }
  const manifest = await readActionManifest(step.uses);
  const inputs = readInputs(
    manifest,
    mapValues(step.with ?? {}, (text) => interpolate(text, context)),
  );
  const env = { ...inputs, ...stepEnv, GITHUB_ACTION_PATH: path.resolve(step.uses) };
  const commandFor = (file: string): StepCommand => ({
    command: options.nodePath ?? process.execPath,
    args: [path.resolve(step.uses, file)],
    cwd: state.folders.workspace,
    env,
  });
  const main = commandFor(manifest.main);
  const result = await executeStep({
    ...run,
    phase: "main",
    command: { ...main, env: { ...state.actionEnv(), ...env } },
    step,
    unknownInputs: Object.keys(step.with ?? {}).filter((input) => !(input in manifest.inputs)),
  });
  if (manifest.post !== undefined) {
    const command = commandFor(manifest.post);
    posts.push({ name, id: step.id, manifest, command, state: result.state });
  }
  return result;
}

async function runPost(
  { name, id, manifest, command, state: saved }: PostPart,
  options: JobOptions,
  state: JobState,
): Promise<StepResult> {
  const context = state.expressionContext({});
  if (!evaluateCondition(manifest.postIf, context)) return state.skip(name, id, "post");
  const stateEnv = Object.fromEntries(
    Object.entries(saved).map(([key, value]) => [`STATE_${key}`, value]),
  );
  return executeStep({
    name,
    id,
    phase: "post",
    cancelTimes: options.cancelTimes ?? RUNNER_CANCEL_TIMES,
    options,
    state,
    command: { ...command, env: { ...state.actionEnv(), ...command.env, ...stateEnv } },
    step: {},
  });
}

function withoutSignal(options: JobOptions): JobOptions {
  return { ...options, signal: undefined };
}

/** `INPUT_<NAME>`: upper case, spaces to underscores, dashes kept; what is not given has its default. */
function readInputs(
  manifest: ActionManifest,
  given: Readonly<Record<string, string>>,
): Record<string, string> {
  const names = new Set([...Object.keys(manifest.inputs), ...Object.keys(given)]);
  return Object.fromEntries(
    [...names].map((name) => [
      `INPUT_${name.replaceAll(" ", "_").toUpperCase()}`,
      given[name] ?? manifest.inputs[name]?.default ?? "",
    ]),
  );
}

async function writeScript(
  { shell, workingDirectory = "." }: RunStep,
  script: string,
  state: JobState,
): Promise<Omit<StepCommand, "env"> & { readonly file: string }> {
  const { folders } = state;
  const file = path.join(folders.temp, `${randomUUID()}.sh`);
  await writeFile(file, script);
  const { command, args } = chooseShell(shell, state.scriptEnv()["PATH"] ?? "");
  return {
    command,
    args: [...args, file],
    cwd: path.resolve(folders.workspace, workingDirectory),
    file,
  };
}

function mapValues(
  values: Readonly<Record<string, string>>,
  change: (text: string) => string,
): Record<string, string> {
  return Object.fromEntries(Object.entries(values).map(([name, text]) => [name, change(text)]));
}
