import type { PrincipalFacts } from "@glorious/cache-client";

/** Header of {@link principalCells}. */
export const PRINCIPAL_HEADER: readonly string[] = [
  "REPOSITORY",
  "RUN",
  "REF",
  "TRUST",
  "PRINCIPAL",
  "CLIENT",
];

/** Who did something, for a table. */
export function principalCells(facts: PrincipalFacts): string[] {
  const { repository = "", run = "", ref = "", trust, principal, client = "" } = facts;
  return [repository, run, ref, trust, principal, client];
}
