import type { TokenClaims, TokenGrant } from "@glorious/trust";

import type { TestServer } from "./test-server.ts";

/** What a token that a job exchanged its identity for says; a trusted job's, of run 1, on the view `main` by default. */
export function sampleGrant(changes: Partial<TokenGrant> = {}): TokenGrant {
  return {
    tenant: undefined,
    trust: "trusted",
    principal: "github:https://token.actions.githubusercontent.com:owner/1:repo/2",
    run: "1",
    attempt: "1",
    commit: "0123456789012345678901234567890123456789",
    repository: "acme/app",
    ref: "refs/heads/main",
    read: ["main"],
    write: "main",
    overlayOf: undefined,
    overlayKey: undefined,
    adopt: undefined,
    rule: "tenants.acme.scopes[0]",
    reason: "a push to the default branch",
    ...changes,
  };
}

/** The token of a job: permissions on exactly what its grant says, as the exchange makes them. */
export function jobToken(
  server: TestServer,
  changes: Partial<TokenGrant> = {},
  claims: Partial<TokenClaims> = {},
): Promise<string> {
  const grant = sampleGrant(changes);
  const caches = Object.fromEntries(
    grant.read.map((name) => [
      name,
      name === grant.write ? (["pull", "push"] as const) : (["pull"] as const),
    ]),
  );
  return server.token(caches, { subject: grant.principal, grant, ...claims });
}

/** The token of a pull request's job: reads `main`, writes the overlay of its number. */
export function pullRequestToken(
  server: TestServer,
  number: number,
  changes: Partial<TokenGrant> = {},
): Promise<string> {
  const overlay = `main_pr-${number}`;
  return jobToken(server, {
    trust: "overlay",
    run: `pr-${number}`,
    ref: `refs/pull/${number}/merge`,
    read: [overlay, "main"],
    write: overlay,
    overlayOf: "main",
    overlayKey: `key of ${number}`,
    reason: "a pull request of the same repository",
    ...changes,
  });
}
