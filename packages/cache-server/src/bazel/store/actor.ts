import { formatPrincipalFacts } from "../../index/principal-text.ts";
import type { PrincipalFacts, RevocationTarget } from "../../index/provenance-index.ts";

/** Who reads and writes, as provenance records it. */
export interface Actor extends RevocationTarget {
  readonly trust: PrincipalFacts["trust"];
  /** All that is known, in JSON; equal for equal facts. */
  readonly facts: string;
  /** By what key a push may take over what it writes. */
  readonly offers: string | undefined;
}

export function createActor(facts: PrincipalFacts): Actor {
  const { principal, run, jti, trust, offers } = facts;
  return { principal, run, jti, trust, offers, facts: formatPrincipalFacts(facts) };
}
