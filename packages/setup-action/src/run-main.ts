import { tmpdir } from "node:os";

import * as core from "@actions/core";
import { describeError } from "@glorious/core";
import type { SetupKind } from "@glorious/runner-agent";
import type { SetupResult } from "@glorious/runner-agent";

import { announceResult } from "./announce-result.ts";
import { finishEntry } from "./finish-entry.ts";
import { InputError } from "./input-error.ts";
import { installCommand } from "./install-command.ts";
import { type KeptCache, planKeptCache, restoreKept } from "./kept-caches.ts";
import { parseSetupResult } from "./parse-answer.ts";
import { type PostState, savePostState } from "./post-state.ts";
import { runFlywheel } from "./run-flywheel.ts";
import { readInputs, type SetupInputs } from "./setup-inputs.ts";
import { timeBox } from "./time-box.ts";

/** The command keeps its own time limit; beyond that much more it is killed. */
const GRACE_MS = 5000;
const KEEP_TIMEOUT_MS = 60_000;

/** The main part of an action that sets these kinds up. The bundle lies beside the entry. */
export async function runMain(kinds: readonly SetupKind[], bundle: string): Promise<void> {
  let failOnError = process.env["INPUT_FAIL-ON-ERROR"] === "true";
  await finishEntry(
    () => failOnError,
    async () => {
      let inputs: SetupInputs;
      try {
        inputs = readInputs(kinds, process.env);
      } catch (error) {
        if (!(error instanceof InputError)) throw error;
        core.setOutput("status", "degraded");
        core.setOutput("reason", error.message);
        core.setFailed(error.message);
        return;
      }
      ({ failOnError } = inputs);
      await setUp(inputs, bundle);
    },
  );
}

async function setUp(inputs: SetupInputs, bundle: string): Promise<void> {
  const { request } = inputs;
  if (request.token !== undefined) core.setSecret(request.token);
  const installing = installCommand(bundle, request.temporaryDirectory ?? tmpdir());
  // Looked at below; until then a failure must not end the process.
  installing.catch(() => {});
  const result = await askForSetup(inputs, bundle);
  announceResult(result, inputs.failOnError);
  const formerEnvironment = formerValues(result.environment);
  for (const [name, value] of Object.entries(result.environment)) core.exportVariable(name, value);
  core.exportVariable("FLYWHEEL_STATUS", result.status);
  for (const folder of result.path) core.addPath(folder);
  try {
    core.addPath(await timeBox("Keeping the flywheel command", KEEP_TIMEOUT_MS, installing));
  } catch (error) {
    core.info(`The flywheel command is not on PATH: ${describeError(error)}`);
  }
  const kept = await restoreAll(inputs.keeps, result);
  savePostState(toPostState(inputs, result, { kept, formerEnvironment }));
}

async function askForSetup({ request }: SetupInputs, bundle: string): Promise<SetupResult> {
  core.startGroup("Setting up the cache");
  try {
    const answer = await runFlywheel({
      bundle,
      words: ["setup", "--request", "-"],
      input: JSON.stringify(request),
      timeoutMs: request.timeoutSeconds * 1000 + GRACE_MS,
      onLine: (line) => core.info(line),
    });
    const result = parseSetupResult(answer);
    // Before anything else of the answer is used.
    for (const secret of result.masks) core.setSecret(secret);
    return result;
  } catch (error) {
    const reason = describeError(error);
    return {
      version: 1,
      status: "degraded",
      reason,
      canPush: false,
      pushMode: "none",
      extraCaches: [],
      publicKeys: [],
      environment: {},
      path: [],
      masks: [],
      notes: [],
      warnings: [{ code: "setup-failed", message: reason }],
      existing: false,
      timings: { discoverMs: 0, exchangeMs: 0, agentMs: 0, totalMs: 0 },
    };
  } finally {
    core.endGroup();
  }
}

/** What the forge's cache keeps is written by trusted jobs only, and read by them only. */
async function restoreAll(keeps: readonly SetupKind[], result: SetupResult): Promise<KeptCache[]> {
  if (keeps.length === 0) return [];
  if (result.trust !== "trusted") {
    core.info("Only trusted jobs keep further caches in the forge's own: this job does not.");
    return [];
  }
  const kept: KeptCache[] = [];
  for (const kind of keeps) {
    try {
      const plan = await planKeptCache(kind, process.env);
      const cache = await timeBox("Restoring it", KEEP_TIMEOUT_MS, restoreKept(plan));
      core.info(
        `${kind}: ${cache.found === undefined ? "nothing was kept yet" : `restored ${cache.found}`}`,
      );
      kept.push(cache);
    } catch (error) {
      core.info(`${kind}: what the forge's cache keeps is left out: ${describeError(error)}`);
    }
  }
  return kept;
}

function toPostState(
  { request, failOnError }: SetupInputs,
  result: SetupResult,
  more: Pick<PostState, "kept" | "formerEnvironment">,
): PostState {
  return {
    result: {
      status: result.status,
      reason: result.reason,
      // An agent that somebody else started is somebody else's to end.
      session: result.existing ? undefined : result.session,
      isExisting: result.existing,
    },
    drainTimeoutSeconds: request.drainTimeoutSeconds,
    failOnError,
    ...more,
  };
}

/** No step can take a variable away again, so one that was not there becomes empty. */
function formerValues(environment: Readonly<Record<string, string>>): Record<string, string> {
  const entries = Object.entries(environment).map(([name, value]) => {
    // Empty it would keep Nix from reading the user's own files, which stand behind ours.
    const unset = name === "NIX_USER_CONF_FILES" ? value.slice(value.indexOf(":") + 1) : "";
    return [name, process.env[name] ?? unset] as const;
  });
  return Object.fromEntries(entries);
}
