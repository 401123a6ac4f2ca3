import { readFile } from "node:fs/promises";

import type { Logger } from "@glorious/core";
import {
  type IdentityVerdict,
  type PolicyIssuer,
  policyIssuers,
  readUnverifiedIssuer,
  type TrustPolicy,
  verifyIdentityToken,
} from "@glorious/trust";

import type { FetchDocument } from "./fetch-document.ts";
import { createIssuerKeys, type IssuerKeys, type KeyShelf } from "./issuer-keys.ts";

/** Who showed an identity token. */
export interface VerifiedIdentity extends Extract<IdentityVerdict, { kind: "verified" }> {
  /** Sentences for whoever asked, such as that the issuer does not answer. */
  readonly notices: readonly string[];
}

/** Why nobody was found behind a token. `message` is for the operator. */
export interface RefusedIdentity {
  readonly kind: "refused";
  readonly code: Extract<IdentityVerdict, { kind: "refused" }>["code"] | "unknown-issuer";
  readonly message: string;
  /** What the token names; proven by nothing. */
  readonly claimedIssuer: string | undefined;
}

export interface IdentityVerifier {
  /** @throws {CacheError} `UNAVAILABLE` when the issuer's keys cannot be had. */
  verify(token: string): Promise<VerifiedIdentity | RefusedIdentity>;
}

export interface IdentityVerifierOptions {
  readonly policy: () => TrustPolicy;
  /** The values of `aud` that mean this server. */
  readonly audiences: () => readonly string[];
  readonly fetch: FetchDocument;
  readonly shelf: KeyShelf | undefined;
  readonly now: () => number;
  readonly logger: Logger;
}

/** Verifies identity tokens of the policy's issuers, whose keys it fetches when they are needed. */
export function createIdentityVerifier(options: IdentityVerifierOptions): IdentityVerifier {
  const { now, logger, fetch, shelf } = options;
  let keys = new Map<string, IssuerKeys>();
  let keysFor: TrustPolicy | undefined;

  const keysOf = (policy: TrustPolicy, issuer: PolicyIssuer): IssuerKeys => {
    const old = keys;
    if (keysFor !== policy) {
      const known = new Set(policyIssuers(policy).map(sourceOf));
      keys = new Map([...old].filter(([source]) => known.has(source)));
      keysFor = policy;
    }
    const source = sourceOf(issuer);
    let found = keys.get(source);
    if (found === undefined) {
      const readText = (file: string): Promise<string> => readFile(file, "utf8");
      found = createIssuerKeys({ issuer, fetch, readFile: readText, shelf, now, logger });
      keys.set(source, found);
    }
    return found;
  };

  return {
    async verify(token) {
      const policy = options.policy();
      const claimedIssuer = readUnverifiedIssuer(token);
      const issuer = policyIssuers(policy).find((known) => known.issuer === claimedIssuer);
      if (issuer === undefined) {
        // A token that cannot be read is told so, whoever made it.
        const judged = await verifyIdentityToken(token, {
          issuer: { kind: "oidc", issuer: "", audiences: [] },
          jwks: { keys: [] },
          nowMs: now(),
        });
        const isUnreadable =
          judged.kind === "refused" && UNREADABLE.has(judged.code) ? judged : undefined;
        const message = "The policy has no such issuer";
        return { kind: "refused", code: "unknown-issuer", message, ...isUnreadable, claimedIssuer };
      }
      const known = keysOf(policy, issuer);
      let { jwks, notice } = await known.current();
      const judge = (): Promise<IdentityVerdict> =>
        verifyIdentityToken(token, {
          issuer: { ...issuer, audiences: options.audiences() },
          jwks,
          nowMs: now(),
        });
      let verdict = await judge();
      if (verdict.kind === "refused" && verdict.code === "unknown-key") {
        const newer = await known.lookForNewer();
        if (newer !== undefined) {
          ({ jwks, notice } = newer);
          verdict = await judge();
        }
      }
      if (verdict.kind === "refused") return { ...verdict, claimedIssuer };
      return { ...verdict, notices: notice === undefined ? [] : [notice] };
    },
  };
}

const UNREADABLE: ReadonlySet<string> = new Set(["malformed", "too-large", "duplicate-key"]);

function sourceOf({ issuer, jwksUri, jwksFile }: PolicyIssuer): string {
  return JSON.stringify([issuer, jwksUri, jwksFile]);
}
