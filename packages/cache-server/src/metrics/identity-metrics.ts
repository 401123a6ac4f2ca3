import { Counter, type Registry } from "prom-client";

import type { ExchangeResult } from "../identity/exchange-identity.ts";

/** What is counted of identities; no label says whose. */
export interface IdentityMetrics {
  readonly countExchange: (result: ExchangeResult) => void;
  readonly countPolicyProblem: () => void;
  readonly countAdopted: (entries: number) => void;
  readonly countPlaced: (paths: number) => void;
  readonly countWithdrawn: (paths: number) => void;
}

export function createIdentityMetrics(registers: Registry[]): IdentityMetrics {
  const exchanges = new Counter({
    name: "flywheel_exchanges_total",
    help: "Identity tokens brought, by result: granted, refused, limited, unavailable.",
    labelNames: ["result"] as const,
    registers,
  });
  const problems = new Counter({
    name: "flywheel_policy_problems_total",
    help: "Changed trust policies that were unusable, so that the one before stayed.",
    registers,
  });
  const adopted = new Counter({
    name: "flywheel_adopted_entries_total",
    help: "Entries taken over from merge queues' overlays.",
    registers,
  });
  const placed = new Counter({
    name: "flywheel_commons_placed_total",
    help: "Paths that came into the commons.",
    registers,
  });
  const withdrawn = new Counter({
    name: "flywheel_commons_withdrawn_total",
    help: "Paths taken back from the commons, after a revocation or a change of the policy.",
    registers,
  });
  return {
    countPlaced: (paths) => placed.inc(paths),
    countWithdrawn: (paths) => withdrawn.inc(paths),
    countExchange: (result) => exchanges.inc({ result }),
    countPolicyProblem: () => problems.inc(),
    countAdopted: (entries) => adopted.inc(entries),
  };
}
