import {
  type ActionsJob,
  type Claims,
  forgejoClaims,
  githubClaims,
  gitlabClaims,
  type GitlabJob,
  kubernetesClaims,
} from "@glorious/testkit";
import { describe, expect, test } from "vitest";

import {
  decideInShort,
  type IssuerName,
  principalOf,
  refOverlay,
  TABLE_POLICY,
} from "../../test/table-policy.ts";
import { decideGrant } from "./decide-grant.ts";
import { explainGrant } from "./explain-grant.ts";
import type { GrantRequest } from "./grant.ts";

type Row = readonly [title: string, job: Claims, expected: string, request?: GrantRequest];

const APP = { owner: "acme", ownerId: 123, repository: "acme/app", repositoryId: 456 };
const WEB = { ...APP, repository: "acme/web", repositoryId: 457 };
const API = { ...APP, repository: "acme/api", repositoryId: 458 };
const SCRATCH = { ...APP, repository: "acme/scratch", repositoryId: 459 };
const DEPLOY = { ...APP, repository: "acme/deploy", repositoryId: 460 };
const LIB = { ...APP, repository: "acme/lib", repositoryId: 470 };
const PACKAGES = { owner: "ops", ownerId: 8, repository: "ops/packages", repositoryId: 9 };
const STRANGER = { owner: "evil", ownerId: 666, repository: "evil/app", repositoryId: 667 };
const QUEUE = "refs/heads/gh-readonly-queue/main/pr-12-6f1ed002ab55";

const gh = (job: ActionsJob, more: Partial<Parameters<typeof githubClaims>[0]> = {}): Claims =>
  githubClaims({ ...job, ...more });
const pr = (event: string): Partial<ActionsJob> => ({ event, ref: "refs/pull/12/merge" });

const LIB_MAIN = "trusted acme+main < acme+main shared";
const APP_MAIN = "trusted acme+app < acme+app shared";
const APP_READ = "untrusted - < acme+app shared";
const APP_PR = "overlay acme+app_pr-12 < acme+app_pr-12 acme+app shared";
const libOverlay = (subject: string): string => {
  const overlay = refOverlay("acme+main", "470", subject);
  return `overlay ${overlay} < ${overlay} acme+main shared`;
};
const appOverlay = (ref: string): string => {
  const overlay = refOverlay("acme+app", "456", ref);
  return `overlay ${overlay} < ${overlay} acme+app shared`;
};

const GITHUB_REFS: readonly Row[] = [
  ["a push to a trusted branch", gh(LIB), LIB_MAIN],
  ["a schedule on a trusted branch", gh(LIB, { event: "schedule" }), LIB_MAIN],
  ["a dispatch on a trusted branch", gh(LIB, { event: "workflow_dispatch" }), LIB_MAIN],
  ["a branch that a pattern covers", gh(LIB, { ref: "refs/heads/release/2" }), LIB_MAIN],
  [
    "a branch below what a pattern covers",
    gh(LIB, { ref: "refs/heads/release/2/x" }),
    libOverlay("refs/heads/release/2/x"),
  ],
  [
    "the folder of a pattern alone",
    gh(LIB, { ref: "refs/heads/release" }),
    libOverlay("refs/heads/release"),
  ],
  ["a tag that a pattern covers", gh(LIB, { ref: "refs/tags/v1.2" }), LIB_MAIN],
  [
    "a tag with a slash that * does not cover",
    gh(LIB, { ref: "refs/tags/v1/2" }),
    libOverlay("refs/tags/v1/2"),
  ],
  ["a tag with a slash that ** covers", gh(APP, { ref: "refs/tags/v1/2" }), APP_MAIN],
  ["another tag", gh(LIB, { ref: "refs/tags/nightly" }), libOverlay("refs/tags/nightly")],
  ["a topic branch", gh(LIB, { ref: "refs/heads/topic" }), libOverlay("refs/heads/topic")],
  [
    "a branch called like a tag",
    gh(LIB, { ref: "refs/heads/v1.2" }),
    libOverlay("refs/heads/v1.2"),
  ],
  ["a tag called main", gh(LIB, { ref: "refs/tags/main" }), libOverlay("refs/tags/main")],
  [
    "a branch whose name begins with main",
    gh(LIB, { ref: "refs/heads/main2" }),
    libOverlay("refs/heads/main2"),
  ],
  [
    "a branch whose name ends in main",
    gh(LIB, { ref: "refs/heads/x/main" }),
    libOverlay("refs/heads/x/main"),
  ],
  ["main in capitals", gh(LIB, { ref: "refs/heads/MAIN" }), libOverlay("refs/heads/MAIN")],
  [
    "main with a Cyrillic letter",
    gh(LIB, { ref: "refs/heads/mаin" }),
    libOverlay("refs/heads/mаin"),
  ],
  [
    "main in wide letters",
    gh(LIB, { ref: "refs/heads/ｍａｉｎ" }),
    libOverlay("refs/heads/ｍａｉｎ"),
  ],
  [
    "main with an invisible character",
    gh(LIB, { ref: "refs/heads/main\u200b" }),
    libOverlay("refs/heads/main\u200b"),
  ],
  ["main encoded", gh(LIB, { ref: "refs/heads/%6dain" }), libOverlay("refs/heads/%6dain")],
  [
    "a branch called refs/heads/main",
    gh(LIB, { ref: "refs/heads/refs/heads/main" }),
    libOverlay("refs/heads/refs/heads/main"),
  ],
  ["a ref that climbs", gh(LIB, { ref: "refs/heads/x/../main" }), "refused bad-claims"],
  ["a ref with a dot", gh(LIB, { ref: "refs/heads/./main" }), "refused bad-claims"],
  ["a ref with two slashes", gh(LIB, { ref: "refs/heads//main" }), "refused bad-claims"],
  ["a ref that ends in a slash", gh(LIB, { ref: "refs/heads/main/" }), "refused bad-claims"],
  ["a short ref", gh(LIB, { ref: "main" }), "refused bad-claims"],
  [
    "a ref of no kind that counts",
    gh(LIB, { ref: "refs/notes/commits" }),
    "refused untrusted-no-read",
  ],
  ["no ref", { ...gh(LIB), ref: undefined }, "refused untrusted-no-read"],
  [
    "a protected branch where refs are named",
    gh(LIB, { ref: "refs/heads/other", isProtected: true }),
    libOverlay("refs/heads/other"),
  ],
];

const GITHUB_EVENTS: readonly Row[] = [
  ["a pull request", gh(APP, pr("pull_request")), APP_PR],
  [
    "a pull request where repositories share the view",
    gh(LIB, pr("pull_request")),
    libOverlay("pr/12"),
  ],
  [
    "the head of a pull request",
    gh(APP, { event: "pull_request", ref: "refs/pull/12/head" }),
    APP_PR,
  ],
  [
    "a pull request number of ten digits",
    gh(APP, { event: "pull_request", ref: "refs/pull/1234567890/merge" }),
    APP_READ,
  ],
  ["a merged pull request's last event, on its base", gh(APP, { event: "pull_request" }), APP_READ],
  [
    "a pull request with an environment",
    gh(APP, { ...pr("pull_request"), environment: "production" }),
    APP_PR,
  ],
  [
    "pull_request_target on the default branch",
    gh(APP, { event: "pull_request_target" }),
    APP_READ,
  ],
  ["pull_request_target on a pull request's ref", gh(APP, pr("pull_request_target")), APP_READ],
  ["issue_comment", gh(APP, { event: "issue_comment" }), APP_READ],
  ["issues", gh(APP, { event: "issues" }), APP_READ],
  ["workflow_run", gh(APP, { event: "workflow_run" }), APP_READ],
  ["discussion_comment", gh(APP, { event: "discussion_comment" }), APP_READ],
  ["pull_request_review", gh(APP, pr("pull_request_review")), APP_READ],
  ["pull_request_review_comment", gh(APP, pr("pull_request_review_comment")), APP_READ],
  ["check_run", gh(APP, { event: "check_run" }), APP_READ],
  ["watch", gh(APP, { event: "watch" }), APP_READ],
  ["fork", gh(APP, { event: "fork" }), APP_READ],
  ["gollum", gh(APP, { event: "gollum" }), APP_READ],
  ["an event that is not known yet", gh(APP, { event: "brand_new" }), APP_READ],
  ["push in capitals", gh(APP, { event: "PUSH" }), APP_READ],
  ["push with a space", gh(APP, { event: "push " }), APP_READ],
  ["no event", { ...gh(APP), event_name: undefined }, APP_READ],
  ["a push that names a pull request's ref", gh(APP, pr("push")), APP_READ],
  ["a dispatch that names a pull request's ref", gh(APP, pr("workflow_dispatch")), APP_READ],
  [
    "pull_request_target where nothing may be read",
    gh(LIB, { event: "pull_request_target" }),
    "refused untrusted-no-read",
  ],
  [
    "issue_comment where nothing may be read",
    gh(LIB, { event: "issue_comment" }),
    "refused untrusted-no-read",
  ],
  ["a release where it is trusted", gh(APP, { event: "release", ref: "refs/tags/v1" }), APP_MAIN],
  [
    "a release where it is not",
    gh(LIB, { event: "release", ref: "refs/tags/v1" }),
    libOverlay("refs/tags/v1"),
  ],
  [
    "repository_dispatch where it is not trusted",
    gh(LIB, { event: "repository_dispatch" }),
    libOverlay("refs/heads/main"),
  ],
  [
    "deployment where it is not trusted",
    gh(LIB, { event: "deployment" }),
    libOverlay("refs/heads/main"),
  ],
  ["a merge group", gh(APP, { event: "merge_group", ref: QUEUE }), appOverlay(QUEUE)],
  ["a push on the merge queue's branch", gh(APP, { event: "push", ref: QUEUE }), appOverlay(QUEUE)],
  [
    "a protected branch of the merge queue",
    gh(WEB, { event: "push", ref: QUEUE, isProtected: true }),
    (() => {
      const overlay = refOverlay("acme+team", "457", QUEUE);
      return `overlay ${overlay} < ${overlay} acme+team`;
    })(),
  ],
  [
    "a merge group on another ref",
    gh(APP, { event: "merge_group" }),
    appOverlay("refs/heads/main"),
  ],
];

const GITHUB_RULES: readonly Row[] = [
  ["the repository's rule before the organization's", gh(APP), APP_MAIN],
  ["the team's rule before the organization's", gh(WEB), "trusted acme+team < acme+team"],
  ["the other repository of the team", gh(API), "trusted acme+team < acme+team"],
  [
    "a protected branch of the team",
    gh(WEB, { ref: "refs/heads/x", isProtected: true }),
    "trusted acme+team < acme+team",
  ],
  [
    "an unprotected main of the team",
    gh(WEB, { isProtected: false }),
    `overlay ${refOverlay("acme+team", "457", "refs/heads/main")} < ${refOverlay("acme+team", "457", "refs/heads/main")} acme+team`,
  ],
  [
    "a ref that says nothing of protection",
    { ...gh(WEB), ref_protected: undefined },
    `overlay ${refOverlay("acme+team", "457", "refs/heads/main")} < ${refOverlay("acme+team", "457", "refs/heads/main")} acme+team`,
  ],
  [
    "pull requests of two repositories in one view: one",
    gh(WEB, pr("pull_request")),
    `overlay ${refOverlay("acme+team", "457", "pr/12")} < ${refOverlay("acme+team", "457", "pr/12")} acme+team`,
  ],
  [
    "pull requests of two repositories in one view: two",
    gh(API, pr("pull_request")),
    `overlay ${refOverlay("acme+team", "458", "pr/12")} < ${refOverlay("acme+team", "458", "pr/12")} acme+team`,
  ],
  ["the organization's rule before the enterprise's", gh(LIB, { enterpriseId: 55 }), LIB_MAIN],
  [
    "the enterprise's rule",
    gh({ ...STRANGER, ownerId: 124 }, { enterpriseId: 55 }),
    "trusted corp+main < corp+main",
  ],
  [
    "a topic branch in the enterprise",
    gh({ ...STRANGER, ownerId: 124 }, { enterpriseId: 55, ref: "refs/heads/t" }),
    `overlay ${refOverlay("corp+main", "667", "refs/heads/t")} < ${refOverlay("corp+main", "667", "refs/heads/t")} corp+main`,
  ],
  [
    "another enterprise of the same name",
    gh({ ...STRANGER, ownerId: 124 }, { enterpriseId: 56, enterprise: "corp" }),
    "refused no-matching-scope",
  ],
  ["a stranger's repository", gh(STRANGER), "refused no-matching-scope"],
  [
    "a stranger with the organization's name",
    gh({ ...STRANGER, owner: "acme", repository: "acme/app" }),
    "refused no-matching-scope",
  ],
  [
    "a renamed organization",
    gh({ ...LIB, owner: "acme-inc", repository: "acme-inc/lib" }),
    LIB_MAIN,
  ],
  [
    "a repository moved to another owner keeps its rule",
    gh({ ...APP, owner: "evil", ownerId: 666 }),
    APP_MAIN,
  ],
  [
    "another tenant's organization",
    gh({ owner: "globex", ownerId: 999, repository: "globex/x", repositoryId: 1000 }),
    "trusted globex+main < globex+main",
  ],
  [
    "another tenant's stranger event",
    gh(
      { owner: "globex", ownerId: 999, repository: "globex/x", repositoryId: 1000 },
      { event: "issues" },
    ),
    "untrusted - < globex+main",
  ],
  ["every branch where isolation is off", gh(SCRATCH, { ref: "refs/heads/topic" }), LIB_MAIN],
  [
    "a tag where isolation is off",
    gh(SCRATCH, { ref: "refs/tags/x" }),
    `overlay ${refOverlay("acme+main", "459", "refs/tags/x")} < ${refOverlay("acme+main", "459", "refs/tags/x")} acme+main shared`,
  ],
  [
    "a pull request where isolation is off",
    gh(SCRATCH, pr("pull_request")),
    `overlay ${refOverlay("acme+main", "459", "pr/12")} < ${refOverlay("acme+main", "459", "pr/12")} acme+main shared`,
  ],
  [
    "pull_request_target where isolation is off",
    gh(SCRATCH, { event: "pull_request_target" }),
    "refused untrusted-no-read",
  ],
  [
    "an event that is not trusted, where isolation is off",
    gh(SCRATCH, { event: "deployment" }),
    `overlay ${refOverlay("acme+main", "459", "refs/heads/main")} < ${refOverlay("acme+main", "459", "refs/heads/main")} acme+main shared`,
  ],
  [
    "the merge queue where isolation is off",
    gh(SCRATCH, { event: "push", ref: QUEUE }),
    `overlay ${refOverlay("acme+main", "459", QUEUE)} < ${refOverlay("acme+main", "459", QUEUE)} acme+main shared`,
  ],
  [
    "a job in an environment that the rule asks for",
    gh(DEPLOY, { environment: "staging" }),
    LIB_MAIN,
  ],
  [
    "a job in another environment",
    gh(DEPLOY, { environment: "Production" }),
    `overlay ${refOverlay("acme+main", "460", "refs/heads/main")} < ${refOverlay("acme+main", "460", "refs/heads/main")} acme+main shared`,
  ],
  [
    "a job in no environment",
    gh(DEPLOY),
    `overlay ${refOverlay("acme+main", "460", "refs/heads/main")} < ${refOverlay("acme+main", "460", "refs/heads/main")} acme+main shared`,
  ],
  [
    "the environment on another branch",
    gh(DEPLOY, { environment: "production", ref: "refs/heads/x" }),
    `overlay ${refOverlay("acme+main", "460", "refs/heads/x")} < ${refOverlay("acme+main", "460", "refs/heads/x")} acme+main shared`,
  ],
  ["a GitHub-hosted runner", gh(LIB, { runner: "github-hosted" }), LIB_MAIN],
  ["a subject of the old form", gh(LIB, { hasIdsInSubject: false }), LIB_MAIN],
  [
    "a subject that names another repository",
    { ...gh(STRANGER), sub: gh(LIB)["sub"] },
    "refused no-matching-scope",
  ],
  ["the ids as numbers", { ...gh(LIB), repository_id: 470, repository_owner_id: 123 }, LIB_MAIN],
  ["no repository id", { ...gh(LIB), repository_id: undefined }, "refused bad-claims"],
  ["no owner id", { ...gh(LIB), repository_owner_id: null }, "refused bad-claims"],
];

const REQUESTS: readonly Row[] = [
  ["nothing asked", gh(LIB), LIB_MAIN, {}],
  ["its own view by name", gh(LIB), LIB_MAIN, { view: "acme+main" }],
  ["its own view, to read", gh(LIB), "untrusted-free", { view: "acme+main", mode: "read" }],
  ["to write what it may write", gh(LIB), LIB_MAIN, { mode: "write" }],
  ["a shared view of the chain", gh(LIB), "trusted - < shared", { view: "shared" }],
  [
    "a shared view of the chain, to write",
    gh(LIB),
    "refused write-not-granted",
    { view: "shared", mode: "write" },
  ],
  ["the tenant's other view", gh(LIB), "refused view-not-granted", { view: "acme+app" }],
  ["another tenant's view", gh(LIB), "refused view-not-granted", { view: "globex+main" }],
  ["the default tenant's public view", gh(LIB), "refused view-not-granted", { view: "main" }],
  ["a view that nobody has", gh(LIB), "refused view-not-granted", { view: "acme+nothing" }],
  [
    "an overlay, by a trusted job",
    gh(LIB),
    "refused view-not-granted",
    { view: refOverlay("acme+main", "470", "refs/heads/topic") },
  ],
  [
    "a pull request's overlay, by a trusted job",
    gh(APP),
    "refused view-not-granted",
    { view: "acme+app_pr-12" },
  ],
  ["the view by its short name", gh(LIB), "refused view-not-granted", { view: "app" }],
  ["the view in capitals", gh(LIB), "refused bad-request", { view: "ACME+main" }],
  ["the view with a dot", gh(LIB), "refused bad-request", { view: "acme+./main" }],
  ["the view with a slash", gh(LIB), "refused bad-request", { view: "acme+main/x" }],
  ["the view with a space", gh(LIB), "refused bad-request", { view: "acme+main " }],
  ["an empty view", gh(LIB), "refused bad-request", { view: "" }],
  ["a pattern", gh(LIB), "refused bad-request", { view: "acme+*" }],
  ["a mode that is none", gh(LIB), "refused bad-request", { mode: "admin" as "write" }],
  ["a view that is no text", gh(LIB), "refused bad-request", { view: 7 as unknown as string }],
  ["its own overlay", gh(APP, pr("pull_request")), APP_PR, { view: "acme+app_pr-12" }],
  ["its overlay's base", gh(APP, pr("pull_request")), APP_PR, { view: "acme+app" }],
  [
    "its overlay's base, to write",
    gh(APP, pr("pull_request")),
    APP_PR,
    { view: "acme+app", mode: "write" },
  ],
  [
    "to read only, in a pull request",
    gh(APP, pr("pull_request")),
    "overlay - < acme+app_pr-12 acme+app shared",
    { mode: "read" },
  ],
  [
    "another pull request's overlay",
    gh(APP, pr("pull_request")),
    "refused view-not-granted",
    { view: "acme+app_pr-13" },
  ],
  [
    "an overlay of another view",
    gh(APP, pr("pull_request")),
    "refused view-not-granted",
    { view: "acme+main_pr-12" },
  ],
  [
    "to write, by a stranger's event",
    gh(APP, { event: "issues" }),
    "refused write-not-granted",
    { mode: "write" },
  ],
  [
    "the view to write, by a stranger's event",
    gh(APP, { event: "issues" }),
    "refused write-not-granted",
    { view: "acme+app", mode: "write" },
  ],
  ["a view, by a stranger", gh(STRANGER), "refused no-matching-scope", { view: "acme+main" }],
  ["the shared view, by a stranger", gh(STRANGER), "refused no-matching-scope", { view: "shared" }],
  ["the shared view, by its writer", gh(PACKAGES), "trusted shared < shared", { view: "shared" }],
  [
    "the shared view, by its writer, to read",
    gh(PACKAGES),
    "trusted - < shared",
    { view: "shared", mode: "read" },
  ],
  ["nothing, by the shared view's writer", gh(PACKAGES), "refused no-matching-scope", {}],
  [
    "the shared view, by its writer's pull request",
    gh(PACKAGES, pr("pull_request")),
    "refused no-matching-scope",
    { view: "shared" },
  ],
  [
    "the shared view, by its writer's comment",
    gh(PACKAGES, { event: "issue_comment" }),
    "refused no-matching-scope",
    { view: "shared" },
  ],
  [
    "the shared view, by a tenant's job that is its writer",
    gh(APP, { ref: "refs/tags/v2" }),
    "trusted shared < shared",
    { view: "shared" },
  ],
  [
    "nothing, by a tenant's job that is a writer too",
    gh(APP, { ref: "refs/tags/v2" }),
    APP_MAIN,
    {},
  ],
  [
    "the shared view, by the same repository's main",
    gh(APP),
    "trusted - < shared",
    { view: "shared" },
  ],
  [
    "an overlay of the shared view",
    gh(PACKAGES),
    "refused no-matching-scope",
    { view: "shared_pr-1" },
  ],
].map((row) =>
  row[2] === "untrusted-free" ? [row[0], row[1], "trusted - < acme+main shared", row[3]] : row,
) as Row[];

const GHES: readonly Row[] = [
  ["the whole instance", gh(STRANGER), "trusted main < main"],
  [
    "a topic branch of the instance",
    gh(STRANGER, { ref: "refs/heads/t" }),
    `overlay ${refOverlay("main", "667", "refs/heads/t", "ghes")} < ${refOverlay("main", "667", "refs/heads/t", "ghes")} main`,
  ],
  ["a stranger's event on a public view", gh(STRANGER, { event: "issues" }), "untrusted - < main"],
  ["ids of another issuer", gh(APP), "trusted main < main"],
];

const PROJECT: GitlabJob = { project: "acme/tool", projectId: 21, namespaceId: 7 };
const GITLAB_LIB: GitlabJob = { project: "acme/lib", projectId: 22, namespaceId: 7 };
const FORK: GitlabJob = {
  project: "mallory/tool",
  projectId: 666,
  namespaceId: 66,
  jobProject: "acme/tool",
  jobProjectId: 21,
  jobNamespaceId: 7,
};
const gl = (job: GitlabJob, more: Partial<GitlabJob> = {}): Claims =>
  gitlabClaims({ ...job, ...more });
const GL_MAIN = "trusted acme+main < acme+main shared";
const GL_READ = "untrusted - < acme+main shared";
const glOverlay = (subject: string, id = "21"): string => {
  const overlay = refOverlay("acme+main", id, subject, "gitlab");
  return `overlay ${overlay} < ${overlay} acme+main shared`;
};

const GITLAB: readonly Row[] = [
  ["a push to a trusted branch", gl(PROJECT), GL_MAIN],
  ["a schedule", gl(PROJECT, { source: "schedule" }), GL_MAIN],
  ["a pipeline by hand", gl(PROJECT, { source: "web" }), GL_MAIN],
  [
    "a pipeline by API, which is not trusted by itself",
    gl(PROJECT, { source: "api" }),
    glOverlay("refs/heads/main"),
  ],
  ["a pipeline by trigger", gl(PROJECT, { source: "trigger" }), glOverlay("refs/heads/main")],
  ["a tag that a pattern covers", gl(PROJECT, { ref: "v1", refType: "tag" }), GL_MAIN],
  ["a branch called like the tag", gl(PROJECT, { ref: "v1" }), glOverlay("refs/heads/v1")],
  ["a topic branch", gl(PROJECT, { ref: "topic" }), glOverlay("refs/heads/topic")],
  ["a branch with a slash", gl(PROJECT, { ref: "feat/x" }), glOverlay("refs/heads/feat/x")],
  [
    "a branch called refs/heads/main",
    gl(PROJECT, { ref: "refs/heads/main" }),
    glOverlay("refs/heads/refs/heads/main"),
  ],
  [
    "a branch called like a merge train",
    gl(PROJECT, { ref: "refs/merge-requests/1/train" }),
    glOverlay("refs/heads/refs/merge-requests/1/train"),
  ],
  [
    "a merge request of the same project",
    gl(PROJECT, { source: "merge_request_event", ref: "topic" }),
    glOverlay("refs/heads/topic"),
  ],
  [
    "a merge request whose branch is main",
    gl(PROJECT, { source: "merge_request_event" }),
    glOverlay("refs/heads/main"),
  ],
  [
    "a merge request that says its ref",
    gl(PROJECT, {
      source: "merge_request_event",
      ref: "topic",
      refPath: "refs/merge-requests/5/head",
    }),
    glOverlay("pr/5"),
  ],
  [
    "a merge train",
    gl(GITLAB_LIB, {
      source: "merge_request_event",
      ref: "topic",
      refPath: "refs/merge-requests/5/train",
    }),
    glOverlay("pr/5", "22"),
  ],
  [
    "a merge request of a server that does not say where it runs",
    gl(PROJECT, { source: "merge_request_event", hasJobProject: false }),
    GL_READ,
  ],
  ["a fork's merge request", gl(FORK, { source: "merge_request_event", ref: "topic" }), GL_READ],
  [
    "a fork's merge request whose branch is main, protected",
    gl(FORK, { source: "merge_request_event", isProtected: true }),
    GL_READ,
  ],
  ["a fork's merge request that says push", gl(FORK, { source: "push" }), GL_READ],
  [
    "a fork's merge request on a train",
    gl(FORK, { source: "merge_request_event", refPath: "refs/merge-requests/5/train" }),
    GL_READ,
  ],
  [
    "a fork's merge request of a server that does not say where it runs",
    gl({ ...FORK, hasJobProject: false }, { source: "merge_request_event" }),
    "refused no-matching-scope",
  ],
  [
    "a merge request whose source is told apart",
    { ...gl(PROJECT, { source: "merge_request_event" }), source_project_id: "666" },
    GL_READ,
  ],
  [
    "a merge request whose source is the project",
    { ...gl(PROJECT, { source: "merge_request_event" }), source_project_id: "21" },
    glOverlay("refs/heads/main"),
  ],
  [
    "a fork's own pipeline in the fork",
    gl({ project: "mallory/tool", projectId: 666, namespaceId: 66 }),
    "refused no-matching-scope",
  ],
  [
    "a child pipeline, not trusted here",
    gl(PROJECT, { source: "parent_pipeline" }),
    glOverlay("refs/heads/main"),
  ],
  ["a child pipeline where it is trusted", gl(GITLAB_LIB, { source: "parent_pipeline" }), GL_MAIN],
  [
    "a child pipeline of a server that does not say where it runs",
    gl(GITLAB_LIB, { source: "parent_pipeline", hasJobProject: false }),
    "refused untrusted-no-read",
  ],
  [
    "a child pipeline of a fork's merge request",
    gl(
      { ...FORK, jobProjectId: 22, jobProject: "acme/lib" },
      { source: "parent_pipeline", isProtected: true },
    ),
    "refused untrusted-no-read",
  ],
  ["a downstream pipeline where it is trusted", gl(GITLAB_LIB, { source: "pipeline" }), GL_MAIN],
  [
    "a push of a server that does not say where it runs",
    gl(PROJECT, { hasJobProject: false }),
    GL_MAIN,
  ],
  ["an external pull request", gl(PROJECT, { source: "external_pull_request_event" }), GL_READ],
  ["a policy's pipeline", gl(PROJECT, { source: "security_orchestration_policy" }), GL_READ],
  ["a source that is not known yet", gl(PROJECT, { source: "brand_new" }), GL_READ],
  ["no source", { ...gl(PROJECT), pipeline_source: undefined }, GL_READ],
  ["a protected branch", gl(GITLAB_LIB, { ref: "stable", isProtected: true }), GL_MAIN],
  ["a protected tag", gl(GITLAB_LIB, { ref: "v1", refType: "tag", isProtected: true }), GL_MAIN],
  [
    "an unprotected branch",
    gl(GITLAB_LIB, { ref: "stable" }),
    glOverlay("refs/heads/stable", "22"),
  ],
  [
    "a schedule where it is not trusted",
    gl(GITLAB_LIB, { source: "schedule" }),
    glOverlay("refs/heads/main", "22"),
  ],
  ["the project's rule before the group's", gl(GITLAB_LIB), GL_MAIN],
  [
    "a subgroup of the group",
    gl({ ...PROJECT, project: "acme/sub/tool", namespaceId: 8 }),
    "refused no-matching-scope",
  ],
  [
    "another group of the same path",
    gl({ ...PROJECT, namespaceId: 70 }),
    "refused no-matching-scope",
  ],
  ["a renamed project", gl({ ...GITLAB_LIB, project: "acme/library" }), GL_MAIN],
  [
    "GitHub's ids in GitLab's token",
    gl({ ...PROJECT, projectId: 456, namespaceId: 123 }),
    "refused no-matching-scope",
  ],
  ["a ref of no type", { ...gl(PROJECT), ref_type: "note" }, "refused bad-claims"],
  ["no project id", { ...gl(PROJECT), project_id: undefined }, "refused bad-claims"],
  [
    "no namespace id",
    { ...gl(PROJECT, { hasJobProject: false }), namespace_id: undefined },
    "refused bad-claims",
  ],
];

const FORGE_APP = { owner: "acme", ownerId: 31, repository: "acme/app", repositoryId: 300 };
const OLD = { owner: "oldorg", ownerId: 41, repository: "oldorg/app", repositoryId: 400 };
const SOLO = { owner: "solo", ownerId: 51, repository: "solo/app", repositoryId: 500 };
const withIds = (job: ActionsJob, more: Partial<ActionsJob> = {}): Claims =>
  forgejoClaims({ ...job, ...more, hasIds: true });
const withNames = (job: ActionsJob, more: Partial<ActionsJob> = {}): Claims =>
  forgejoClaims({ ...job, ...more, hasIds: false });
const forgeOverlay = (
  repository: string,
  subject: string,
  issuer: IssuerName = "forge",
): string => {
  const overlay = refOverlay("acme+main", repository, subject, issuer);
  return `overlay ${overlay} < ${overlay} acme+main shared`;
};

const FORGEJO: readonly Row[] = [
  ["ids: a push to a trusted branch", withIds(FORGE_APP), LIB_MAIN],
  [
    "ids: a topic branch",
    withIds(FORGE_APP, { ref: "refs/heads/t" }),
    forgeOverlay("300", "refs/heads/t"),
  ],
  [
    "ids: a pull request",
    withIds(FORGE_APP, { event: "pull_request", ref: "refs/pull/3/head" }),
    forgeOverlay("300", "pr/3"),
  ],
  [
    "ids: pull_request_target",
    withIds(FORGE_APP, { event: "pull_request_target" }),
    "refused untrusted-no-read",
  ],
  [
    "ids: issue_comment",
    withIds(FORGE_APP, { event: "issue_comment" }),
    "refused untrusted-no-read",
  ],
  [
    "ids: a branch named like GitHub's merge queue",
    withIds(FORGE_APP, { ref: QUEUE }),
    forgeOverlay("300", QUEUE),
  ],
  [
    "ids: the owner's name registered anew",
    withIds({ ...FORGE_APP, ownerId: 77 }),
    "refused no-matching-scope",
  ],
  [
    "ids: a renamed owner",
    withIds({ ...FORGE_APP, owner: "acme-inc", repository: "acme-inc/app" }),
    LIB_MAIN,
  ],
  ["names only, where the rule wants ids", withNames(FORGE_APP), "refused ids-required"],
  ["names only, confirmed", withNames(OLD), LIB_MAIN],
  [
    "names only, confirmed, topic branch",
    withNames(OLD, { ref: "refs/heads/t" }),
    forgeOverlay("oldorg/app", "refs/heads/t"),
  ],
  [
    "names only, confirmed, pull request",
    withNames(OLD, { event: "pull_request", ref: "refs/pull/3/head" }),
    forgeOverlay("oldorg/app", "pr/3"),
  ],
  [
    "names only, confirmed, pull_request_target",
    withNames(OLD, { event: "pull_request_target" }),
    "refused untrusted-no-read",
  ],
  [
    "names only, in another case",
    withNames({ ...OLD, owner: "Oldorg", repository: "Oldorg/app" }),
    "refused ids-required",
  ],
  ["names only, unknown", withNames(STRANGER), "refused ids-required"],
  ["ids, where the rule knows the name only", withIds(OLD), "refused ids-required"],
  ["a repository by name", withNames(SOLO), "trusted acme+solo < acme+solo"],
  [
    "a pull request of a repository by name",
    withNames(SOLO, { event: "pull_request", ref: "refs/pull/3/head" }),
    "overlay acme+solo_pr-3 < acme+solo_pr-3 acme+solo",
  ],
  [
    "another repository of that owner",
    withNames({ ...SOLO, repository: "solo/other" }),
    "refused ids-required",
  ],
  ["a repository by name, with ids now", withIds(SOLO), "refused ids-required"],
  [
    "one id of two",
    { ...withIds(FORGE_APP), repository_owner_id: undefined },
    "refused bad-claims",
  ],
  [
    "a repository that is not the owner's",
    withNames({ ...OLD, repository: "evil/app" }),
    "refused bad-claims",
  ],
  [
    "a repository's name with a further slash",
    withNames({ ...SOLO, repository: "solo/app/x" }),
    "refused bad-claims",
  ],
  [
    "an owner's name that climbs",
    withNames({ ...SOLO, owner: "..", repository: "../app" }),
    "refused ids-required",
  ],
];

const runner = (namespace: string, name: string, uid = "0e-1f"): Claims =>
  kubernetesClaims({ namespace, name, uid });

const CLUSTER: readonly Row[] = [
  [
    "a runner reads where the rule lets it",
    runner("gf-acme", "nix"),
    "untrusted - < acme+main shared",
  ],
  [
    "a runner never writes",
    runner("gf-acme", "nix"),
    "refused write-not-granted",
    { mode: "write" },
  ],
  [
    "a runner asks for its view",
    runner("gf-acme", "nix"),
    "untrusted - < acme+main shared",
    { view: "acme+main" },
  ],
  [
    "a runner asks for an overlay",
    runner("gf-acme", "nix"),
    "refused view-not-granted",
    { view: "acme+main_pr-1" },
  ],
  [
    "a service account made anew under the same name",
    runner("gf-acme", "nix", "ff-ff"),
    "refused no-matching-scope",
  ],
  [
    "another service account of the namespace",
    runner("gf-acme", "default"),
    "refused no-matching-scope",
  ],
  [
    "any service account where the namespace counts, of a public view",
    runner("gf-public", "x"),
    "untrusted - < acme+pub",
  ],
  ["another namespace", runner("gf-globex", "nix"), "refused no-matching-scope"],
  [
    "a token without a service account",
    { sub: "system:serviceaccount:gf-acme:nix" },
    "refused bad-claims",
  ],
  [
    "a token without a uid",
    { "kubernetes.io": { namespace: "gf-acme", serviceaccount: { name: "nix" } } },
    "refused bad-claims",
  ],
  ["a namespace with a slash", runner("gf-acme/nix", "nix"), "refused bad-claims"],
  [
    "a runner's token with claims of a forge",
    { ...gh(APP), ...runner("gf-acme", "nix") },
    "untrusted - < acme+main shared",
  ],
];

const CI: readonly Row[] = [
  [
    "a mapped event on a trusted ref",
    { repo: "p-1", ref: "refs/heads/main", event: "deploy", fork: false },
    LIB_MAIN,
  ],
  [
    "another event",
    { repo: "p-1", ref: "refs/heads/main", event: "build", fork: false },
    forgeOverlay("p-1", "refs/heads/main", "ci"),
  ],
  [
    "no event",
    { repo: "p-1", ref: "refs/heads/main", fork: false },
    forgeOverlay("p-1", "refs/heads/main", "ci"),
  ],
  [
    "a fork",
    { repo: "p-1", ref: "refs/heads/main", event: "deploy", fork: true },
    "refused untrusted-no-read",
  ],
  [
    "a fork as text",
    { repo: "p-1", ref: "refs/heads/main", event: "deploy", fork: "true" },
    "refused untrusted-no-read",
  ],
  [
    "nothing about forks",
    { repo: "p-1", ref: "refs/heads/main", event: "deploy" },
    "refused untrusted-no-read",
  ],
  [
    "a pull request by number",
    { repo: "p-1", ref: "refs/heads/main", event: "deploy", fork: false, pr: 9 },
    forgeOverlay("p-1", "pr/9", "ci"),
  ],
  ["a pull request of no number", { repo: "p-1", fork: false, pr: "x" }, "refused bad-claims"],
  ["a number too large", { repo: "p-1", fork: false, pr: "1234567890" }, "refused bad-claims"],
  ["no repository", { ref: "refs/heads/main", event: "deploy", fork: false }, "refused bad-claims"],
  [
    "another repository",
    { repo: "p-2", ref: "refs/heads/main", event: "deploy", fork: false },
    "refused no-matching-scope",
  ],
  ["an id with a space", { repo: "p 1", fork: false }, "refused bad-claims"],
];

const BUILDKITE: readonly Row[] = [
  [
    "a branch of the organization",
    { organization_id: "org-1", pipeline_id: "pipe-1", build_branch: "main" },
    LIB_MAIN,
  ],
  [
    "a tag goes before the branch",
    { organization_id: "org-1", pipeline_id: "pipe-1", build_branch: "topic", build_tag: "v1" },
    LIB_MAIN,
  ],
  [
    "a topic branch",
    { organization_id: "org-1", pipeline_id: "pipe-1", build_branch: "topic" },
    forgeOverlay("pipe-1", "refs/heads/topic", "buildkite"),
  ],
  [
    "a branch that climbs",
    { organization_id: "org-1", pipeline_id: "pipe-1", build_branch: "../main" },
    "refused bad-claims",
  ],
  [
    "the pipeline's rule before the organization's",
    { organization_id: "org-1", pipeline_id: "pipe-2", build_branch: "main" },
    "trusted acme+pub < acme+pub shared",
  ],
  [
    "another organization",
    { organization_id: "org-2", pipeline_id: "pipe-1", build_branch: "main" },
    "refused no-matching-scope",
  ],
  ["no branch", { organization_id: "org-1", pipeline_id: "pipe-1" }, "refused untrusted-no-read"],
];

const TABLE: ReadonlyArray<readonly [IssuerName, string, readonly Row[]]> = [
  ["github", "GitHub: refs", GITHUB_REFS],
  ["github", "GitHub: events", GITHUB_EVENTS],
  ["github", "GitHub: rules", GITHUB_RULES],
  ["github", "requests", REQUESTS],
  ["ghes", "GitHub Enterprise Server", GHES],
  ["gitlab", "GitLab", GITLAB],
  ["forge", "Forgejo", FORGEJO],
  ["cluster", "Kubernetes", CLUSTER],
  ["ci", "another issuer that tells forks", CI],
  ["buildkite", "another issuer without forks", BUILDKITE],
];

describe.each(TABLE)("%s, %s", (issuer, _about, rows) => {
  const named = rows.map(([title, claims, expected, request = {}]) => ({
    title,
    claims,
    expected,
    request,
  }));

  test.each(named)("$title", ({ claims, expected, request }) => {
    expect(decideInShort(issuer, claims, request)).toBe(expected);
  });
});

test("the table has at least 150 rows, and no two are the same question", () => {
  const questions = TABLE.flatMap(([issuer, , rows]) =>
    rows.map(([, claims, , request]) => JSON.stringify([issuer, claims, request])),
  );
  expect(questions.length).toBeGreaterThanOrEqual(150);
  expect(new Set(questions).size).toBe(questions.length);
});

test("an explanation decides as the decision, and says what would change all that is not trusted", () => {
  for (const [issuer, , rows] of TABLE) {
    for (const [title, claims, expected, request = {}] of rows) {
      if (expected === "refused bad-claims") continue;
      const principal = principalOf(issuer, claims);
      const explanation = explainGrant(TABLE_POLICY, principal, request);
      expect(explanation.decision).toEqual(decideGrant(TABLE_POLICY, principal, request));
      if (!expected.startsWith("trusted")) expect(explanation.changes, title).not.toEqual([]);
    }
  }
});

test("a grant says for how long, by which rule and why, and whose overlay it is", () => {
  const trusted = decideGrant(TABLE_POLICY, principalOf("ghes", gh(STRANGER)), {});
  expect(trusted).toEqual({
    kind: "granted",
    grant: {
      tenant: undefined,
      trust: "trusted",
      read: ["main"],
      write: "main",
      overlayOf: undefined,
      overlayKey: undefined,
      adopt: { role: "takes", key: expect.stringContaining("667") },
      lifetimeSeconds: 900,
      rule: "defaultTenant.scopes[0]",
      reason: '"refs/heads/main" is a trusted ref of the rule.',
    },
  });
  const overlay = decideGrant(TABLE_POLICY, principalOf("github", gh(APP, pr("pull_request"))), {});
  expect(overlay).toMatchObject({
    grant: {
      tenant: "acme",
      overlayOf: "acme+app",
      overlayKey: expect.stringMatching(/^[0-9a-f]{64}$/),
      lifetimeSeconds: 3600,
      rule: "tenants.acme.scopes[1]",
    },
  });
});

describe("adoption of a merge queue's overlay", () => {
  const adoptOf = (claims: Claims) => {
    const decision = decideGrant(TABLE_POLICY, principalOf("github", claims), {});
    return decision.kind === "granted" ? decision.grant.adopt : undefined;
  };
  const queue = gh(APP, { event: "merge_group", ref: QUEUE });

  test("the queue's run offers what the push of the same commit takes", () => {
    const offered = adoptOf(queue);
    const taken = adoptOf(gh(APP));
    expect(offered).toMatchObject({ role: "offers" });
    expect(taken).toEqual({ role: "takes", key: offered?.key });
    expect(adoptOf(gh(APP, { ref: QUEUE }))).toEqual(offered);
  });

  test("another commit, workflow or repository has another key", () => {
    const key = adoptOf(queue)?.key;
    expect(adoptOf(gh(APP, { commit: "0".repeat(40) }))?.key).not.toBe(key);
    expect(adoptOf(gh(APP, { workflow: "release.yml" }))?.key).not.toBe(key);
  });

  test.each([
    ["a pull request", gh(APP, pr("pull_request"))],
    ["a topic branch", gh(APP, { ref: "refs/heads/topic" })],
    ["a schedule", gh(APP, { event: "schedule" })],
    ["a dispatch", gh(APP, { event: "workflow_dispatch" })],
    ["a dispatch on the queue's ref", gh(APP, { event: "workflow_dispatch", ref: QUEUE })],
    ["a tag", gh(APP, { ref: "refs/tags/v1" })],
    ["pull_request_target", gh(APP, { event: "pull_request_target" })],
    ["a rule that has it switched off", gh(LIB)],
    ["a queue's run where it is switched off", gh(LIB, { event: "merge_group", ref: QUEUE })],
    ["a token without a commit", { ...gh(APP), sha: undefined }],
    ["a token without a workflow", { ...gh(APP), workflow_ref: undefined }],
  ])("%s takes no part", (_title, claims) => {
    expect(adoptOf(claims)).toBeUndefined();
  });

  test("who gives up writing takes no part", () => {
    const decision = decideGrant(TABLE_POLICY, principalOf("github", gh(APP)), { mode: "read" });
    expect(decision).toMatchObject({ kind: "granted", grant: { adopt: undefined } });
  });
});
