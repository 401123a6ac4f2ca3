/** The payload of an identity token. */
export type Claims = Readonly<Record<string, unknown>>;

/** What every token carries beside what its forge says of the job. */
export interface TokenStamp {
  readonly issuer: string;
  readonly audience: string | readonly string[];
  readonly nowSeconds: number;
  /** Default 300, as GitHub's. */
  readonly lifetimeSeconds?: number;
  readonly jti?: string;
}

/** Adds `iss`, `aud`, `iat`, `nbf`, `exp` and `jti` to what a forge says of a job. */
export function stampClaims(claims: Claims, stamp: TokenStamp): Claims {
  const { issuer, audience, nowSeconds, lifetimeSeconds = 300 } = stamp;
  return {
    jti: stamp.jti ?? `jti-${nowSeconds}`,
    iss: issuer,
    aud: audience,
    iat: nowSeconds,
    nbf: nowSeconds,
    exp: nowSeconds + lifetimeSeconds,
    ...claims,
  };
}

/** A job of a forge that speaks GitHub's claims. Numbers are ids. */
export interface ActionsJob {
  readonly owner: string;
  readonly ownerId: number;
  readonly repository: string;
  readonly repositoryId: number;
  /** In full. Default `refs/heads/main`. */
  readonly ref?: string;
  /** Default `push`. */
  readonly event?: string;
  readonly isProtected?: boolean;
  readonly environment?: string;
  readonly commit?: string;
  readonly runId?: number;
  readonly attempt?: number;
  readonly workflow?: string;
  readonly actor?: string;
  readonly actorId?: number;
  readonly headRef?: string;
  readonly baseRef?: string;
}

const COMMIT = "6f1ed002ab5595859014ebf0951522d9a1b2c3d4";

/**
 * What GitHub says of a job, after the payload in its OpenID Connect reference. Every value is a text,
 * ids and booleans too.
 */
export function githubClaims(
  job: ActionsJob & {
    readonly enterprise?: string;
    readonly enterpriseId?: number;
    readonly runner?: "self-hosted" | "github-hosted";
    /** Repositories made or renamed since July 2026 carry ids in `sub`. Default `true`. */
    readonly hasIdsInSubject?: boolean;
  },
): Claims {
  const { ref = "refs/heads/main", event = "push", commit = COMMIT } = job;
  const [, name = ""] = job.repository.split("/");
  const workflow = `${job.repository}/.github/workflows/${job.workflow ?? "ci.yml"}`;
  const isReview = event === "pull_request";
  const owner = job.hasIdsInSubject === false ? job.owner : `${job.owner}@${job.ownerId}`;
  const inSubject = job.hasIdsInSubject === false ? name : `${name}@${job.repositoryId}`;
  const context = job.environment === undefined ? `ref:${ref}` : `environment:${job.environment}`;
  return {
    sub: `repo:${owner}/${inSubject}:${isReview ? "pull_request" : context}`,
    ...(job.environment === undefined
      ? {}
      : { environment: job.environment, environment_node_id: "EN_kw" }),
    ref,
    sha: commit,
    repository: job.repository,
    repository_owner: job.owner,
    repository_owner_id: String(job.ownerId),
    run_id: String(job.runId ?? 9876543210),
    run_number: "42",
    run_attempt: String(job.attempt ?? 1),
    repository_visibility: "private",
    repository_id: String(job.repositoryId),
    actor_id: String(job.actorId ?? 583231),
    actor: job.actor ?? "octocat",
    workflow: "CI",
    head_ref: job.headRef ?? (isReview ? "feature" : ""),
    base_ref: job.baseRef ?? (isReview ? "main" : ""),
    event_name: event,
    ref_protected: String(job.isProtected ?? ref === "refs/heads/main"),
    ref_type: ref.startsWith("refs/tags/") ? "tag" : "branch",
    workflow_ref: `${workflow}@${ref}`,
    workflow_sha: commit,
    job_workflow_ref: `${workflow}@${ref}`,
    job_workflow_sha: commit,
    runner_environment: job.runner ?? "self-hosted",
    check_run_id: "51234567890",
    ...(job.enterpriseId === undefined
      ? {}
      : { enterprise: job.enterprise ?? "acme-corp", enterprise_id: String(job.enterpriseId) }),
  };
}

/**
 * What Forgejo says of a job, after the payload in its documentation; `hasIds` adds the three ids of
 * newer servers, which also stand in the subject of newer repositories.
 */
export function forgejoClaims(job: ActionsJob & { readonly hasIds: boolean }): Claims {
  const { ref = "refs/heads/main", event = "push" } = job;
  const [, name = ""] = job.repository.split("/");
  const workflow = job.workflow ?? "ci.yml";
  const subject = job.hasIds
    ? `${job.owner}-${job.ownerId}/${name}-${job.repositoryId}`
    : job.repository;
  return {
    sub: `repo:${subject}:${event === "pull_request" ? "pull_request" : `ref:${ref}`}`,
    actor: job.actor ?? "user1",
    base_ref: job.baseRef ?? "",
    event_name: event,
    head_ref: job.headRef ?? "",
    ref,
    ref_protected: String(job.isProtected ?? ref === "refs/heads/main"),
    ref_type: ref.startsWith("refs/tags/") ? "tag" : "branch",
    repository: job.repository,
    repository_owner: job.owner,
    run_attempt: String(job.attempt ?? 1),
    run_id: String(job.runId ?? 43),
    run_number: "43",
    sha: job.commit ?? COMMIT,
    workflow,
    workflow_ref: `${job.repository}/.forgejo/workflows/${workflow}@${ref}`,
    ...(job.hasIds
      ? {
          actor_id: String(job.actorId ?? 7),
          repository_id: String(job.repositoryId),
          repository_owner_id: String(job.ownerId),
        }
      : {}),
  };
}

/** A job of GitLab's. In a merge request's pipeline `project` is the source, a fork perhaps. */
export interface GitlabJob {
  readonly project: string;
  readonly projectId: number;
  readonly namespaceId: number;
  /** Where the job runs, when that is another project than `project`. */
  readonly jobProject?: string;
  readonly jobProjectId?: number;
  readonly jobNamespaceId?: number;
  /** Servers before 18.4 do not say where the job runs. Default `true`. */
  readonly hasJobProject?: boolean;
  /** Default `push`. */
  readonly source?: string;
  /** Short. Default `main`. */
  readonly ref?: string;
  readonly refType?: "branch" | "tag";
  /** Default what `ref` and `refType` say. */
  readonly refPath?: string;
  readonly isProtected?: boolean;
  readonly environment?: string;
  readonly commit?: string;
  readonly pipelineId?: number;
  readonly jobId?: number;
  readonly user?: string;
  readonly userId?: number;
}

/** What GitLab says of a job, after the payload in its documentation of ID tokens. */
export function gitlabClaims(job: GitlabJob): Claims {
  const { ref = "main", refType = "branch", source = "push", commit = COMMIT } = job;
  const namespace = job.project.slice(0, job.project.lastIndexOf("/"));
  const jobProject = job.jobProject ?? job.project;
  const refPath = job.refPath ?? `refs/${refType === "tag" ? "tags" : "heads"}/${ref}`;
  const isProtected = String(job.isProtected ?? ref === "main");
  return {
    sub: `project_path:${job.project}:ref_type:${refType}:ref:${ref}`,
    namespace_id: String(job.namespaceId),
    namespace_path: namespace,
    project_id: String(job.projectId),
    project_path: job.project,
    user_id: String(job.userId ?? 302),
    user_login: job.user ?? "sidney",
    user_email: "sidney@example.com",
    user_access_level: "developer",
    user_identities: [{ provider: "github", extern_uid: "2435223452345" }],
    pipeline_id: String(job.pipelineId ?? 846),
    pipeline_source: source,
    job_id: String(job.jobId ?? 302),
    ref,
    ref_type: refType,
    ref_path: refPath,
    ref_protected: isProtected,
    groups_direct: [namespace],
    ...(job.environment === undefined
      ? {}
      : {
          environment: job.environment,
          environment_protected: "true",
          deployment_tier: "production",
          environment_action: "start",
        }),
    runner_id: 1,
    runner_environment: "self-hosted",
    sha: commit,
    project_visibility: "private",
    ci_config_ref_uri: `gitlab.example.com/${jobProject}//.gitlab-ci.yml@${refPath}`,
    ci_config_sha: commit,
    ...(job.hasJobProject === false
      ? {}
      : {
          job_project_id: String(job.jobProjectId ?? job.projectId),
          job_project_path: jobProject,
          job_namespace_id: String(job.jobNamespaceId ?? job.namespaceId),
          job_namespace_path: jobProject.slice(0, jobProject.lastIndexOf("/")),
        }),
  };
}

/** What Kubernetes says in a projected token of a service account, bound to a pod (1.32 and newer). */
export function kubernetesClaims(account: {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly pod?: string;
}): Claims {
  const { namespace, name, uid, pod = `${name}-4xk2p` } = account;
  return {
    sub: `system:serviceaccount:${namespace}:${name}`,
    "kubernetes.io": {
      namespace,
      node: { name: "worker-1", uid: "646e7c5e-32d6-4d42-9dbd-e504e6cbe6b1" },
      pod: { name: pod, uid: "5e0bd49b-f040-43b0-99b7-22765a53f7f3" },
      serviceaccount: { name, uid },
    },
  };
}
