import type { ClaimsReader } from "./claims-reader.ts";
import { readRef } from "./git-ref.ts";
import type { NamedId, Principal } from "./principal.ts";

/**
 * Events that only people with write access cause, and that run the code of the ref they name.
 * `pull_request_target`, `issue_comment`, `workflow_run` and whatever is not listed may be caused by
 * a stranger while the token names the default branch.
 */
const INSIDER_EVENTS: ReadonlySet<string> = new Set([
  "push",
  "schedule",
  "workflow_dispatch",
  "repository_dispatch",
  "release",
  "deployment",
  "merge_group",
]);
const MERGE_QUEUE = "refs/heads/gh-readonly-queue/";

/** What the tokens of GitHub, of a GitHub Enterprise Server and of Forgejo have in common. */
export type ActionsFacts = Omit<Principal, "forge" | "issuer" | "id" | "owner" | "repository">;

/** Reads what the claims of GitHub's Actions say, which Forgejo copied. */
export function readActionsClaims(claims: ClaimsReader): ActionsFacts {
  const ref = readRef(claims.text("ref"));
  const event = claims.text("event_name");
  return {
    ...ref,
    enterprise: namedId(claims.id("enterprise_id"), claims.text("enterprise")),
    isRefProtected: claims.flag("ref_protected"),
    event,
    fork: judgeFork(event, ref.pullRequest),
    mergeQueue: false,
    environment: claims.text("environment"),
    run: claims.id("run_id"),
    attempt: claims.id("run_attempt"),
    commit: claims.text("sha"),
    workflowRef: claims.text("workflow_ref"),
    runnerEnvironment: claims.text("runner_environment"),
    actor: namedId(claims.id("actor_id"), claims.text("actor")),
    serviceAccount: undefined,
  };
}

/**
 * A `pull_request` run with a token is of a branch of the same repository: forks get none. (Where a
 * private repository is set to give forks write tokens, the worst such a run gets is an overlay of its own.)
 */
function judgeFork(event: string | undefined, pullRequest: number | undefined): Principal["fork"] {
  if (event === undefined) return "unknown";
  if (event === "pull_request") return pullRequest === undefined ? "unknown" : "no";
  // A run that names a pull request's ref and another event runs code of unknown origin.
  return INSIDER_EVENTS.has(event) && pullRequest === undefined ? "no" : "unknown";
}

/** A named id, or nothing when there is neither. */
export function namedId(id: string | undefined, name: string | undefined): NamedId | undefined {
  return id === undefined && name === undefined ? undefined : { id, name };
}

/** @throws {ClaimError} when an id is missing. @see the claims of GitHub's OpenID Connect reference. */
export function readGithubPrincipal(issuer: string, claims: ClaimsReader): Principal {
  const owner = {
    id: claims.requireId("repository_owner_id"),
    name: claims.text("repository_owner"),
  };
  const repository = { id: claims.requireId("repository_id"), name: claims.text("repository") };
  const facts = readActionsClaims(claims);
  return {
    ...facts,
    mergeQueue: facts.event === "merge_group" || facts.ref?.startsWith(MERGE_QUEUE) === true,
    forge: "github",
    issuer,
    id: `github:${issuer}:owner/${owner.id}:repo/${repository.id}`,
    owner,
    repository,
  };
}
