import { rm } from "node:fs/promises";

import * as core from "@actions/core";
import { describeError } from "@glorious/core";
import type { DrainResult } from "@glorious/runner-agent";

import { finishEntry } from "./finish-entry.ts";
import { formatStatus } from "./format-status.ts";
import { type KeptCache, saveKept } from "./kept-caches.ts";
import { parseDrainResult } from "./parse-answer.ts";
import { type PostState, readPostState } from "./post-state.ts";
import { compileCache, runFlywheel } from "./run-flywheel.ts";
import { timeBox } from "./time-box.ts";

/** Beyond the drain's own limit: it has to stop the agent and to remove the session. */
const GRACE_MS = 15_000;
const KEEP_TIMEOUT_MS = 120_000;

/** The post part: waits for the uploads, ends the agent, leaves nothing behind, and says what the cache did. */
export async function runPost(bundle: string): Promise<void> {
  const state = readPostState();
  await finishEntry(
    () => state?.failOnError === true,
    async () => {
      if (state === undefined) return;
      for (const [name, value] of Object.entries(state.formerEnvironment)) {
        core.exportVariable(name, value);
      }
      const drained = await drain(state, bundle);
      for (const cache of state.kept) await save(cache);
      await summarize(state, drained);
      const compiled = compileCache(process.env);
      if (compiled !== undefined) await rm(compiled, { recursive: true, force: true });
    },
  );
}

async function drain(state: PostState, bundle: string): Promise<DrainResult | undefined> {
  const { session } = state.result;
  if (session === undefined) return undefined;
  const { drainTimeoutSeconds } = state;
  core.startGroup("Waiting for the uploads");
  let drained: DrainResult;
  try {
    drained = parseDrainResult(
      await runFlywheel({
        bundle,
        words: [
          ...["drain", "--session", session, "--timeout", `${drainTimeoutSeconds}s`],
          ...["--json", "--end"],
        ],
        timeoutMs: drainTimeoutSeconds * 1000 + GRACE_MS,
        onLine: (line) => core.info(line),
      }),
    );
  } finally {
    core.endGroup();
  }
  const { left, failed, reason } = drained.report;
  const unpushed = `${left + failed} store paths were not pushed${reason === undefined ? "." : `: ${reason}`}`;
  const causes = drained.summary?.warnings ?? [];
  // One annotation, whatever came together; the summary has a list.
  const said = causes.length > 0 ? causes.join(" ") : unpushed;
  if (causes.length > 0 || left + failed > 0) {
    if (state.failOnError) core.setFailed(`fail-on-error is set. ${said}`);
    else core.warning(said);
  }
  return drained;
}

async function save(cache: KeptCache): Promise<void> {
  try {
    const isSaved = await timeBox("Saving it", KEEP_TIMEOUT_MS, saveKept(cache));
    if (isSaved) core.info(`${cache.kind}: kept as ${cache.key}`);
  } catch (error) {
    core.info(`${cache.kind}: nothing is kept in the forge's cache: ${describeError(error)}`);
  }
}

async function summarize(state: PostState, drained: DrainResult | undefined): Promise<void> {
  // Whoever began an agent tells what it did.
  if (state.result.isExisting) return;
  try {
    await core.summary.addRaw(drained?.markdown ?? formatStatus(state)).write();
  } catch (error) {
    core.info(`There is no job summary: ${describeError(error)}`);
  }
}
