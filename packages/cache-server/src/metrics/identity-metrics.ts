import { Counter, type Registry } from "prom-client";

import type { ExchangeResult } from "../identity/exchange-identity.ts";

/** What is counted of identities; no label says whose. */
export interface IdentityMetrics {
  readonly countExchange: (result: ExchangeResult) => void;
  readonly countPolicyProblem: () => void;
  readonly countAdopted: (entries: number) => void;
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
  return {
    countExchange: (result) => exchanges.inc({ result }),
    countPolicyProblem: () => problems.inc(),
    countAdopted: (entries) => adopted.inc(entries),
  };
}
