import { describeError } from "@glorious/core";

import type { JobOptions, StepBase, StepResult } from "./job-options.ts";
import type { JobState } from "./job-state.ts";
import { type CancelTimes, runStepProcess } from "./run-step-process.ts";
import { createStepFiles, type StepWishes } from "./step-files.ts";
import { createStepLog } from "./step-log.ts";

/** A process that stands for a step. */
export interface StepCommand {
  readonly command: string;
  readonly args: readonly string[];
  readonly cwd: string;
  readonly env: Readonly<Record<string, string>>;
}

/** A step that is about to run. */
interface StepExecution {
  readonly name: string;
  readonly id: string | undefined;
  readonly phase: "main" | "post";
  readonly command: StepCommand;
  readonly step: StepBase;
  readonly unknownInputs?: readonly string[];
  readonly options: JobOptions;
  readonly state: JobState;
  readonly cancelTimes: CancelTimes;
}

const NO_WISHES: StepWishes = { env: [], outputs: [], state: [], path: [], summary: "" };

/** Runs one process as a step: files, commands, masks, annotations; what it asked for reaches the next step. */
export async function executeStep(execution: StepExecution): Promise<StepResult> {
  const { name, id, phase, command, step, options, state } = execution;
  const startedMs = performance.now();
  const log = createStepLog(state.masker, {
    isDebugging: options.isDebugging ?? false,
    onLine: (line) => options.onLine?.(line, name),
  });
  for (const input of execution.unknownInputs ?? []) {
    log.annotate("warning", `Unexpected input(s) '${input}'`);
  }
  const files = await createStepFiles(state.folders.temp);
  const { exitCode, isCancelled, hasTimedOut } = await runStepProcess({
    ...command,
    env: { ...command.env, ...files.env },
    signal: options.signal ?? new AbortController().signal,
    cancelTimes: execution.cancelTimes,
    timeoutMs: step.timeoutMs,
    onLine: (line) => log.line(line),
  });
  let wishes = NO_WISHES;
  let isMalformed = false;
  try {
    wishes = await files.read();
  } catch (error) {
    isMalformed = true;
    log.annotate("error", describeError(error));
  }
  await files.remove();
  for (const refused of state.apply(wishes)) {
    log.annotate("error", `Can't store ${refused} output parameter using '$GITHUB_ENV' command.`);
  }
  if (hasTimedOut) log.annotate("error", `The step '${name}' has timed out.`);
  else if (exitCode !== 0 && phase === "main" && !isCancelled) {
    log.annotate("error", `Process completed with exit code ${exitCode}.`);
  }
  const hasFailed = exitCode !== 0 || isMalformed || log.hasFailed || hasTimedOut;
  const result: StepResult = {
    name,
    id,
    phase,
    outcome: isCancelled ? "cancelled" : hasFailed ? "failure" : "success",
    exitCode,
    outputs: Object.fromEntries([...log.outputs, ...wishes.outputs]),
    state: Object.fromEntries([...log.state, ...wishes.state]),
    log: log.text,
    rawOutput: log.rawText,
    annotations: log.annotations,
    droppedAnnotations: log.droppedAnnotations,
    summary: state.masker.mask(wishes.summary),
    durationMs: performance.now() - startedMs,
  };
  state.finish(result, step.continueOnError ?? false);
  return result;
}
