import { describeError, isCacheError } from "@glorious/core";

import { findRunningSession, launchAgent } from "../agent/start-agent.ts";
import { readSummary } from "../agent/summary-file.ts";
import type { DrainLine } from "../control/control-api.ts";
import { createControlClient } from "../control/control-client.ts";
import { isRunning } from "../session/process-identity.ts";
import { removeSession } from "../session/remove-session.ts";
import type { SessionFiles } from "../session/session-files.ts";
import { type AgentSession, type AgentSettings, readSettings } from "../session/session-state.ts";
import { readReport } from "../setup/earlier-session.ts";
import { removeFromUserRc } from "../setup/setup-bazel.ts";
import type { AgentSummary } from "../statistics.ts";
import type { DrainReport } from "../uploads/uploader.ts";
import { formatSummary } from "./format-summary.ts";

/** Options of {@link runDrain}. */
export interface DrainCommandOptions {
  readonly files: SessionFiles;
  /** Default: what the session was set up with. */
  readonly timeoutMs: number | undefined;
  /** Ends the session as well: the agent, its files and what points to them. */
  readonly end: boolean;
  /** How this command line is run: program and arguments. */
  readonly self: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly signal: AbortSignal;
  readonly onHeartbeat: (line: Extract<DrainLine, { type: "heartbeat" }>) => void;
}

/** What a drain came to. */
export interface DrainResult {
  readonly version: 1;
  readonly report: DrainReport;
  readonly summary?: AgentSummary;
  /** A job summary. */
  readonly markdown?: string;
}

/** How long an agent may take to end. */
const END_MS = 5000;

/**
 * Pushes what a session has left, and ends it when that is wanted. An agent that is gone is started again for that: its
 * queue is on the disk.
 *
 * Never rejects: what could not be done is in the report.
 */
export async function runDrain(options: DrainCommandOptions): Promise<DrainResult> {
  const { files } = options;
  let settings: AgentSettings;
  try {
    settings = await readSettings(files);
  } catch (error) {
    const reason = isCacheError(error, "NOT_FOUND") ? "There is no session" : describeError(error);
    return { version: 1, report: { ...NOTHING, reason } };
  }
  const setup = await readReport(files);
  let report: DrainReport;
  let session: AgentSession | undefined;
  try {
    session = await openSession(settings, options);
    report = session === undefined ? NOTHING : await drainSession(session, options);
  } catch (error) {
    report = { ...NOTHING, reason: describeError(error) };
  }
  const summary =
    (await liveSummary(session)) ?? (await readSummary(files.summary).catch(() => undefined));
  if (options.end) await endSession(session, options);
  return {
    version: 1,
    report,
    ...(summary !== undefined && { summary, markdown: formatSummary(summary, setup) }),
  };
}

const NOTHING: DrainReport = { pushed: 0, bytes: 0, failed: 0, left: 0 };

/** The agent that runs, or another one in place of a dead one that had something to push. */
async function openSession(
  { uploads }: AgentSettings,
  options: DrainCommandOptions,
): Promise<AgentSession | undefined> {
  const { files, self, env, signal } = options;
  const running = await findRunningSession(files);
  if (running !== undefined) return running;
  if (uploads === undefined) return undefined;
  const agent = await launchAgent(files, { self, env, drainOnly: true });
  return agent.begin(signal);
}

async function drainSession(
  { socket }: AgentSession,
  { timeoutMs, onHeartbeat }: DrainCommandOptions,
): Promise<DrainReport> {
  for await (const line of createControlClient(socket).drain(timeoutMs)) {
    if (line.type === "heartbeat") {
      onHeartbeat(line);
      continue;
    }
    const { type: _, ...report } = line;
    return report;
  }
  return { ...NOTHING, reason: "The agent ended while it pushed" };
}

async function liveSummary(session: AgentSession | undefined): Promise<AgentSummary | undefined> {
  if (session === undefined) return undefined;
  try {
    return (await createControlClient(session.socket).session()).summary;
  } catch {
    return undefined;
  }
}

async function endSession(
  session: AgentSession | undefined,
  { files, env }: DrainCommandOptions,
): Promise<void> {
  if (session !== undefined) await endAgent(session);
  await removeFromUserRc(files, env).catch(() => {});
  await removeSession(files).catch(() => {});
}

async function endAgent({ socket, process: identity }: AgentSession): Promise<void> {
  await createControlClient(socket)
    .stop()
    .catch(() => {});
  const deadlineMs = performance.now() + END_MS;
  while (await isRunning(identity)) {
    if (performance.now() > deadlineMs) {
      process.kill(identity.pid, "SIGKILL");
      return;
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
