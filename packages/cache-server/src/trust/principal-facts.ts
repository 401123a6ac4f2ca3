import type { TokenClaims } from "@glorious/trust";

import type { PrincipalFacts } from "../index/provenance-index.ts";

/** Who a token speaks for: the job it was exchanged for, or by itself whoever has it. */
export function toPrincipalFacts({ grant, jti, subject }: TokenClaims): PrincipalFacts {
  if (grant === undefined) {
    const principal = jti === undefined ? `subject:${subject ?? ""}` : `token:${jti}`;
    return { principal, trust: "token", jti };
  }
  const { principal, trust, run, attempt, commit, repository, ref } = grant;
  return { principal, trust, run, attempt, commit, repository, ref, jti };
}
