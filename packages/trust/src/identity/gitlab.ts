import { ClaimError, type ClaimsReader } from "./claims-reader.ts";
import { readRef, type RefFacts } from "./git-ref.ts";
import { namedId } from "./github.ts";
import type { Principal } from "./principal.ts";

// Pipelines of the project's own refs. A child or downstream pipeline may belong to a merge request.
const OWN_REF_SOURCES: ReadonlySet<string> = new Set([
  "push",
  "web",
  "schedule",
  "api",
  "trigger",
  "chat",
  "webide",
]);
const DERIVED_SOURCES: ReadonlySet<string> = new Set([
  "merge_request_event",
  "parent_pipeline",
  "pipeline",
]);

/**
 * In a merge request's pipeline `project_*` and `namespace_*` name the *source* project, a fork perhaps,
 * although the pipeline runs in the target; `job_project_*` (GitLab 18.4, 18.3 with a patch) name where it runs. `ref` and
 * `ref_path` are then the source's branch, which a fork may call `main`, and `ref_protected` is of no use.
 *
 * @throws {ClaimError} when an id or the ref's type is missing.
 * @see GitLab's documentation of ID token authentication.
 */
export function readGitlabPrincipal(issuer: string, claims: ClaimsReader): Principal {
  const sourceId = claims.requireId("project_id");
  const jobId = claims.id("job_project_id");
  const repository =
    jobId === undefined
      ? { id: sourceId, name: claims.text("project_path") }
      : { id: jobId, name: claims.text("job_project_path") };
  const owner =
    jobId === undefined
      ? { id: claims.requireId("namespace_id"), name: claims.text("namespace_path") }
      : namedId(claims.id("job_namespace_id"), claims.text("job_namespace_path"));
  const event = claims.text("pipeline_source");
  const refPath = claims.text("ref_path");
  return {
    ...readGitlabRef(claims, refPath),
    forge: "gitlab",
    issuer,
    id: `gitlab:${issuer}:project/${repository.id}`,
    owner,
    repository,
    enterprise: undefined,
    isRefProtected: claims.flag("ref_protected"),
    event,
    fork: judgeFork(event, sourceId, jobId, claims.id("source_project_id")),
    mergeQueue: refPath !== undefined && /^refs\/merge-requests\/[0-9]+\/train$/.test(refPath),
    environment: claims.text("environment"),
    run: claims.id("pipeline_id"),
    attempt: claims.id("job_id"),
    commit: claims.text("sha"),
    workflowRef: claims.text("ci_config_ref_uri"),
    runnerEnvironment: claims.text("runner_environment"),
    actor: namedId(claims.id("user_id"), claims.text("user_login")),
    serviceAccount: undefined,
  };
}

// `ref` is a short name: a branch may be called refs/merge-requests/1/train, its ref_path may not.
function readGitlabRef(claims: ClaimsReader, refPath: string | undefined): RefFacts {
  if (refPath?.startsWith("refs/merge-requests/") === true) return readRef(refPath);
  const name = claims.text("ref");
  if (name === undefined) return readRef(undefined);
  const type = claims.requireText("ref_type");
  if (type === "branch") return readRef(`refs/heads/${name}`);
  if (type === "tag") return readRef(`refs/tags/${name}`);
  throw new ClaimError('The claim "ref_type" is neither branch nor tag');
}

function judgeFork(
  source: string | undefined,
  projectId: string,
  jobProjectId: string | undefined,
  mergeRequestProjectId: string | undefined,
): Principal["fork"] {
  const here = jobProjectId ?? projectId;
  if (projectId !== here || (mergeRequestProjectId ?? here) !== here) return "yes";
  if (source === undefined) return "unknown";
  if (OWN_REF_SOURCES.has(source)) return "no";
  return DERIVED_SOURCES.has(source) && jobProjectId !== undefined ? "no" : "unknown";
}
