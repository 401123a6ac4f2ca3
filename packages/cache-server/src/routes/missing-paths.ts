import type { RouteServices } from "./route-services.ts";

/**
 * Of the paths that a push asks for, those the view lacks. The others count as used: they will not be collected before
 * the push has ended.
 */
export async function findMissingPaths(
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
