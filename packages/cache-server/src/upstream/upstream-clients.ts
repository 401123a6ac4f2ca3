import type { UpstreamRecord } from "../index/upstream-index.ts";
import { createUpstreamClient, type UpstreamClientOptions } from "./upstream-client.ts";
import type { UpstreamClient } from "./upstream-client.ts";

/** A client for each upstream, made when it is first needed, and anew when the upstream was changed. */
export interface UpstreamClients {
  of(upstream: UpstreamRecord): UpstreamClient;
  stop(): Promise<void>;
}

/** What began with the old keys or address may end so; long enough for a NAR, which nobody keeps then. */
const RETIREMENT_MS = 60_000;

/** @param onChanged told of an upstream whose keys or address are others now: what it lacked it may have. */
export function createUpstreamClients(
  options: UpstreamClientOptions,
  onChanged: (upstream: UpstreamRecord) => void,
): UpstreamClients {
  /** By the upstream's id, then by what it is asked with; the others of an id are to go. */
  const clients = new Map<number, Map<string, UpstreamClient>>();

  const retire = (known: Map<string, UpstreamClient>, newest: string): void => {
    const old = [...known].filter(([facts]) => facts !== newest);
    setTimeout(() => {
      for (const [facts, client] of old) {
        if (known.get(facts) !== client) continue;
        known.delete(facts);
        void client[Symbol.asyncDispose]();
      }
    }, RETIREMENT_MS).unref();
  };

  return {
    of(upstream) {
      const { id, viewId, name, url, publicKeys, authorization, storeDir } = upstream;
      const facts = JSON.stringify([viewId, name, url, publicKeys, authorization, storeDir]);
      let known = clients.get(id);
      if (known === undefined) clients.set(id, (known = new Map()));
      let client = known.get(facts);
      if (client !== undefined) return client;
      client = createUpstreamClient(upstream, options);
      known.set(facts, client);
      if (known.size > 1) {
        retire(known, facts);
        onChanged(upstream);
      }
      return client;
    },
    async stop() {
      const all = [...clients.values()].flatMap((known) => [...known.values()]);
      clients.clear();
      await Promise.all(all.map((client) => client[Symbol.asyncDispose]()));
    },
  };
}
