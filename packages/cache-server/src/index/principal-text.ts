import type { PrincipalFacts } from "./provenance-index.ts";

/** Equal facts as equal texts, in JSON: what principals are told apart by. */
export function formatPrincipalFacts({ principal, trust, ...facts }: PrincipalFacts): string {
  const { run, attempt, commit, repository, ref, jti, client } = facts;
  return JSON.stringify({ principal, trust, run, attempt, commit, repository, ref, jti, client });
}

/** What {@link formatPrincipalFacts} wrote. */
export function parsePrincipalFacts(text: string): PrincipalFacts {
  const facts: PrincipalFacts = JSON.parse(text);
  return facts;
}
