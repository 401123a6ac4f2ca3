import type { CacheIndex, ViewRecord } from "../index/cache-index.ts";

/**
 * The public keys that readers of these views have to trust for what comes from their upstreams, each once. None when
 * one of the views signs that itself.
 */
export async function upstreamKeysOf(
  index: Pick<CacheIndex, "upstreamsOfViews">,
  views: readonly Pick<ViewRecord, "id" | "signsUpstream">[],
): Promise<string[]> {
  if (views.some((view) => view.signsUpstream)) return [];
  const upstreams = await index.upstreamsOfViews(views.map(({ id }) => id));
  return [...new Set(upstreams.flatMap(({ publicKeys }) => publicKeys))];
}
