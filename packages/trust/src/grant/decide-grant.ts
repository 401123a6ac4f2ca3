import { isCacheError } from "@glorious/core";

import type { Principal } from "../identity/principal.ts";
import type { PolicyScope, PolicyView, SharedWriter, TrustPolicy } from "../policy/trust-policy.ts";
import { parseViewName } from "../view-name.ts";
import { findAdoption } from "./adoption.ts";
import type { ConfirmedName, Grant, GrantDecision, GrantRefusal, GrantRequest } from "./grant.ts";
import { judgeJob } from "./judge-job.ts";
import { carriesIds, matchesTarget, matchScopes } from "./match-scope.ts";
import { overlayName } from "./overlay-name.ts";

/**
 * Decides what a principal may read and write. Pure and total: the same three arguments always give
 * the same answer, and there is one for every request.
 *
 * The rule that is narrowest about the principal decides alone. What the client asks for only chooses
 * among, or gives up, what that rule gives: no request makes a grant wider.
 */
export function decideGrant(
  policy: TrustPolicy,
  principal: Principal,
  request: GrantRequest,
): GrantDecision {
  const issuer = policy.issuers.find(
    (candidate) => candidate.issuer === principal.issuer && candidate.kind === principal.forge,
  );
  if (issuer === undefined) return refuse("unknown-issuer", "The policy knows no such issuer.");
  if (!isWellFormed(request)) return refuse("bad-request", "The request is malformed.");
  const shared = request.view === undefined ? undefined : policy.views.get(request.view);
  const writer = shared && findWriter(shared, principal);
  const { matching, byNameOnly } = matchScopes(policy, principal);
  const [scope] = matching;
  if (shared !== undefined && writer !== undefined) {
    return narrow(writeShared(shared, writer, issuer.tokenLifetimeSeconds), request);
  }
  if (scope === undefined) return refuseStranger(principal, byNameOnly);
  const view = policy.views.get(scope.view);
  if (view === undefined)
    return refuse("no-matching-scope", "The rule's view is gone.", scope.rule);
  const given = grantByScope(policy, scope, view, principal, issuer.tokenLifetimeSeconds);
  return given.kind === "granted" ? narrow(given.grant, request) : given;
}

function isWellFormed(request: GrantRequest): boolean {
  if (request.mode !== undefined && request.mode !== "read" && request.mode !== "write")
    return false;
  if (request.view === undefined) return true;
  // It comes from a stranger's JSON, whatever its type says.
  if (typeof request.view !== "string") return false;
  try {
    parseViewName(request.view);
    return true;
  } catch (error) {
    if (isCacheError(error)) return false;
    throw error;
  }
}

function refuseStranger(principal: Principal, byNameOnly: readonly PolicyScope[]): GrantDecision {
  const [named] = byNameOnly;
  if (named !== undefined && carriesIds(principal)) {
    return refuse(
      "ids-required",
      `The rule knows the owner by name only, and the token carries ids: owner ${principal.owner?.id ?? "(none)"}, repository ${principal.repository?.id ?? "(none)"}.`,
      named.rule,
    );
  }
  if (principal.repository !== undefined && !carriesIds(principal)) {
    return refuse(
      "ids-required",
      "The token carries names only, which can change hands, and no rule confirms them.",
    );
  }
  return refuse("no-matching-scope", "No rule of the policy is about this identity.");
}

/** What one rule gives, before the client has narrowed it. */
function grantByScope(
  policy: TrustPolicy,
  scope: PolicyScope,
  view: PolicyView,
  principal: Principal,
  lifetimeSeconds: number,
): GrantDecision {
  const { trust, reason } = judgeJob(principal, scope);
  const confirmed = confirmedNameOf(scope);
  const common = { tenant: scope.tenant, lifetimeSeconds, confirmed, rule: scope.rule, reason };
  const none = { write: undefined, overlayOf: undefined, overlayKey: undefined, adopt: undefined };
  const chain = [view.name, ...view.reads];
  const overlay = trust === "overlay" ? overlayName(view.name, principal, scope) : undefined;
  if (trust === "trusted") {
    const adopt = findAdoption(scope, principal, "takes");
    return granted({ ...common, ...none, trust, read: chain, write: view.name, adopt });
  }
  if (overlay !== undefined) {
    return granted({
      ...common,
      trust: "overlay",
      read: [overlay.name, ...chain],
      write: overlay.name,
      overlayOf: view.name,
      overlayKey: overlay.key,
      adopt: principal.mergeQueue ? findAdoption(scope, principal, "offers") : undefined,
    });
  }
  const readable = chain.filter(
    (name) => scope.untrusted === "read" || policy.views.get(name)?.isPublic === true,
  );
  if (readable.length > 0) {
    return granted({ ...common, ...none, trust: "untrusted", read: readable });
  }
  return refuse("untrusted-no-read", `${reason} The rule lets such jobs read nothing.`, scope.rule);
}

function confirmedNameOf({
  rule,
  issuer,
  target,
}: Pick<PolicyScope, "rule" | "issuer" | "target">): ConfirmedName | undefined {
  if (target.kind !== "repository-name" && target.kind !== "organization-name") return undefined;
  const { kind, name, confirmedAtMs, reconfirmAfterSeconds } = target;
  const field = kind === "repository-name" ? "repository" : "organization";
  return {
    ...{ confirmedAtMs, reconfirmAfterSeconds },
    key: JSON.stringify([issuer, field, name]),
    place: `${rule}.${field}.confirmed`,
  };
}

function findWriter(view: PolicyView, principal: Principal): SharedWriter | undefined {
  return view.writers.find(
    (writer) =>
      writer.issuer === principal.issuer &&
      matchesTarget(writer.target, principal) &&
      judgeJob(principal, { trusted: writer.trusted, branchIsolation: true }).trust === "trusted",
  );
}

function writeShared(view: PolicyView, writer: SharedWriter, lifetimeSeconds: number): Grant {
  return {
    tenant: view.tenant,
    trust: "trusted",
    read: [view.name],
    write: view.name,
    overlayOf: undefined,
    overlayKey: undefined,
    adopt: undefined,
    confirmed: confirmedNameOf(writer),
    lifetimeSeconds,
    rule: writer.rule,
    reason: "The policy names this job as a writer of the shared view.",
  };
}

/** Gives up what the client does not want, and refuses what the grant does not hold. */
function narrow(grant: Grant, { view, mode }: GrantRequest): GrantDecision {
  const own = grant.overlayOf ?? grant.read[0];
  let narrowed = grant;
  if (view !== undefined && view !== own && view !== grant.write) {
    if (!grant.read.includes(view)) {
      return refuse(
        "view-not-granted",
        "The rule gives another view than the one asked for.",
        grant.rule,
      );
    }
    narrowed = giveUpWriting({ ...grant, read: [view] });
  }
  if (mode === "read") narrowed = giveUpWriting(narrowed);
  if (mode === "write" && narrowed.write === undefined) {
    return refuse("write-not-granted", `${grant.reason} It may write nothing.`, grant.rule);
  }
  return granted(narrowed);
}

function giveUpWriting(grant: Grant): Grant {
  return {
    ...grant,
    write: undefined,
    overlayOf: undefined,
    overlayKey: undefined,
    adopt: undefined,
  };
}

function granted(grant: Grant): GrantDecision {
  return { kind: "granted", grant };
}

function refuse(code: GrantRefusal, reason: string, rule?: string): GrantDecision {
  return { kind: "refused", code, reason, rule };
}
