import type { CacheIndex } from "../index/cache-index.ts";
import type { ReadView } from "../trust/read-chain.ts";

/**
 * The public keys that readers have to trust for what comes from upstreams, each once: those of the upstreams of all
 * views that are read. None when the view that is asked signs it itself; an overlay that nobody wrote to does not.
 */
export async function upstreamKeysOf(
  index: Pick<CacheIndex, "upstreamsOfViews">,
  asked: Pick<ReadView, "id" | "signsUpstream"> | undefined,
  read: readonly { readonly id: number }[],
): Promise<string[]> {
  if (asked?.id !== undefined && asked.signsUpstream) return [];
  const upstreams = await index.upstreamsOfViews(read.map(({ id }) => id));
  return [...new Set(upstreams.flatMap(({ publicKeys }) => publicKeys))];
}
