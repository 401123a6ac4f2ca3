import { formatPrincipalFacts } from "../../index/principal-text.ts";
import type { PrincipalFacts, RevocationTarget } from "../../index/provenance-index.ts";

/** Who reads and writes, as provenance records it. */
export interface Actor extends RevocationTarget {
  readonly trust: PrincipalFacts["trust"];
  /** All that is known, in JSON; equal for equal facts. */
  readonly facts: string;
}

export function createActor(facts: PrincipalFacts): Actor {
  const { principal, run, jti, trust } = facts;
  return { principal, run, jti, trust, facts: formatPrincipalFacts(facts) };
}
