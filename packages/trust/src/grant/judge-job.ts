import type { Principal } from "../identity/principal.ts";
import { matchesRefPattern } from "../policy/ref-pattern.ts";
import type { PolicyScope, TrustedRule } from "../policy/trust-policy.ts";
import type { Trust } from "./grant.ts";

/** How far a job is trusted under one rule. */
export interface JobVerdict {
  readonly trust: Trust;
  /** One plain sentence. */
  readonly reason: string;
  /** What would give it more, or that nothing may; `undefined` when it has all there is. */
  readonly change: string | undefined;
}

const REVIEW_EVENTS: ReadonlySet<string> = new Set(["pull_request", "merge_request_event"]);
const LANDING =
  "No policy can trust it; the job that runs once the commit has landed on a trusted ref is trusted.";
const OUTSIDERS =
  "No policy can trust it; do what has to write in a job on push, or for an overlay on pull_request.";

/** Judges the job of a principal by what its forge states, never by what the client asks. */
export function judgeJob(
  principal: Principal,
  scope: Pick<PolicyScope, "trusted" | "branchIsolation">,
): JobVerdict {
  const { ref, refType, event, fork } = principal;
  if (principal.serviceAccount !== undefined) {
    return untrusted(
      "A runner's own identity says nothing about the job that uses it.",
      "No policy can trust it; let the job send the identity token of its forge.",
    );
  }
  if (fork === "yes") {
    return untrusted("The job runs the code of a fork.", "No policy can trust it.");
  }
  if (fork === "unknown") {
    return event === undefined
      ? untrusted("The token does not say that the job is safe from forks.", OUTSIDERS)
      : untrusted(
          `An outsider can cause the event ${quote(event)}, or bring the code that it runs.`,
          OUTSIDERS,
        );
  }
  if (principal.mergeQueue) {
    return overlay("The job belongs to a merge queue, whose commit has not landed yet.", LANDING);
  }
  if (refType === "pull" || (event !== undefined && REVIEW_EVENTS.has(event))) {
    return overlay("The job belongs to a pull or merge request of the same repository.", LANDING);
  }
  if (ref === undefined || refType === undefined) {
    return untrusted("The token names no branch and no tag.", "Run the job on a branch or a tag.");
  }
  const obstacle = findObstacle(principal, ref, scope.trusted);
  if (obstacle === undefined) return trusted(`${quote(ref)} is a trusted ref of the rule.`);
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
  { event, environment, isRefProtected }: Principal,
  ref: string,
  rule: TrustedRule | undefined,
): Obstacle | undefined {
  if (rule === undefined) {
    return {
      is: "ref",
      reason: "The rule trusts no ref.",
      change: `Add trusted: { refs: [${quote(ref)}] } to the rule, and it is trusted.`,
    };
  }
  const { refs, isProtected, events, environments } = rule;
  // Before the ref, so that whoever trusts all branches still trusts no other event.
  if (events !== undefined && (event === undefined || !events.includes(event))) {
    return {
      is: "event",
      reason: `The rule does not trust the event ${quote(event ?? "none")}.`,
      change: `Name it in trusted.events (now ${events.join(", ")}), if only people with write access can cause it.`,
    };
  }
  if (environments.length > 0 && !environments.includes(environment ?? "")) {
    return {
      is: "environment",
      reason: "The job runs in no environment that the rule asks for.",
      change: `Run it in the environment ${environments.join(" or ")}.`,
    };
  }
  if (refs.some((pattern) => matchesRefPattern(pattern, ref))) return undefined;
  if (isProtected && isRefProtected === true) return undefined;
  return {
    is: "ref",
    reason: `${quote(ref)} is not among the trusted refs of the rule.`,
    change: `Add ${quote(ref)}, or a pattern that covers it, to trusted.refs (now ${refs.join(", ") || "none"})${isProtected ? ", or protect it in the forge" : ""}, and it is trusted.`,
  };
}

function trusted(reason: string): JobVerdict {
  return { trust: "trusted", reason, change: undefined };
}

function overlay(reason: string, change: string): JobVerdict {
  return { trust: "overlay", reason, change };
}

function untrusted(reason: string, change: string): JobVerdict {
  return { trust: "untrusted", reason, change };
}

function quote(text: string): string {
  return JSON.stringify(text);
}
