import { createHash } from "node:crypto";

import type { Claims } from "@glorious/testkit";

import {
  ClaimError,
  decideGrant,
  type GrantRequest,
  parseTrustPolicy,
  type Principal,
  readPrincipal,
  type TrustPolicy,
} from "../src/index.ts";

/** Names that the policy gives its issuers. */
export type IssuerName = "github" | "ghes" | "gitlab" | "forge" | "cluster" | "ci" | "buildkite";

/** A policy with a rule of every kind. */
export const TABLE_POLICY: TrustPolicy = requirePolicy(`
version: 1
issuers:
  github: { kind: github, issuer: "https://token.actions.githubusercontent.com" }
  ghes: { kind: github, issuer: "https://ghes.example.com/_services/token", tokenLifetime: 15m }
  gitlab: { kind: gitlab, issuer: "https://gitlab.example.com" }
  forge: { kind: forgejo, issuer: "https://forge.example.org/api/actions" }
  cluster: { kind: kubernetes, issuer: "https://kubernetes.default.svc" }
  ci:
    kind: oidc
    issuer: https://ci.example.com
    claims: { repositoryId: repo, ref: ref, event: event, fork: fork, pullRequest: pr, environment: env, refProtected: safe }
  buildkite:
    kind: oidc
    issuer: https://agent.buildkite.com
    claims: { repositoryId: pipeline_id, ownerId: organization_id, branch: build_branch, tag: build_tag }
    neverForks: true
defaultTenant:
  views: { main: { public: true } }
  scopes:
    - { issuer: ghes, instance: true, trusted: { refs: [refs/heads/main] } }
tenants:
  corp:
    quotas: { trusted: 2 TiB, overlay: 200 GiB }
    views: { main: {} }
    scopes:
      - { issuer: github, enterprise: { id: 55, name: corp }, trusted: { refs: [refs/heads/main] } }
  acme:
    parent: corp
    views:
      main: { default: true, reads: [shared] }
      app: { reads: [shared] }
      team: {}
      pub: { public: true, reads: [shared] }
      solo: {}
    scopes:
      - issuer: github
        organization: { id: 123, name: acme }
        trusted: { refs: [refs/heads/main, "refs/heads/release/*", "refs/tags/v*"] }
        adoptMergeQueue: false
      - issuer: github
        repository: { id: 456, name: acme/app }
        view: app
        trusted:
          refs: [refs/heads/main, "refs/tags/**"]
          events: [push, schedule, workflow_dispatch, release]
        untrusted: read
        adoptMergeQueue: true
      - issuer: github
        repositories: [{ id: 457, name: acme/web }, { id: 458, name: acme/api }]
        view: team
        trusted: { protected: true }
      - issuer: github
        repository: { id: 459, name: acme/scratch }
        trusted: { refs: ["refs/tags/v*"] }
        branchIsolation: false
      - issuer: github
        repository: { id: 460, name: acme/deploy }
        trusted: { refs: [refs/heads/main], environments: [production, staging] }
      - issuer: gitlab
        group: { id: 7, name: acme }
        trusted: { refs: [refs/heads/main, "refs/tags/v*"] }
        untrusted: read
      - issuer: gitlab
        repository: { id: 22, name: acme/lib }
        trusted: { protected: true, events: [push, pipeline, parent_pipeline] }
        adoptMergeQueue: true
      - { issuer: forge, organization: { id: 31, name: acme }, trusted: { refs: [refs/heads/main] } }
      - issuer: forge
        organization: { name: oldorg, confirmed: "2026-11-20" }
        trusted: { refs: [refs/heads/main] }
      - issuer: forge
        repository: { name: solo/app, confirmed: "2026-11-20" }
        view: solo
        trusted: { protected: true }
      - { issuer: cluster, serviceAccount: { namespace: gf-acme, name: nix, uid: 0e-1f }, untrusted: read }
      - { issuer: cluster, namespace: { name: gf-public }, view: pub }
      - { issuer: ci, repository: { id: p-1 }, trusted: { refs: [refs/heads/main], events: [deploy] } }
      - { issuer: buildkite, organization: { id: org-1 }, trusted: { refs: [refs/heads/main, "refs/tags/*"] } }
      - { issuer: buildkite, repository: { id: pipe-2 }, view: pub, trusted: { refs: [refs/heads/main] } }
  globex:
    views: { main: {} }
    scopes:
      - { issuer: github, organization: { id: 999, name: globex }, trusted: { refs: [refs/heads/main] }, untrusted: read }
sharedViews:
  shared:
    quota: 1 TiB
    writers:
      - issuer: github
        repository: { id: 9, name: ops/packages }
        trusted: { refs: [refs/heads/main] }
      - issuer: github
        repository: { id: 456, name: acme/app }
        trusted: { refs: ["refs/tags/v*"] }
`);

/** Reads claims as the policy's issuer of that name means them. @throws {ClaimError} as the reader. */
export function principalOf(name: IssuerName, claims: Claims): Principal {
  const issuer = TABLE_POLICY.issuers.find((candidate) => candidate.name === name);
  if (issuer === undefined) throw new Error(`There is no issuer ${name}`);
  return readPrincipal({ ...issuer, audiences: [] }, claims);
}

/**
 * What a job gets, in one line: `trusted acme+main < acme+main shared` (what it writes, then what it
 * reads), or `refused <code>`.
 */
export function decideInShort(name: IssuerName, claims: Claims, request: GrantRequest): string {
  let principal: Principal;
  try {
    principal = principalOf(name, claims);
  } catch (error) {
    if (error instanceof ClaimError) return "refused bad-claims";
    throw error;
  }
  const decision = decideGrant(TABLE_POLICY, principal, request);
  if (decision.kind === "refused") return `refused ${decision.code}`;
  const { trust, read, write } = decision.grant;
  return [trust, write ?? "-", "<", ...read].join(" ");
}

/** The name of the overlay that is made for a repository's ref, or `pr/<number>`. */
export function refOverlay(
  view: string,
  repository: string,
  subject: string,
  issuerName: IssuerName = "github",
): string {
  const issuer = TABLE_POLICY.issuers.find(({ name }) => name === issuerName)?.issuer;
  const hash = createHash("sha256").update(`${issuer}\n${repository}\n${subject}`).digest("hex");
  return `${view}_ref-${hash.slice(0, 8)}`;
}

/** A policy that must be good. */
function requirePolicy(text: string): TrustPolicy {
  const check = parseTrustPolicy(text);
  if (check.kind === "valid") return check.policy;
  throw new Error(check.problems.map(({ place, message }) => `${place}: ${message}`).join("\n"));
}
