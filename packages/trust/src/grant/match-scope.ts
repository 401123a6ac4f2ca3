import type { Principal } from "../identity/principal.ts";
import type { PolicyScope, ScopeTarget, TrustPolicy } from "../policy/trust-policy.ts";

/** How narrow a target is; the highest wins, and a checked policy has no two equal ones for a principal. */
export const SPECIFICITY: Readonly<Record<ScopeTarget["kind"], number>> = {
  repository: 4,
  "repository-name": 4,
  "service-account": 4,
  repositories: 3,
  organization: 2,
  "organization-name": 2,
  group: 2,
  namespace: 2,
  enterprise: 1,
  instance: 1,
};

/** Which rules are about a principal. */
export interface ScopeMatches {
  /** The narrowest first: that one decides. */
  readonly matching: readonly PolicyScope[];
  /** Rules that would be about it, were the names in its token proof of anything. */
  readonly byNameOnly: readonly PolicyScope[];
}

/** Finds the rules about a principal, by ids alone where its token carries them. */
export function matchScopes(policy: TrustPolicy, principal: Principal): ScopeMatches {
  const ofIssuer = policy.scopes.filter((scope) => scope.issuer === principal.issuer);
  return {
    matching: ofIssuer
      .filter((scope) => matchesTarget(scope.target, principal))
      .toSorted((a, b) => SPECIFICITY[b.target.kind] - SPECIFICITY[a.target.kind]),
    byNameOnly: ofIssuer.filter((scope) => matchesNameOnly(scope.target, principal)),
  };
}

/** Tells whether a rule's target is about a principal of the rule's own issuer. */
export function matchesTarget(target: ScopeTarget, principal: Principal): boolean {
  const { repository, owner, serviceAccount } = principal;
  switch (target.kind) {
    case "repository":
      return repository?.id === target.id;
    case "repositories":
      return repository?.id !== undefined && target.ids.includes(repository.id);
    case "organization":
    case "group":
      return owner?.id === target.id;
    case "enterprise":
      return principal.enterprise?.id === target.id;
    case "instance":
      return repository?.id !== undefined;
    case "repository-name":
    case "organization-name":
      return !carriesIds(principal) && matchesNameOnly(target, principal);
    case "service-account":
      return (
        serviceAccount?.namespace === target.namespace &&
        serviceAccount.name === target.name &&
        (target.uid === undefined || serviceAccount.uid === target.uid)
      );
    default:
      return serviceAccount?.namespace === target.namespace;
  }
}

function matchesNameOnly(target: ScopeTarget, principal: Principal): boolean {
  if (target.kind === "repository-name") return principal.repository?.name === target.name;
  return target.kind === "organization-name" && principal.owner?.name === target.name;
}

/** Tells whether the token proves by ids whose it is; then no name counts. */
export function carriesIds(principal: Principal): boolean {
  return principal.repository?.id !== undefined || principal.owner?.id !== undefined;
}
