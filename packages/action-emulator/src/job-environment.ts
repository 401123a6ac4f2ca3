import path from "node:path";

/** Whose runner is emulated. */
export type Flavour = "github" | "forgejo" | "gitea";

/** What triggered the job; every field has a default that makes a push to `main` of `acme/site`. */
export interface JobEvent {
  /** Such as `push` or `pull_request`. */
  readonly name?: string;
  /** In full, such as `refs/heads/main`. */
  readonly ref?: string;
  readonly sha?: string;
  /** `owner/name`. */
  readonly repository?: string;
  readonly repositoryId?: string;
  readonly ownerId?: string;
  readonly actor?: string;
  readonly headRef?: string;
  readonly baseRef?: string;
  readonly runId?: string;
  readonly runAttempt?: string;
  readonly defaultBranch?: string;
  /** The webhook's body, as `GITHUB_EVENT_PATH` holds it; default one with the repository. */
  readonly payload?: unknown;
}

/** An event with every default filled in. */
export type CompleteEvent = Required<JobEvent>;

/** The runner's folders. */
export interface RunnerFolders {
  readonly workspace: string;
  readonly temp: string;
  readonly tools: string;
  readonly home: string;
}

/** Fills in what an event leaves open. */
export function completeEvent(event: JobEvent = {}): CompleteEvent {
  const repository = event.repository ?? "acme/site";
  const repositoryId = event.repositoryId ?? "2001";
  const defaultBranch = event.defaultBranch ?? "main";
  return {
    name: event.name ?? "push",
    ref: event.ref ?? `refs/heads/${defaultBranch}`,
    sha: event.sha ?? "6f1ed002ab5595859014ebf0951522d9a1b2c3d4",
    repository,
    repositoryId,
    ownerId: event.ownerId ?? "1001",
    actor: event.actor ?? "octocat",
    headRef: event.headRef ?? "",
    baseRef: event.baseRef ?? "",
    runId: event.runId ?? "9876543210",
    runAttempt: event.runAttempt ?? "1",
    defaultBranch,
    payload: event.payload ?? {
      repository: {
        full_name: repository,
        id: Number(repositoryId),
        default_branch: defaultBranch,
      },
    },
  };
}

/** The address of the forge when none is given. */
export function defaultServerUrl(flavour: Flavour): string {
  return flavour === "github" ? "https://github.com" : "https://forge.example.org";
}

/** The variables that every step of a job has. */
export function jobEnvironment(
  flavour: Flavour,
  event: CompleteEvent,
  folders: RunnerFolders,
  more: {
    readonly serverUrl: string;
    readonly jobId: string;
    readonly eventPath: string;
    readonly isDebugging: boolean;
  },
): Record<string, string> {
  const [owner = ""] = event.repository.split("/");
  const refName = event.ref.replace(/^refs\/(heads|tags|pull)\//, "");
  const github: Record<string, string> = {
    GITHUB_ACTIONS: "true",
    GITHUB_ACTOR: event.actor,
    GITHUB_API_URL: flavour === "github" ? "https://api.github.com" : `${more.serverUrl}/api/v1`,
    GITHUB_BASE_REF: event.baseRef,
    GITHUB_EVENT_NAME: event.name,
    GITHUB_EVENT_PATH: more.eventPath,
    GITHUB_HEAD_REF: event.headRef,
    GITHUB_JOB: more.jobId,
    GITHUB_REF: event.ref,
    GITHUB_REF_NAME: refName,
    GITHUB_REF_TYPE: event.ref.startsWith("refs/tags/") ? "tag" : "branch",
    GITHUB_REPOSITORY: event.repository,
    GITHUB_REPOSITORY_ID: event.repositoryId,
    GITHUB_REPOSITORY_OWNER: owner,
    GITHUB_REPOSITORY_OWNER_ID: event.ownerId,
    GITHUB_RUN_ATTEMPT: event.runAttempt,
    GITHUB_RUN_ID: event.runId,
    GITHUB_RUN_NUMBER: "1",
    GITHUB_SERVER_URL: more.serverUrl,
    GITHUB_SHA: event.sha,
    GITHUB_WORKFLOW: "CI",
    GITHUB_WORKSPACE: folders.workspace,
  };
  // Forgejo has each of GitHub's under its own name too; Gitea says no more than whose runner it is.
  const twins = Object.entries(github).map(
    ([name, value]) => [name.replace(/^GITHUB_/, "FORGEJO_"), value] as const,
  );
  return {
    CI: "true",
    ...github,
    ...(flavour === "forgejo" ? Object.fromEntries(twins) : {}),
    ...(flavour === "gitea" ? { GITEA_ACTIONS: "true", ACT: "true" } : {}),
    RUNNER_ARCH: process.arch === "arm64" ? "ARM64" : "X64",
    RUNNER_ENVIRONMENT: "self-hosted",
    RUNNER_NAME: "emulator",
    RUNNER_OS: "Linux",
    RUNNER_TEMP: folders.temp,
    RUNNER_TOOL_CACHE: folders.tools,
    RUNNER_WORKSPACE: path.dirname(folders.workspace),
    ...(more.isDebugging ? { RUNNER_DEBUG: "1" } : {}),
  };
}
