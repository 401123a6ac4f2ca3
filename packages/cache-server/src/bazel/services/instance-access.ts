import { CacheError } from "@glorious/core";
import { parseInstanceName } from "@glorious/reapi";
import type { CachePermission } from "@glorious/trust";

import type { ViewRecord } from "../../index/cache-index.ts";
import type { LatencyHistogram, ViewLatencies } from "../../metrics/view-latencies.ts";
import { toPrincipalFacts } from "../../trust/principal-facts.ts";
import type { ReadChain } from "../../trust/read-chain.ts";
import type { Caller, TrustGate } from "../../trust/trust-gate.ts";
import type { BazelPlane } from "../bazel-plane.ts";
import { createActor } from "../store/actor.ts";
import type { BazelScope, BazelStore } from "../store/bazel-store.ts";
import { ChainScope } from "../store/chain-scope.ts";
import type { BazelCounters, ViewCounters } from "../view-counters.ts";

/** What a caller may do, for as long as the index is the one that was asked. */
export interface InstanceAccess {
  readonly view: ViewRecord;
  readonly scope: BazelScope;
  readonly store: BazelStore;
  readonly counters: ViewCounters;
  /** Where the time of what is asked for counts. */
  readonly latency: LatencyHistogram;
  /** What reads fall through, where that is more than the view. */
  readonly chain?: ReadChain | undefined;
  /** The `agent` that it was opened for. */
  readonly agent: string | undefined;
}

/** What is asked for. */
export interface InstanceRequest {
  readonly instance: string;
  readonly permission: CachePermission;
  /** The client's `User-Agent`. */
  readonly agent: string | undefined;
  /** What the client calls itself, where that is more exact. */
  readonly client?: string | undefined;
}

/** Opens what instance names hold to those who may. */
export interface InstanceGate {
  /**
   * From memory: the same that `open` gave this caller before.
   *
   * @param agent Of who writes: provenance records it.
   */
  recall(
    caller: Caller,
    instance: string,
    permission: CachePermission,
    agent?: string,
  ): InstanceAccess | undefined;
  /**
   * Decides by the view, which is the first part of the name. A caller whose token is for one view only may leave
   * the name out. Reads fall through the views behind it, each below the same further name; writes go into the view.
   *
   * @throws {CacheError} `INVALID` for a malformed name, and what the gate throws.
   */
  open(caller: Caller, request: InstanceRequest): Promise<InstanceAccess>;
}

const MAX_REMEMBERED_PER_CALLER = 100;

export function createInstanceGate(
  gate: TrustGate,
  plane: BazelPlane,
  figures: { readonly counters: BazelCounters; readonly latencies: ViewLatencies },
): InstanceGate {
  const { counters, latencies } = figures;
  // A caller's rights change only with the index, and then it is another caller.
  const remembered = new WeakMap<Caller, Map<string, InstanceAccess>>();

  return {
    recall(caller, instance, permission, agent) {
      const access = remembered.get(caller)?.get(`${permission}/${instance}`);
      if (permission === "push" && access?.agent !== agent) return undefined;
      const chain = access?.chain;
      // What is behind a view changes with the policy, too.
      if (chain !== undefined && gate.recallChain(caller, chain.view.name) !== chain)
        return undefined;
      return access;
    },
    async open(caller, { instance, permission, agent, client = agent }) {
      const name = instance === "" ? onlyViewOf(caller) : instance;
      const { view: viewName = "" } = parseInstanceName(name);
      const own =
        permission === "push" ? await gate.requireUploadView(caller, viewName) : undefined;
      // The index may have changed with the first write to an overlay, and with it what is read.
      const mayRead = permission === "pull" || gate.may(caller, viewName, "pull");
      const chain = mayRead ? await gate.requireChain(caller, viewName) : undefined;
      const views = chain?.views ?? [];
      const view = own ?? views[0];
      if (view === undefined) throw new Error(`The chain of ${viewName} holds no view`);
      const { claims } = caller;
      const actor = claims && createActor(toPrincipalFacts(claims, client));
      const scopes = await Promise.all(
        views.map((each) => plane.openScope(each, each.name + name.slice(viewName.length), actor)),
      );
      const store = await plane.openStore(view);
      const isChain = views.length > 1 || view.name !== viewName;
      const ownScope = store.scope(view.id, view.name + name.slice(viewName.length), actor);
      const isOwnRead = views.some(({ id }) => id === view.id);
      const access: InstanceAccess = {
        view,
        store,
        scope: isChain
          ? new ChainScope(ownScope, isOwnRead ? scopes : [ownScope, ...scopes])
          : ownScope,
        counters: counters.of(view.id),
        latency: latencies.of(view.name).bazel[permission === "push" ? "write" : "read"],
        agent,
        chain: isChain ? chain : undefined,
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
