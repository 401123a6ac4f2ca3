/** Whose tokens an issuer mints: decides what their claims mean. */
export type ForgeKind = "github" | "gitlab" | "forgejo" | "kubernetes" | "oidc";

/** Something the forge knows by an id that never changes and by a name that can. */
export interface NamedId {
  /** Decides. `undefined` when the token carries none (older Forgejo). */
  readonly id: string | undefined;
  /** For people only, except where an operator confirmed it in the policy. */
  readonly name: string | undefined;
}

/** A Kubernetes service account, from a projected token. */
export interface ServiceAccount {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string | undefined;
  /** The pod's name, when the token is bound to one. */
  readonly pod: string | undefined;
}

/**
 * A verified identity: who asks, as the forge states it. Ids decide, names are for people, and the
 * token's `sub` is never read, because its form differs between repositories of one forge.
 */
export interface Principal {
  readonly forge: ForgeKind;
  /** The token's `iss`, exactly. */
  readonly issuer: string;
  /**
   * A stable text, of ids alone where the token carries them, such as
   * `github:https://token.actions.githubusercontent.com:owner/123:repo/456`.
   */
  readonly id: string;
  readonly owner: NamedId | undefined;
  /** Where the job runs; for a GitLab merge request from a fork that is not the fork. */
  readonly repository: NamedId | undefined;
  readonly enterprise: NamedId | undefined;
  /** In full, such as `refs/heads/main`, `refs/tags/v1`, `refs/pull/12/merge`. */
  readonly ref: string | undefined;
  readonly refType: "branch" | "tag" | "pull" | undefined;
  readonly isRefProtected: boolean | undefined;
  /** The forge's own word: GitHub's and Forgejo's `event_name`, GitLab's `pipeline_source`. */
  readonly event: string | undefined;
  /** The pull or merge request's number, where the claims carry it. */
  readonly pullRequest: number | undefined;
  /** Whether a fork's code runs, or a stranger may have caused the run. `unknown` counts as `yes`. */
  readonly fork: "yes" | "no" | "unknown";
  /** The run belongs to a merge queue or a merge train. */
  readonly mergeQueue: boolean;
  readonly environment: string | undefined;
  readonly run: string | undefined;
  readonly attempt: string | undefined;
  readonly commit: string | undefined;
  readonly workflowRef: string | undefined;
  readonly runnerEnvironment: string | undefined;
  readonly actor: NamedId | undefined;
  readonly serviceAccount: ServiceAccount | undefined;
}
