import { gitlabClaims } from "@glorious/testkit";

/** A project of GitLab's. */
const PROJECT = { project: "acme/site", projectId: 2001, namespaceId: 1001 } as const;

/** A push to the protected branch, a merge request of the project, and one of a fork, as GitLab says it. */
export const JOBS = {
  main: gitlabClaims(PROJECT),
  review: gitlabClaims({
    ...PROJECT,
    ref: "feature",
    refPath: "refs/merge-requests/12/head",
    source: "merge_request_event",
  }),
  fork: gitlabClaims({
    ...{ project: "mallory/site", projectId: 6666, namespaceId: 6665, ref: "feature" },
    ...{ jobProject: "acme/site", jobProjectId: 2001, jobNamespaceId: 1001 },
    refPath: "refs/merge-requests/13/head",
    source: "merge_request_event",
  }),
} as const;

/** The policy's tenants for {@link JOBS}. */
export const TENANTS = {
  acme: {
    views: { main: { default: true } },
    scopes: [
      {
        issuer: "gitlab",
        repository: { id: "2001" },
        trusted: { refs: ["refs/heads/main"] },
        untrusted: "read",
      },
    ],
  },
};
