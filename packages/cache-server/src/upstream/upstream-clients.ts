import type { UpstreamRecord } from "../index/upstream-index.ts";
import { createUpstreamClient, type UpstreamClientOptions } from "./upstream-client.ts";
import type { UpstreamClient } from "./upstream-client.ts";

/** A client for each upstream, made when it is first needed, and anew when the upstream was changed. */
export interface UpstreamClients {
  of(upstream: UpstreamRecord): UpstreamClient;
  stop(): Promise<void>;
}

/** @param onChanged told of an upstream whose keys or address are others now: what it lacked it may have. */
export function createUpstreamClients(
  options: UpstreamClientOptions,
  onChanged: (upstream: UpstreamRecord) => void,
): UpstreamClients {
  const clients = new Map<number, { readonly facts: string; readonly client: UpstreamClient }>();
  return {
    of(upstream) {
      const { id, viewId, name, url, publicKeys, authorization, storeDir } = upstream;
      const facts = JSON.stringify([viewId, name, url, publicKeys, authorization, storeDir]);
      const known = clients.get(id);
      if (known?.facts === facts) return known.client;
      // What runs with the old keys or address ends.
      void known?.client[Symbol.asyncDispose]();
      if (known !== undefined) onChanged(upstream);
      const client = createUpstreamClient(upstream, options);
      clients.set(id, { facts, client });
      return client;
    },
    async stop() {
      await Promise.all([...clients.values()].map(({ client }) => client[Symbol.asyncDispose]()));
      clients.clear();
    },
  };
}
