import { findRunningSession } from "../agent/start-agent.ts";
import { readSummary } from "../agent/summary-file.ts";
import { createControlClient } from "../control/control-client.ts";
import { requireSession } from "../session/find-session.ts";
import { readSettings } from "../session/session-state.ts";
import { readReport } from "../setup/earlier-session.ts";
import type { SetupResult } from "../setup/setup-request.ts";
import type { AgentSummary } from "../statistics.ts";
import { formatSummary } from "./format-summary.ts";

/** A session as it is now. */
export interface DescribedSession {
  readonly version: 1;
  readonly isRunning: boolean;
  /** What the job was told. */
  readonly setup?: SetupResult;
  /** Live when the agent runs. */
  readonly summary?: AgentSummary;
  readonly markdown: string;
}

/**
 * Describes a session, named or by the job's environment.
 *
 * @throws {CacheError} `NOT_FOUND` when there is none.
 */
export async function describeSession(
  named: string | undefined,
  env: Readonly<Record<string, string | undefined>>,
): Promise<DescribedSession> {
  const files = requireSession(named, env);
  await readSettings(files);
  const session = await findRunningSession(files);
  const live =
    session === undefined
      ? undefined
      : await createControlClient(session.socket)
          .session()
          .catch(() => undefined);
  const summary = live?.summary ?? (await readSummary(files.summary));
  const report = await readReport(files);
  return {
    version: 1,
    isRunning: session !== undefined,
    ...(report !== undefined && { setup: report.result }),
    ...(summary !== undefined && { summary }),
    markdown: summary === undefined ? "" : formatSummary(summary, report),
  };
}
