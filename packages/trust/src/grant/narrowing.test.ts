import { forgejoClaims, githubClaims, gitlabClaims } from "@glorious/testkit";
import fc from "fast-check";
import { expect, test } from "vitest";

import { principalOf, TABLE_POLICY } from "../../test/table-policy.ts";
import { ClaimError } from "../identity/claims-reader.ts";
import type { Principal } from "../identity/principal.ts";
import { parseViewName } from "../view-name.ts";
import { decideGrant } from "./decide-grant.ts";
import type { Grant, GrantRequest } from "./grant.ts";

// What the author of a workflow, of a branch or of a pull request has in hand.
const refText = fc.oneof(
  fc.constantFrom(
    "main",
    "release/1",
    "v1",
    "./main",
    "main/.",
    "x/../main",
    "ｍａｉｎ",
    "mаin",
    "MAIN",
  ),
  fc.constantFrom(
    "refs/heads/main",
    "gh-readonly-queue/main/pr-1-0",
    "refs/merge-requests/1/train",
  ),
  fc.string({ unit: "grapheme", minLength: 1, maxLength: 20 }),
  fc.string({ minLength: 1, maxLength: 20 }),
);
const fullRef = fc.oneof(
  refText.map((name) => `refs/heads/${name}`),
  refText.map((name) => `refs/tags/${name}`),
  fc.nat({ max: 99 }).map((number) => `refs/pull/${number}/merge`),
  refText,
);
const event = fc.oneof(
  fc.constantFrom("push", "schedule", "workflow_dispatch", "release", "merge_group", "web", "api"),
  fc.constantFrom("pull_request", "pull_request_target", "issue_comment", "workflow_run"),
  fc.constantFrom("merge_request_event", "parent_pipeline", "pipeline"),
  fc.string({ maxLength: 12 }),
);
const authored = fc.record(
  {
    environment: fc.oneof(
      fc.constantFrom("production", "staging"),
      fc.string({ minLength: 1, maxLength: 9 }),
    ),
    workflow: fc.string({ minLength: 1, maxLength: 9 }),
    actor: fc.string({ minLength: 1, maxLength: 9 }),
    isProtected: fc.boolean(),
  },
  { requiredKeys: [] },
);

const repository = fc.constantFrom(
  { owner: "acme", ownerId: 123, repository: "acme/app", repositoryId: 456 },
  { owner: "acme", ownerId: 123, repository: "acme/web", repositoryId: 457 },
  { owner: "acme", ownerId: 123, repository: "acme/scratch", repositoryId: 459 },
  { owner: "acme", ownerId: 123, repository: "acme/deploy", repositoryId: 460 },
  { owner: "acme", ownerId: 123, repository: "acme/lib", repositoryId: 470 },
  { owner: "globex", ownerId: 999, repository: "globex/x", repositoryId: 1000 },
  { owner: "acme", ownerId: 31, repository: "acme/app", repositoryId: 300 },
);

const principal: fc.Arbitrary<Principal | undefined> = fc
  .tuple(
    repository,
    fullRef,
    refText,
    event,
    authored,
    fc.constantFrom("github", "forge", "gitlab"),
  )
  .map(([job, ref, name, cause, more, issuer]) =>
    read(() => {
      if (issuer === "gitlab") {
        return principalOf("gitlab", {
          ...gitlabClaims({
            project: "acme/lib",
            projectId: 22,
            namespaceId: 7,
            source: cause,
            ref: name,
            ...more,
          }),
        });
      }
      const actions = { ...job, ref, event: cause, ...more };
      return issuer === "github"
        ? principalOf("github", githubClaims(actions))
        : principalOf("forge", forgejoClaims({ ...actions, hasIds: true }));
    }),
  );

const views = [...TABLE_POLICY.views.keys()];
const request: fc.Arbitrary<GrantRequest> = fc.record(
  {
    view: fc.oneof(
      fc.constantFrom(...views),
      fc.constantFrom(...views).map((view) => `${view}_pr-1`),
      fc.constantFrom(...views).map((view) => `${view}_ref-01234567`),
      fc.constantFrom("acme+./main", "ACME+main", "acme+main/..", "acme+*", "*", "acme+main_"),
      fc.string({ maxLength: 20 }),
    ),
    mode: fc.constantFrom("read", "write", "admin" as "write"),
  },
  { requiredKeys: [] },
);

function read(make: () => Principal): Principal | undefined {
  try {
    return make();
  } catch (error) {
    if (error instanceof ClaimError) return undefined;
    throw error;
  }
}

function grantOf(subject: Principal, asked: GrantRequest): Grant | undefined {
  const decision = decideGrant(TABLE_POLICY, subject, asked);
  return decision.kind === "granted" ? decision.grant : undefined;
}

test("no request gets more than the grant without one, but for views that the policy names the job a writer of", () => {
  fc.assert(
    fc.property(principal, request, (subject, asked) => {
      fc.pre(subject !== undefined);
      const whole = grantOf(subject, {});
      const narrowed = grantOf(subject, asked);
      if (narrowed === undefined || narrowed.rule.startsWith("sharedViews.")) return;
      expect(whole).toBeDefined();
      expect(whole?.read).toEqual(expect.arrayContaining([...narrowed.read]));
      expect([undefined, whole?.write]).toContain(narrowed.write);
      expect(narrowed).toMatchObject({
        trust: whole?.trust,
        tenant: whole?.tenant,
        rule: whole?.rule,
      });
      if (asked.mode === "read") expect(narrowed.write).toBeUndefined();
    }),
    { numRuns: 3000 },
  );
});

test("whatever an author writes, a job writes its rule's view only on a trusted ref and event", () => {
  const trustedEvents = [
    "push",
    "schedule",
    "workflow_dispatch",
    "release",
    "web",
    "pipeline",
    "parent_pipeline",
  ];
  fc.assert(
    fc.property(principal, request, (subject, asked) => {
      fc.pre(subject !== undefined);
      const grant = grantOf(subject, asked);
      if (grant?.write === undefined) return;
      const { overlay } = parseViewName(grant.write);
      expect(grant.trust).toBe(overlay === undefined ? "trusted" : "overlay");
      expect(grant.overlayOf === undefined).toBe(overlay === undefined);
      if (overlay !== undefined) return;
      expect(trustedEvents).toContain(subject.event);
      expect(["branch", "tag"]).toContain(subject.refType);
      expect(subject.fork).toBe("no");
      expect(subject.mergeQueue).toBe(false);
      // By hand from the policy, so that a mistake in the matching shows.
      const isAny = subject.repository?.id === "459" || subject.isRefProtected === true;
      expect(
        isAny || /^refs\/(?:heads\/(?:main|release\/[^/]+)|tags\/.+)$/.test(subject.ref ?? ""),
      ).toBe(true);
    }),
    { numRuns: 3000 },
  );
});

test("no trusted or untrusted job reads an overlay, and an overlay's job reads its own alone", () => {
  fc.assert(
    fc.property(principal, request, (subject, asked) => {
      fc.pre(subject !== undefined);
      const grant = grantOf(subject, asked);
      const overlays = (grant?.read ?? []).filter(
        (view) => parseViewName(view).overlay !== undefined,
      );
      const own = grantOf(subject, {})?.write;
      expect(overlays).toEqual(grant?.trust === "overlay" && overlays.length > 0 ? [own] : []);
    }),
    { numRuns: 2000 },
  );
});

test("a grant stays within its tenant and the shared views that the tenant reads", () => {
  fc.assert(
    fc.property(principal, request, (subject, asked) => {
      fc.pre(subject !== undefined);
      const grant = grantOf(subject, asked);
      for (const view of [
        ...(grant?.read ?? []),
        ...(grant?.write === undefined ? [] : [grant.write]),
      ]) {
        expect(view === "shared" || parseViewName(view).tenant === grant?.tenant).toBe(true);
      }
    }),
    { numRuns: 2000 },
  );
});

test("the same question has the same answer, and jobs of two repositories never write one overlay", () => {
  fc.assert(
    fc.property(principal, principal, request, (one, two, asked) => {
      fc.pre(one !== undefined && two !== undefined);
      expect(decideGrant(TABLE_POLICY, one, asked)).toEqual(decideGrant(TABLE_POLICY, one, asked));
      fc.pre(one.id !== two.id);
      const overlay = grantOf(one, {})?.overlayKey;
      if (overlay !== undefined) expect(grantOf(two, {})?.overlayKey).not.toBe(overlay);
    }),
    { numRuns: 2000 },
  );
});
