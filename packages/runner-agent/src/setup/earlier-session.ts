import * as v from "valibot";

import { findRunningSession } from "../agent/start-agent.ts";
import { findSession } from "../session/find-session.ts";
import { removeSession } from "../session/remove-session.ts";
import type { SessionFiles } from "../session/session-files.ts";
import {
  type AgentSession,
  type AgentSettings,
  readSettings,
  readState,
} from "../session/session-state.ts";
import { openSpool } from "../uploads/spool.ts";
import type { SetupKind, SetupResult } from "./setup-request.ts";

/** A session's report, as its folder keeps it. */
export interface SessionReport {
  readonly result: SetupResult;
  /** What the job asked for so far. */
  readonly kinds: readonly SetupKind[];
  /** What later steps named, and did not get. */
  readonly unused?: readonly string[] | undefined;
}

/** What there is of a session from before. */
export type EarlierSession =
  | {
      readonly kind: "none";
      /** What a dead agent left to push. */ readonly leftPaths: readonly string[];
    }
  | {
      readonly kind: "running";
      readonly files: SessionFiles;
      readonly session: AgentSession;
      readonly settings: AgentSettings;
      readonly report: SessionReport;
    };

const Report = v.object({
  result: v.custom<SetupResult>((value) => typeof value === "object" && value !== null),
  kinds: v.array(v.picklist(["nix", "bazel"])),
  unused: v.optional(v.array(v.string())),
});

/** Looks for a session that the job has already: of a step before, or of the runner's image. */
export async function findEarlierSession(
  env: Readonly<Record<string, string | undefined>>,
): Promise<EarlierSession> {
  const files = findSession(undefined, env);
  if (files === undefined) return { kind: "none", leftPaths: [] };
  // A folder that is none of ours may hold anything, and is to keep it.
  const settings = await readSettings(files).catch(() => undefined);
  if (settings === undefined) return { kind: "none", leftPaths: [] };
  const session = await findRunningSession(files);
  const report = await readReport(files);
  if (session !== undefined && report !== undefined) {
    return { kind: "running", files, session, settings, report };
  }
  return { kind: "none", leftPaths: await takeLeftPaths(files) };
}

/** The report of a session; `undefined` when there is none. */
export async function readReport(files: SessionFiles): Promise<SessionReport | undefined> {
  return readState(files.report, Report).catch(() => undefined);
}

/** Of an agent that was killed: its paths go to the next one, the rest of its folder serves nobody. */
async function takeLeftPaths(files: SessionFiles): Promise<readonly string[]> {
  try {
    const spool = await openSpool({ queueFile: files.queue, journalFile: files.journal });
    return await spool.readNew();
  } finally {
    await removeSession(files);
  }
}
