import type { CacheIndex, ViewRecord } from "../index/cache-index.ts";

type Signer = Pick<ViewRecord, "id" | "signsUpstream">;

/**
 * The first of these views that signs what this upstream has. A view vouches for the upstreams that it was given, and
 * for none of those that other views bring into a chain.
 *
 * @param upstreamViewId the hidden view of the upstream.
 */
export async function findUpstreamSigner<View extends Signer>(
  index: Pick<CacheIndex, "upstreamsOfViews">,
  views: readonly View[],
  upstreamViewId: number,
): Promise<View | undefined> {
  for (const view of views) {
    if (!view.signsUpstream) continue;
    const own = await index.upstreamsOfViews([view.id]);
    if (own.some(({ viewId }) => viewId === upstreamViewId)) return view;
  }
  return undefined;
}

/**
 * The public keys that readers of these views have to trust for what comes from their upstreams, each once; none of
 * those upstreams that one of the views signs for.
 */
export async function upstreamKeysOf(
  index: Pick<CacheIndex, "upstreamsOfViews">,
  views: readonly Signer[],
): Promise<string[]> {
  const keys = new Set<string>();
  for (const { viewId, publicKeys } of await index.upstreamsOfViews(views.map(({ id }) => id))) {
    if ((await findUpstreamSigner(index, views, viewId)) !== undefined) continue;
    for (const key of publicKeys) keys.add(key);
  }
  return [...keys];
}
