import { findJobProcess, identifyProcess } from "../session/process-identity.ts";
import type { AgentSettings } from "../session/session-state.ts";
import type { SessionStatus } from "../statistics.ts";
import type { NixFacts } from "./detect-nix.ts";
import type { EarlierSession } from "./earlier-session.ts";
import type { ExtraViews } from "./extra-views.ts";
import type { Access } from "./open-access.ts";
import type { NixPlan } from "./setup-nix.ts";
import type { SetupRequest } from "./setup-request.ts";

/** An agent that nobody ends, because its job is gone without a trace, ends by itself. */
const MAX_AGE_SECONDS = 36 * 3600;

/** What is to be configured, as far as it is known before an agent runs. */
export interface DecidedState {
  readonly nix: NixFacts | undefined;
  readonly plan: NixPlan | undefined;
  readonly extra: ExtraViews;
  readonly canPush: boolean;
  readonly isBazelWanted: boolean;
}

/** What the agent of a job is to do, and for how long. */
export async function planAgent(
  access: Access,
  { nix, plan, extra, canPush, isBazelWanted }: DecidedState,
  { request, secret }: { readonly request: SetupRequest; readonly secret: string },
): Promise<AgentSettings> {
  const { upstream, substituterUrl, api } = access;
  const job =
    request.jobPid === undefined
      ? await findJobProcess(process.pid)
      : await identifyProcess(request.jobPid);
  return {
    version: 1,
    server: access.server,
    view: access.view,
    address: access.isPending === true ? undefined : { kind: upstream, substituterUrl, api },
    write: canPush ? access.write : undefined,
    status: statusOf(access, canPush),
    credentials: access.credentials,
    secret,
    nix: planNixFace(plan, extra, request),
    bazel: isBazelWanted ? planBazel(access, request) : undefined,
    bazelUrl: access.bazelUrl,
    uploads: planUploads(nix, plan, request),
    drainTimeoutSeconds: request.drainTimeoutSeconds,
    maxAgeSeconds: MAX_AGE_SECONDS,
    job,
    startedAt: new Date().toISOString(),
  };
}

/** What a job is told of its session when nothing is wrong. */
export function statusOf({ isPending }: Access, canPush: boolean): SessionStatus {
  if (isPending === true) return "pending";
  return canPush ? "ready" : "read-only";
}

/** What a running session was given. */
export function accessOf({
  settings,
  report,
}: Extract<EarlierSession, { kind: "running" }>): Access {
  const { reason, hint, publicKeys, tenant, trust } = report.result;
  const { server, view, address, write, credentials, bazelUrl } = settings;
  return {
    ...{ kind: "open", server, view, write, credentials, reason, hint, publicKeys, tenant, trust },
    upstream: address?.kind ?? "flywheel",
    substituterUrl: address?.substituterUrl ?? server,
    api: address?.api,
    bazelUrl,
    isPending: address === undefined,
    notices: [],
  };
}

/** What the Nix face is to be; `undefined` where Nix reads nothing from us. */
export function planNixFace(
  plan: NixPlan | undefined,
  { views }: ExtraViews,
  { prefetch }: SetupRequest,
): AgentSettings["nix"] {
  if (plan?.canSubstitute !== true) return undefined;
  return {
    extra: views,
    prefetch: prefetch?.enabled ?? true,
    spoolBytes: prefetch?.spoolBytes,
    largeNars: prefetch?.largeNars ?? false,
  };
}

/** How the agent pushes; `undefined` where it does not. */
export function planUploads(
  nix: NixFacts | undefined,
  plan: NixPlan | undefined,
  { pushFilter }: SetupRequest,
): AgentSettings["uploads"] {
  const mode = plan?.pushMode;
  if (nix === undefined || (mode !== "hook" && mode !== "store-diff")) return undefined;
  return { mode, exclude: pushFilter, nix: nix.command, storeDir: nix.storeDir };
}

/** What the Bazel face is to be; `undefined` where it is not wanted, or the server has none. */
export function planBazel(
  { bazelUrl, view }: Pick<Access, "bazelUrl" | "view">,
  request: SetupRequest,
): AgentSettings["bazel"] {
  if (bazelUrl === undefined || !request.kinds.includes("bazel")) return undefined;
  return {
    grpc: bazelUrl,
    instanceName: instanceNameOf(view, request),
    downloadsAll: request.bazel?.download === "all",
  };
}

/** What Bazel calls the part of the cache that it uses. */
export function instanceNameOf(view: string, { bazel }: SetupRequest): string {
  return bazel?.instanceName === undefined ? view : `${view}/${bazel.instanceName}`;
}
