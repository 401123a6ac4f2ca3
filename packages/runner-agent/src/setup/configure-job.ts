import { createControlClient } from "../control/control-client.ts";
import { SESSION_VARIABLE } from "../session/find-session.ts";
import type { SessionFiles } from "../session/session-files.ts";
import {
  type AgentSession,
  readSettings,
  writeSettings,
  writeState,
} from "../session/session-state.ts";
import type { SessionStatus } from "../statistics.ts";
import type { SessionReport } from "./earlier-session.ts";
import type { JobTools } from "./job-tools.ts";
import type { Access } from "./open-access.ts";
import { type DecidedState, instanceNameOf, statusOf } from "./plan-agent.ts";
import { configureBazel, reserveBazelRc } from "./setup-bazel.ts";
import type { SetupNews } from "./setup-news.ts";
import { configureNix } from "./setup-nix.ts";
import type { SetupContext, SetupKind, SetupRequest, SetupResult } from "./setup-request.ts";
import type { Stopwatch } from "./stopwatch.ts";

/** What a set-up works with, from its beginning to its end. */
export interface SetupRun {
  readonly request: SetupRequest;
  readonly context: SetupContext;
  readonly stopwatch: Stopwatch;
  readonly news: SetupNews;
  readonly tools: JobTools;
}

/** What {@link configureJob} points a job's tools to. */
export interface ConfigureState extends DecidedState {
  readonly files: SessionFiles;
  readonly session: AgentSession;
  readonly secret: string;
  /** What is to be configured. */
  readonly kinds: readonly SetupKind[];
  readonly before: SessionReport | undefined;
}

/** Points a job's Nix and Bazel to the agent that runs, and reports it, to the agent as well. */
export async function configureJob(
  access: Access,
  state: ConfigureState,
  run: SetupRun,
): Promise<SetupResult> {
  const { files, session, secret, canPush, plan, extra, kinds, before } = state;
  const { news, request } = run;
  news.warnings.push(...(plan?.warnings ?? []));
  const publicKeys = [...new Set([...access.publicKeys, ...extra.publicKeys])];
  const configuringBazel = state.isBazelWanted ? writeBazel(access, state, run) : undefined;
  const nix = await writeNix(access, state, publicKeys, run);
  const bazel = await configuringBazel;
  const { trouble } = news;
  const status: SessionStatus = trouble === undefined ? statusOf(access, canPush) : "degraded";
  const newest = access.publicKeys.at(-1);
  const environment: Record<string, string> = {
    [SESSION_VARIABLE]: files.folder,
    ATTIC_SERVER: access.server,
    ...(access.view !== "" && { ATTIC_CACHE: access.view }),
    ...(newest !== undefined && before === undefined && { ATTIC_PUBLIC_KEY: newest }),
    ...nix.environment,
    ...(bazel !== undefined &&
      session.faces.bazel !== undefined && { BAZEL_REMOTE_CACHE: session.faces.bazel.http }),
    FLYWHEEL_STATUS: status,
  };
  const hint = trouble?.hint === undefined ? access.hint : [trouble.hint];
  const result: SetupResult = {
    ...before?.result,
    version: 1,
    status,
    reason: trouble?.message ?? describeAccess(access, canPush, request),
    ...(hint !== undefined && status !== "ready" && { hint }),
    session: files.folder,
    ...(access.tenant !== undefined && { tenant: access.tenant }),
    ...(access.view !== "" && { cache: access.view }),
    extraCaches:
      nix.substituter === undefined
        ? (before?.result.extraCaches ?? [])
        : extra.views.map(({ view }) => view),
    ...(access.trust !== undefined && { trust: access.trust }),
    canPush: canPush && access.isPending !== true,
    pushMode: nix.pushMode,
    ...(nix.substituter !== undefined && { substituter: nix.substituter }),
    publicKeys,
    ...(bazel !== undefined && { bazel }),
    environment: { ...before?.result.environment, ...environment },
    path: [],
    masks: access.token === undefined ? [secret] : [access.token, secret],
    warnings: news.warnings,
    notes: [...news.notes, ...news.lacks],
    existing: before !== undefined,
    timings: run.stopwatch.timings(),
  };
  const report: SessionReport = {
    ...before,
    result: { ...result, masks: [] },
    kinds: [...(before?.kinds ?? []), ...kinds],
  };
  await writeState(files.report, report);
  await tellStatus(state, status);
  return result;
}

interface WrittenNix {
  readonly environment: Readonly<Record<string, string>>;
  /** The address that Nix reads from; `undefined` when it reads nothing from us. */
  readonly substituter?: string | undefined;
  readonly pushMode: SetupResult["pushMode"];
}

async function writeNix(
  access: Access,
  { files, session, nix, plan, before }: ConfigureState,
  publicKeys: readonly string[],
  { request, context, news }: SetupRun,
): Promise<WrittenNix> {
  const pushMode = plan?.pushMode ?? before?.result.pushMode ?? "none";
  if (nix === undefined || plan === undefined) return { environment: {}, pushMode };
  const substituter = plan.canSubstitute ? session.faces.nix?.url : undefined;
  const { storeDir } = access;
  const conf = { substituter, publicKeys, storeDir, priority: request.priority, pushMode };
  try {
    const environment = await configureNix(conf, nix, { ...context, files });
    return { environment, substituter, pushMode };
  } catch (error) {
    news.fail("nix-fails", error);
    return { environment: {}, pushMode: pushMode === "hook" ? "none" : pushMode };
  }
}

/** Never rejects. */
async function writeBazel(
  access: Access,
  { files, session, secret, canPush }: ConfigureState,
  { request, context: { env }, news, tools }: SetupRun,
): Promise<SetupResult["bazel"]> {
  if (access.isPending === true) {
    news.warnings.push(...(await reserveBazelRc(tools.bazel, { files, env }).catch(() => [])));
    return undefined;
  }
  const face = session.faces.bazel;
  if (face === undefined) return undefined;
  try {
    const { bazel, warnings } = await configureBazel(
      {
        request: tools.bazel,
        release: () => tools.bazelRelease(),
        face,
        secret,
        instanceName: instanceNameOf(access.view, request),
        canPush,
      },
      { files, env },
    );
    news.warnings.push(...warnings);
    return bazel;
  } catch (error) {
    news.fail("bazel-fails", error);
    return undefined;
  }
}

/** The agent began with what was planned; its summary is to say what came of it. */
async function tellStatus(
  { files, session }: ConfigureState,
  status: SessionStatus,
): Promise<void> {
  const settings = await readSettings(files);
  if (settings.status === status) return;
  await writeSettings(files, { ...settings, status });
  await createControlClient(session.socket).reload();
}

function describeAccess(
  access: Access,
  canPush: boolean,
  { push, cacheMode }: SetupRequest,
): string {
  if (canPush || access.isPending === true || access.write === undefined) return access.reason;
  if (push === "false") return "The job wants to write nothing: push is false.";
  return `The workflow forbids to write: ACTIONS_CACHE_MODE is ${cacheMode ?? "read"}.`;
}
