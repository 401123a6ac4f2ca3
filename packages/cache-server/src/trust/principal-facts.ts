import type { TokenClaims, TokenGrant } from "@glorious/trust";

import type { PrincipalFacts } from "../index/provenance-index.ts";

const MAX_CLIENT_CHARACTERS = 100;

/**
 * Who a token speaks for: the job it was exchanged for, or by itself whoever has it.
 *
 * @param client What its client calls itself.
 */
export function toPrincipalFacts(
  { grant, jti, subject }: TokenClaims,
  client?: string,
): PrincipalFacts {
  const said = client?.replaceAll(/[^ -~]/g, "").slice(0, MAX_CLIENT_CHARACTERS);
  const known = said === undefined || said === "" ? {} : { client: said };
  if (grant === undefined) {
    const principal = jti === undefined ? `subject:${subject ?? ""}` : `token:${jti}`;
    return { principal, trust: "token", jti, ...known };
  }
  return { ...factsOfGrant(grant, jti), ...known };
}

/** The job that a token is exchanged for. */
export function factsOfGrant(grant: TokenGrant, jti: string | undefined): PrincipalFacts {
  const { principal, trust, run, attempt, commit, repository, ref, adopt } = grant;
  const offers = adopt?.role === "offers" ? adopt.key : undefined;
  return { principal, trust, run, attempt, commit, repository, ref, jti, offers };
}
