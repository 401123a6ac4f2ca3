import type { Socket } from "node:net";

import type { RequestMemory } from "@glorious/grpc";

import type { Exchange } from "../../http/exchange.ts";
import type { Caller, TrustGate } from "../../trust/trust-gate.ts";
import { type BudgetUser, FairBudget } from "./fair-budget.ts";

/** The memory for requests with blobs, of gRPC's connections and of HTTP's, shared fairly between tenants and between connections. */
export interface SharedRequestMemory {
  /** What one more connection asks for memory. */
  openConnection(): RequestMemory;
  /**
   * Waits for memory for an HTTP request's body, which is held until the handle is disposed of.
   *
   * @throws What the request was aborted with.
   */
  hold(
    exchange: Pick<Exchange, "request" | "caller" | "signal">,
    sizeBytes: number,
  ): Promise<Disposable>;
  figures(): RequestMemoryFigures;
}

/** How the memory for requests stands now. */
export interface RequestMemoryFigures {
  readonly totalBytes: number;
  readonly usedBytes: number;
  /** Connections with a request that waits for memory. */
  readonly waitingConnections: number;
}

export function shareRequestMemory(
  totalBytes: number,
  gate: Pick<TrustGate, "recall">,
): SharedRequestMemory {
  const budget = new FairBudget(totalBytes);
  const users = new WeakMap<Socket, BudgetUser>();
  const userOf = (socket: Socket): BudgetUser => {
    let user = users.get(socket);
    if (user === undefined) users.set(socket, (user = budget.openUser()));
    return user;
  };
  return {
    openConnection() {
      const user = budget.openUser();
      return {
        ask: (call, wish, onGranted) =>
          budget.ask(
            user,
            { ...wish, group: tenantOf(gate.recall(call.headers.get("authorization"))) },
            onGranted,
          ),
      };
    },
    async hold({ request, caller, signal }, sizeBytes) {
      signal.throwIfAborted();
      // No memory at all is never given.
      const bytes = Math.max(1, sizeBytes);
      const wish = { leastBytes: bytes, mostBytes: bytes, group: tenantOf(caller) };
      const granted = Promise.withResolvers<void>();
      const lease = budget.ask(userOf(request.socket), wish, () => granted.resolve());
      const onAbort = (): void => granted.reject(signal.reason);
      signal.addEventListener("abort", onAbort);
      try {
        if (lease.sizeBytes === 0) await granted.promise;
      } catch (error) {
        lease.release();
        throw error;
      } finally {
        signal.removeEventListener("abort", onAbort);
      }
      return { [Symbol.dispose]: () => lease.release() };
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
function tenantOf(caller: Caller | undefined): string {
  const pattern = caller?.claims?.caches[0]?.[0];
  if (pattern === undefined) return STRANGERS;
  const end = pattern.indexOf("+");
  return end === -1 ? "" : pattern.slice(0, end);
}
