import { isCacheError } from "@glorious/core";
import { parseNarInfo } from "@glorious/nix-store";

import type { Exchange } from "../http/exchange.ts";
import { baseOfOverlay, type ReadChain } from "../trust/read-chain.ts";
import type { RouteServices } from "./route-services.ts";
import { readVia } from "./upstream-answers.ts";

/** A path that a push may leave out. */
export interface UpstreamPresence {
  readonly storePathHash: string;
  /** The upstream's name. */
  readonly upstream: string;
}

/** What a push wants to send. */
export interface PushedPath {
  readonly storePathHash: string;
  /** In hexadecimal; where it is known, an upstream must have the very same NAR. */
  readonly narHash?: string;
}

/** In one push so many paths are asked for; of the others counts what is known. */
const MAX_ASKED = 2000;

/**
 * Of paths that a view has not, those that its readers get from its upstreams, so that nobody need push them. None
 * where the view wants its own copies, and none that the caller could not read there.
 */
export async function findInUpstreams(
  { index, gate, accesses, upstreams }: RouteServices,
  exchange: Exchange,
  viewName: string,
  paths: readonly PushedPath[],
): Promise<UpstreamPresence[]> {
  if (paths.length === 0 || upstreams === undefined) return [];
  const target = await index.findView(baseOfOverlay(viewName) ?? viewName);
  if (target === undefined || target.pushesUpstream) return [];
  const chain = await readableChain({ gate }, exchange, viewName);
  if (chain === undefined || chain.upstreams.length === 0) return [];
  const names = new Map(chain.upstreams.map(({ viewId, name }) => [viewId, name]));
  /** By store path hash: where it is, and what NAR it has there. */
  const found = new Map<string, { readonly upstream: string; readonly narHash: string }>();
  const hashes = paths.map(({ storePathHash }) => storePathHash);
  for (const stored of await index.findNarInfos([...names.keys()], hashes)) {
    const { viewId, storePathHash, narInfo, accessedAtMs } = stored;
    // One that is being collected is as good as gone.
    if (accesses.usePath(viewId, storePathHash, accessedAtMs) !== undefined) continue;
    const narHash = parseNarInfo(narInfo).narHash.bytes.toString("hex");
    found.set(storePathHash, { upstream: names.get(viewId) ?? "", narHash });
  }
  const unknown = hashes.filter((hash) => !found.has(hash)).slice(0, MAX_ASKED);
  const hits = await upstreams.findAll(chain.upstreams, unknown, readVia(exchange));
  for (const { upstream, narInfo } of hits) {
    const { storePathHash, narHash } = narInfo.manifest;
    found.set(storePathHash, { upstream: upstream.name, narHash });
  }
  return paths.flatMap(({ storePathHash, narHash }) => {
    const there = found.get(storePathHash);
    const isSame = there !== undefined && (narHash ?? there.narHash) === there.narHash;
    return isSame ? [{ storePathHash, upstream: there.upstream }] : [];
  });
}

/** What the caller reads through a view; `undefined` when it may not. */
async function readableChain(
  { gate }: Pick<RouteServices, "gate">,
  { caller }: Exchange,
  viewName: string,
): Promise<ReadChain | undefined> {
  try {
    return await gate.requireChain(caller, viewName);
  } catch (error) {
    if (isCacheError(error)) return undefined;
    throw error;
  }
}
