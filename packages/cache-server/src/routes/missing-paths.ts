import type { RouteServices } from "./route-services.ts";

/**
 * Of the paths that a push asks for, those that no view of the chain has, each once. The others count as used where
 * they are: they will not be collected before the push has ended.
 */
export async function findMissingPaths(
  services: Pick<RouteServices, "index" | "accesses">,
  chain: readonly number[],
  storePathHashes: readonly string[],
): Promise<string[]> {
  let missing = [...new Set(storePathHashes)];
  for (const viewId of chain) {
    if (missing.length > 0) missing = await findMissingIn(services, viewId, missing);
  }
  return missing;
}

async function findMissingIn(
  { index, accesses }: Pick<RouteServices, "index" | "accesses">,
  viewId: number,
  storePathHashes: readonly string[],
): Promise<string[]> {
  for (;;) {
    const missing = await index.findMissingPaths(viewId, storePathHashes);
    const absent = new Set(missing);
    const deletion = accesses.usePaths(
      viewId,
      storePathHashes.filter((hash) => !absent.has(hash)),
    );
    if (deletion === undefined) return missing;
    await deletion;
  }
}
