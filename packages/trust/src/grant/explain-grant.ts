import type { Principal } from "../identity/principal.ts";
import type { PolicyScope, ScopeTarget, TrustPolicy } from "../policy/trust-policy.ts";
import { decideGrant } from "./decide-grant.ts";
import type { GrantDecision, GrantRequest } from "./grant.ts";
import { judgeJob } from "./judge-job.ts";
import { matchScopes } from "./match-scope.ts";

/** A rule that has to do with a principal. */
export interface ExplainedRule {
  /** Where it stands in the policy. */
  readonly rule: string;
  /** Whom it is about, such as `repository 456`. */
  readonly about: string;
  /** `decides`, or why it does not. */
  readonly part: "decides" | "wider" | "by name only";
}

/** Why a principal gets what it gets. */
export interface Explanation {
  readonly decision: GrantDecision;
  /** Rules about the principal, the narrowest first, then those that know only its name. */
  readonly rules: readonly ExplainedRule[];
  /** How many rules of the policy are about others. */
  readonly otherRules: number;
  /** What would change the decision: one sentence each. */
  readonly changes: readonly string[];
}

/** Explains what {@link decideGrant} decides with the same arguments. */
export function explainGrant(
  policy: TrustPolicy,
  principal: Principal,
  request: GrantRequest,
): Explanation {
  const decision = decideGrant(policy, principal, request);
  const { matching, byNameOnly } = matchScopes(policy, principal);
  const named = byNameOnly.filter((scope) => !matching.includes(scope));
  const decidingRule = decision.kind === "granted" ? decision.grant.rule : decision.rule;
  const isShared =
    decision.kind === "granted" && !matching.some(({ rule }) => rule === decidingRule);
  const rules: readonly ExplainedRule[] = [
    ...(isShared
      ? [{ rule: decision.grant.rule, about: "writers of the view", part: "decides" as const }]
      : []),
    ...matching.map((scope) =>
      explainRule(scope, scope.rule === decidingRule ? "decides" : "wider"),
    ),
    ...named.map((scope) => explainRule(scope, "by name only")),
  ];
  return {
    decision,
    rules,
    otherRules: policy.scopes.length - matching.length - named.length,
    changes: findChanges(decision, matching[0], principal),
  };
}

function explainRule(scope: PolicyScope, part: ExplainedRule["part"]): ExplainedRule {
  return { rule: scope.rule, about: describeTarget(scope.target), part };
}

/** Whom a rule is about, for people. */
function describeTarget(target: ScopeTarget): string {
  switch (target.kind) {
    case "repositories":
      return `${target.ids.length} repositories`;
    case "repository-name":
    case "organization-name":
      return `${target.kind.replace("-name", "")} by the name ${target.name}`;
    case "service-account":
      return `service account ${target.namespace}/${target.name}`;
    case "namespace":
      return `namespace ${target.namespace}`;
    case "instance":
      return "the whole instance";
    default:
      return `${target.kind} ${target.id}`;
  }
}

function findChanges(
  decision: GrantDecision,
  scope: PolicyScope | undefined,
  principal: Principal,
): readonly string[] {
  const { change } = scope === undefined ? {} : judgeJob(principal, scope);
  const changes = change === undefined ? [] : [change];
  if (decision.kind === "granted") return changes;
  switch (decision.code) {
    case "unknown-issuer":
      return [
        `Add an issuer of the kind ${principal.forge} with issuer: ${principal.issuer} to issuers.`,
      ];
    case "no-matching-scope":
      return [`Add a scope with ${describeWantedTarget(principal)} to a tenant.`];
    case "ids-required":
      return [describeIdChange(principal)];
    case "untrusted-no-read":
      return ["Write untrusted: read in the rule, and it reads the view.", ...changes];
    case "view-not-granted":
      return ["Ask for the view of the rule, or for none: then the rule chooses."];
    case "write-not-granted":
      return ["Ask without --mode write to get what there is to read.", ...changes];
    default:
      return ["Ask for a view by its full name, such as acme+main, and for read or write."];
  }
}

function describeWantedTarget(principal: Principal): string {
  const { repository, serviceAccount } = principal;
  if (serviceAccount !== undefined) {
    const { namespace, name } = serviceAccount;
    return `serviceAccount: { namespace: ${namespace}, name: ${name} }`;
  }
  return `repository: { id: ${repository?.id}, name: ${JSON.stringify(repository?.name ?? "")} }`;
}

function describeIdChange({ owner, repository }: Principal): string {
  if (repository?.id !== undefined) {
    return `Write organization: { id: ${owner?.id} } or repository: { id: ${repository.id} } in the rule instead of the name.`;
  }
  return `Update the forge, so that its tokens carry ids; until then confirm a name: organization: { name: ${owner?.name}, confirmed: <date> }.`;
}
