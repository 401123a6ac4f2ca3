import type { TokenClaims, TokenGrant } from "@glorious/trust";

import type { PrincipalFacts } from "../index/provenance-index.ts";

/** Who a token speaks for: the job it was exchanged for, or by itself whoever has it. */
export function toPrincipalFacts({ grant, jti, subject }: TokenClaims): PrincipalFacts {
  if (grant === undefined) {
    const principal = jti === undefined ? `subject:${subject ?? ""}` : `token:${jti}`;
    return { principal, trust: "token", jti };
  }
  return factsOfGrant(grant, jti);
}

/** The job that a token is exchanged for. */
export function factsOfGrant(grant: TokenGrant, jti: string | undefined): PrincipalFacts {
  const { principal, trust, run, attempt, commit, repository, ref, adopt } = grant;
  const offers = adopt?.role === "offers" ? adopt.key : undefined;
  return { principal, trust, run, attempt, commit, repository, ref, jti, offers };
}
