import { githubClaims } from "@glorious/testkit";
import { expect, test } from "vitest";

import { readPrincipal } from "../identity/read-principal.ts";
import { parseTrustPolicy } from "../policy/parse-trust-policy.ts";
import { decideGrant } from "./decide-grant.ts";

const ISSUER = "https://token.actions.githubusercontent.com";
const POLICY = `
version: 1
issuers:
  github: { kind: github, issuer: "${ISSUER}" }
tenants:
  acme:
    views: { main: {} }
    scopes:
      - issuer: github
        repository: { id: 456, name: acme/app }
        trusted: { refs: [refs/heads/main] }
`;

function decide(ref: string, event: string) {
  const check = parseTrustPolicy(POLICY);
  if (check.kind === "invalid") throw new Error(JSON.stringify(check.problems));
  const claims = githubClaims({
    owner: "acme",
    ownerId: 123,
    repository: "acme/app",
    repositoryId: 456,
    ref,
    event,
  });
  const principal = readPrincipal({ kind: "github", issuer: ISSUER, audiences: [] }, claims);
  return decideGrant(check.policy, principal, {});
}

test("a push to a trusted ref writes the view itself", () => {
  expect(decide("refs/heads/main", "push")).toMatchObject({
    kind: "granted",
    grant: { tenant: "acme", trust: "trusted", read: ["acme+main"], write: "acme+main" },
  });
});

test("a pull request writes an overlay over the view", () => {
  expect(decide("refs/pull/12/merge", "pull_request")).toMatchObject({
    kind: "granted",
    grant: {
      trust: "overlay",
      read: ["acme+main_pr-12", "acme+main"],
      write: "acme+main_pr-12",
      overlayOf: "acme+main",
    },
  });
});

test("an event that a stranger can cause on the default branch reads nothing and writes nothing", () => {
  expect(decide("refs/heads/main", "pull_request_target")).toMatchObject({
    kind: "refused",
    code: "untrusted-no-read",
  });
});
