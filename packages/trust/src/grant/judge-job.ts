import type { Principal } from "../identity/principal.ts";
import { matchesRefPattern } from "../policy/ref-pattern.ts";
import type { PolicyScope, TrustedRule } from "../policy/trust-policy.ts";
import type { Trust } from "./grant.ts";

/** How far a job is trusted under one rule. */
export interface JobVerdict {
  readonly trust: Trust;
  /** One plain sentence. */
  readonly reason: string;
  /** What would make it trusted, where the policy could; `undefined` where nothing may. */
  readonly change: string | undefined;
}

const REVIEW_EVENTS: ReadonlySet<string> = new Set(["pull_request", "merge_request_event"]);

/** Judges the job of a principal by what its forge states, never by what the client asks. */
export function judgeJob(
  principal: Principal,
  scope: Pick<PolicyScope, "trusted" | "branchIsolation">,
): JobVerdict {
  const { ref, refType, event } = principal;
  if (principal.serviceAccount !== undefined) {
    return untrusted("A runner's own identity says nothing about the job that uses it.");
  }
  if (principal.fork === "yes") return untrusted("The job runs the code of a fork.");
  if (principal.fork === "unknown") {
    return untrusted(
      event === undefined
        ? "The token does not say that the job is safe from forks."
        : `An outsider may have caused the event ${quote(event)}.`,
    );
  }
  if (principal.mergeQueue) {
    return overlay("The job belongs to a merge queue, whose commit has not landed yet.", undefined);
  }
  if (refType === "pull" || (event !== undefined && REVIEW_EVENTS.has(event))) {
    return overlay("The job belongs to a pull or merge request of the same repository.", undefined);
  }
  if (ref === undefined || refType === undefined) {
    return untrusted("The token names no branch and no tag.");
  }
  const obstacle = findObstacle(principal, ref, scope.trusted);
  if (obstacle === undefined) {
    return trusted(
      `${quote(ref)} is a trusted ref${event === undefined ? "" : ` and ${quote(event)} a trusted event`}.`,
    );
  }
  if (!scope.branchIsolation && refType === "branch" && obstacle.is === "ref") {
    return trusted(`The rule trusts every branch of the repository, also ${quote(ref)}.`);
  }
  return overlay(obstacle.reason, obstacle.change);
}

interface Obstacle {
  readonly is: "ref" | "event" | "environment";
  readonly reason: string;
  readonly change: string;
}

/** The first thing that keeps a run of the repository's own ref from being trusted. */
function findObstacle(
  principal: Principal,
  ref: string,
  rule: TrustedRule | undefined,
): Obstacle | undefined {
  const { event, environment } = principal;
  // Before the ref, so that whoever trusts all branches still trusts no other event.
  if (rule?.events !== undefined && (event === undefined || !rule.events.includes(event))) {
    return {
      is: "event",
      reason: `The event ${quote(event ?? "(none)")} is none that the rule trusts.`,
      change: `Name ${quote(event ?? "(none)")} in trusted.events.`,
    };
  }
  if (
    rule !== undefined &&
    rule.environments.length > 0 &&
    (environment === undefined || !rule.environments.includes(environment))
  ) {
    return {
      is: "environment",
      reason: "The job does not run in an environment that the rule asks for.",
      change: `Run it in one of the environments ${rule.environments.map(quote).join(", ")}.`,
    };
  }
  const fits =
    rule !== undefined &&
    (rule.refs.some((pattern) => matchesRefPattern(pattern, ref)) ||
      (rule.isProtected && principal.isRefProtected === true));
  if (fits) return undefined;
  return {
    is: "ref",
    reason: `${quote(ref)} is not among the trusted refs of the rule.`,
    change: `Add ${quote(ref)}, or a pattern that covers it, to trusted.refs.`,
  };
}

function trusted(reason: string): JobVerdict {
  return { trust: "trusted", reason, change: undefined };
}

function overlay(reason: string, change: string | undefined): JobVerdict {
  return { trust: "overlay", reason, change };
}

function untrusted(reason: string): JobVerdict {
  return { trust: "untrusted", reason, change: undefined };
}

function quote(text: string): string {
  return JSON.stringify(text);
}
