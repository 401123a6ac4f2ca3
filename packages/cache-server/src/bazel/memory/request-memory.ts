import type { RequestMemory, ServerCall } from "@glorious/grpc";

import type { TrustGate } from "../../trust/trust-gate.ts";
import { FairBudget } from "./fair-budget.ts";

/** The memory for the requests of all gRPC connections, shared fairly between tenants and between connections. */
export interface SharedRequestMemory {
  /** What one more connection asks for memory. */
  openConnection(): RequestMemory;
  figures(): RequestMemoryFigures;
}

/** How the memory for requests stands now. */
export interface RequestMemoryFigures {
  readonly totalBytes: number;
  readonly usedBytes: number;
  /** Connections with a call that waits for memory. */
  readonly waitingConnections: number;
}

export function shareRequestMemory(
  totalBytes: number,
  gate: Pick<TrustGate, "recall">,
): SharedRequestMemory {
  const budget = new FairBudget(totalBytes);
  return {
    openConnection() {
      const user = budget.openUser();
      return {
        ask: (call, wish, onGranted) =>
          budget.ask(user, { ...wish, group: tenantOf(call, gate) }, onGranted),
      };
    },
    figures: () => ({
      totalBytes: budget.totalBytes,
      usedBytes: budget.totalBytes - budget.freeBytes,
      waitingConnections: budget.waitingUsers,
    }),
  };
}

/** Nobody, and whoever was not heard of yet. */
const STRANGERS = "?";

/** By the first view that the caller's token names: a token for several tenants belongs to none of the others. */
function tenantOf({ headers }: ServerCall, gate: Pick<TrustGate, "recall">): string {
  const caches = gate.recall(headers.get("authorization"))?.claims?.caches;
  const pattern = caches?.[0]?.[0];
  if (pattern === undefined) return STRANGERS;
  const end = pattern.indexOf("+");
  return end === -1 ? "" : pattern.slice(0, end);
}
