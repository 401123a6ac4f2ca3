import { CacheError } from "@glorious/core";
import { parseInstanceName } from "@glorious/reapi";
import type { CachePermission } from "@glorious/trust";

import type { ViewRecord } from "../../index/cache-index.ts";
import type { Caller, TrustGate } from "../../trust/trust-gate.ts";
import type { BazelPlane } from "../bazel-plane.ts";
import type { BazelScope, BazelStore } from "../store/bazel-store.ts";
import type { BazelCounters, ViewCounters } from "../view-counters.ts";

/** What a caller may do, for as long as the index is the one that was asked. */
export interface InstanceAccess {
  readonly view: ViewRecord;
  readonly scope: BazelScope;
  readonly store: BazelStore;
  readonly counters: ViewCounters;
}

/** Opens what instance names hold to those who may. */
export interface InstanceGate {
  /** From memory: the same that `open` gave this caller before. */
  recall(caller: Caller, instance: string, permission: CachePermission): InstanceAccess | undefined;
  /**
   * Decides by the view, which is the first part of the name. A caller whose token is for one view only may leave
   * the name out.
   *
   * @throws {CacheError} `INVALID` for a malformed name, and what `TrustGate.requireView` throws.
   */
  open(caller: Caller, instance: string, permission: CachePermission): Promise<InstanceAccess>;
}

const MAX_REMEMBERED_PER_CALLER = 100;

export function createInstanceGate(
  gate: TrustGate,
  plane: BazelPlane,
  counters: BazelCounters,
): InstanceGate {
  // A caller's rights change only with the index, and then it is another caller.
  const remembered = new WeakMap<Caller, Map<string, InstanceAccess>>();

  return {
    recall(caller, instance, permission) {
      return remembered.get(caller)?.get(`${permission}/${instance}`);
    },
    async open(caller, instance, permission) {
      const name = instance === "" ? onlyViewOf(caller) : instance;
      const { view: viewName } = parseInstanceName(name);
      const view = await gate.requireView(caller, viewName ?? "", permission);
      const store = await plane.openStore(view);
      const access: InstanceAccess = {
        view,
        store,
        scope: store.scope(view.id, name),
        counters: counters.of(view.id),
      };
      if (caller.indexVersion === undefined) return access;
      let known = remembered.get(caller);
      if (known === undefined) remembered.set(caller, (known = new Map()));
      if (known.size >= MAX_REMEMBERED_PER_CALLER) known.clear();
      known.set(`${permission}/${instance}`, access);
      return access;
    },
  };
}

/** The view of a token that names exactly one. */
function onlyViewOf({ claims, problem }: Caller): string {
  const [only, ...others] = claims?.caches ?? [];
  if (only !== undefined && others.length === 0 && !only[0].includes("*")) return only[0];
  const hint = "Give the view's name as --remote_instance_name.";
  if (claims === undefined) throw new CacheError("UNAUTHENTICATED", problem, { hint });
  throw new CacheError(
    "INVALID",
    "No instance name was given, and the token is for several views",
    {
      hint,
    },
  );
}
