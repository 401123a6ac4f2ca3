/**
 * The two toolkit packages that few lines of ours need and that are as large as everything else: a chunk of its own,
 * loaded on demand.
 */
export { isFeatureAvailable, restoreCache, saveCache } from "@actions/cache";
export { cacheDir, find } from "@actions/tool-cache";
