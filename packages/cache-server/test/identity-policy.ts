import { writeFile } from "node:fs/promises";
import { join } from "node:path";

import {
  createTemporaryDirectory,
  githubClaims,
  startIssuer,
  type TestIssuer,
} from "@glorious/testkit";

import {
  startTestServer,
  type TestAnswer,
  type TestParts,
  type TestRequest,
  type TestServer,
} from "./test-server.ts";

/** A server with a trust policy, and an issuer that the policy knows as GitHub. */
export interface IdentityServer extends AsyncDisposable {
  readonly server: TestServer;
  readonly issuer: TestIssuer;
  /** The policy's file. */
  readonly policyFile: string;
  readonly exchange: (body: unknown, options?: TestRequest) => Promise<TestAnswer>;
}

export type Claims = Readonly<Record<string, unknown>>;

/** A job of the repository that the policy knows, on its default branch. */
export const MAIN_JOB: Claims = githubClaims({
  owner: "acme",
  ownerId: 1001,
  repository: "acme/site",
  repositoryId: 2001,
});

/** A pull request of the same repository. */
export const REVIEW_JOB: Claims = githubClaims({
  owner: "acme",
  ownerId: 1001,
  repository: "acme/site",
  repositoryId: 2001,
  ref: "refs/pull/12/merge",
  event: "pull_request",
});

/** A job of somebody the policy says nothing about. */
export const STRANGER_JOB: Claims = githubClaims({
  owner: "mallory",
  ownerId: 6666,
  repository: "mallory/site",
  repositoryId: 6667,
});

/** Two tenants: acme, of which one repository is known, and globex. */
export function formatPolicy(issuer: string, more: Readonly<Record<string, unknown>> = {}): string {
  const trusted = { refs: ["refs/heads/main"] };
  return JSON.stringify({
    version: 1,
    issuers: { forge: { kind: "github", issuer, tokenLifetime: "15m", ...more } },
    tenants: {
      acme: {
        views: { main: { quota: "5 GiB" } },
        scopes: [{ issuer: "forge", repository: { id: "2001" }, trusted, untrusted: "read" }],
      },
      globex: {
        views: { main: {} },
        scopes: [{ issuer: "forge", repository: { id: "3001" }, trusted }],
      },
    },
  });
}

/** Starts both. `policy` makes the policy's text of the issuer's name. */
export async function startIdentityServer(
  options: {
    readonly settings?: Parameters<typeof startTestServer>[0];
    readonly parts?: TestParts;
    readonly policy?: (issuer: string) => string;
  } = {},
): Promise<IdentityServer> {
  await using opened = new AsyncDisposableStack();
  const directory = opened.use(await createTemporaryDirectory());
  const issuer = opened.use(await startIssuer());
  const policyFile = join(directory.path, "policy.yaml");
  await writeFile(policyFile, (options.policy ?? formatPolicy)(issuer.issuer));
  const server = opened.use(
    await startTestServer(
      { trustPolicyFile: policyFile, trustReloadIntervalMs: "20ms", ...options.settings },
      options.parts,
    ),
  );
  issuer.audience = server.url;
  const owned = opened.move();
  return {
    server,
    issuer,
    policyFile,
    exchange: (body, request = {}) =>
      server.send("POST", "/_flywheel/v1/exchange", {
        ...request,
        headers: { "content-type": "application/json", ...request.headers },
        body: JSON.stringify(body),
      }),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** What a job has after its exchange. */
export interface ExchangedJob {
  readonly token: string;
  /** The view that it may write; empty when it may only read. */
  readonly write: string;
  readonly notices: readonly string[];
}

/** Exchanges the identity of a job that the policy grants something. */
export async function exchangeJob(
  { issuer, exchange }: Pick<IdentityServer, "issuer" | "exchange">,
  claims: Claims,
): Promise<ExchangedJob> {
  const answer = await exchange({ token: issuer.mint(claims) });
  if (answer.status !== 200) throw new Error(`The exchange answered ${answer.status}`);
  const { token, grant, notices } = answer.json() as {
    token: string;
    grant: { write?: string };
    notices: string[];
  };
  return { token, write: grant.write ?? "", notices };
}
