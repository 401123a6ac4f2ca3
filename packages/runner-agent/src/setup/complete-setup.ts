import { rm } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";

import { describeError } from "@glorious/core";

import { createControlClient } from "../control/control-client.ts";
import type { SessionFiles } from "../session/session-files.ts";
import { readSession, readSettings, writeSettings, writeState } from "../session/session-state.ts";
import { readTokenFile } from "../uploads/upload-target.ts";
import { readReport } from "./earlier-session.ts";
import { type NoAccess, openAccess } from "./open-access.ts";
import { readPendingSetup, waitForPendingSetup } from "./pending-setup.ts";
import type { SetupContext } from "./setup-request.ts";
import { Setup } from "./setup.ts";
import { startStopwatch } from "./stopwatch.ts";

/** How long the agent goes on asking at least: nobody waits for it. */
const MIN_ASKING_MS = 30_000;
const ASKING_PAUSE_MS = 1000;

/**
 * Finishes, in the agent, a set-up that did not wait for the server: asks until it answers or the time that the request
 * allows is over, half a minute at least. What setup would have written is written then, and the report is another one.
 *
 * Never rejects.
 *
 * @returns What the job's people are to know when nothing came of it.
 */
export async function completeSetup(
  files: SessionFiles,
  { env, self, signal: ended }: Omit<SetupContext, "workingDirectory">,
): Promise<string | undefined> {
  try {
    const { workingDirectory, request: asked } = await readPendingSetup(files);
    const request = { ...asked, token: await readTokenFile(files.token) };
    const limit = AbortSignal.timeout(Math.max(request.timeoutSeconds * 1000, MIN_ASKING_MS));
    const signal = AbortSignal.any([ended, limit]);
    const stopwatch = startStopwatch();
    let access = await openAccess(request, { env, signal, stopwatch });
    while (access.kind === "none" && access.status === "degraded" && !signal.aborted) {
      await sleep(ASKING_PAUSE_MS, undefined, { signal }).catch(() => {});
      if (!signal.aborted) access = await openAccess(request, { env, signal, stopwatch });
    }
    if (access.kind === "none") {
      await noteFailure(files, access);
      await rm(files.pending, { force: true });
      return access.status === "disabled"
        ? access.reason
        : `The cache was not reached: ${access.reason}`;
    }
    const pending = await waitForPendingSetup(files, ended);
    const context = { env, self, workingDirectory, signal: ended };
    using setup = new Setup({ ...request, ...pending.request }, context, stopwatch);
    await setup.complete(access, files, pending);
    return undefined;
  } catch (error) {
    return `The cache could not be set up when it was reached: ${describeError(error)}`;
  }
}

async function noteFailure(files: SessionFiles, { status, reason }: NoAccess): Promise<void> {
  const report = await readReport(files);
  if (report !== undefined) {
    await writeState(files.report, { ...report, result: { ...report.result, status, reason } });
  }
  await writeSettings(files, { ...(await readSettings(files)), status });
  await createControlClient((await readSession(files)).socket).reload();
}
