import {
  type ActionsJob,
  type Claims,
  forgejoClaims,
  githubClaims,
  gitlabClaims,
  type TestForge,
} from "@glorious/testkit";

const PROJECT = { owner: "acme", ownerId: 1001, repository: "acme/site", repositoryId: 2001 };
const GITLAB = { project: "acme/site", projectId: 2001, namespaceId: 1001 };
const GITLAB_FORK = {
  ...{ project: "mallory/site", projectId: 666, namespaceId: 660 },
  ...{ jobProject: "acme/site", jobProjectId: 2001, jobNamespaceId: 1001 },
};

/** An event as each forge tells it. A fork's pull request has an identity where the workflow is the target's. */
const EVENTS: Readonly<
  Record<string, { readonly actions: Partial<ActionsJob>; readonly gitlab: Claims }>
> = {
  "push to the default branch": { actions: {}, gitlab: gitlabClaims(GITLAB) },
  "pull request": {
    actions: { event: "pull_request", ref: "refs/pull/12/merge" },
    gitlab: gitlabClaims({ ...GITLAB, source: "merge_request_event", ref: "topic" }),
  },
  "pull request of a fork": {
    actions: { event: "pull_request_target" },
    gitlab: gitlabClaims({ ...GITLAB_FORK, source: "merge_request_event", ref: "topic" }),
  },
  tag: {
    actions: { ref: "refs/tags/v1.0.0" },
    gitlab: gitlabClaims({ ...GITLAB, ref: "v1.0.0", refType: "tag" }),
  },
  schedule: {
    actions: { event: "schedule" },
    gitlab: gitlabClaims({ ...GITLAB, source: "schedule" }),
  },
};

/** The names of all events. */
export const EVENT_NAMES: readonly string[] = Object.keys(EVENTS);

/** What a forge says of a job that an event began. */
export function claimsOf(event: string, forge: TestForge): Claims {
  const { actions = {}, gitlab = {} } = EVENTS[event] ?? {};
  if (forge === "gitlab") return gitlab;
  const job = { ...PROJECT, ...actions };
  return forge === "github" ? githubClaims(job) : forgejoClaims({ ...job, hasIds: true });
}

/** One rule for all three. */
export const TENANTS = {
  acme: {
    views: { main: {} },
    scopes: (["github", "gitlab", "forgejo"] as const).map((issuer) => ({
      issuer,
      repository: { id: "2001" },
      trusted: { refs: ["refs/heads/main", "refs/tags/*"] },
      untrusted: "read",
    })),
  },
};
