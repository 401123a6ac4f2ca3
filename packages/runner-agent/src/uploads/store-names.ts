import { isStorePathHash } from "@glorious/nix-store";

/** What {@link isWorthPushing} leaves out beside what is never pushed. */
export interface NameRules {
  /** Leave out sources: names that end in `-source`. */
  readonly skipSources: boolean;
}

/**
 * The store path's name that a lock file's name is about; `undefined` for any other name.
 *
 * Nix holds `X.lock` while it makes X, and removes it once X is valid, or was given up.
 */
export function lockedName(fileName: string): string | undefined {
  if (!fileName.endsWith(".lock")) return undefined;
  const name = fileName.slice(0, -".lock".length);
  return isStorePathName(name) ? name : undefined;
}

/** Whether a name in the store directory is of a path that others may want to have. */
export function isWorthPushing(name: string, { skipSources }: NameRules): boolean {
  if (!isStorePathName(name)) return false;
  // Derivations are evaluated again in no time; the others are what Nix leaves behind while it works.
  if (/\.(drv|lock|chroot|check|tmp)$/.test(name)) return false;
  return !(skipSources && name.endsWith("-source"));
}

function isStorePathName(name: string): boolean {
  return name[32] === "-" && name.length > 33 && isStorePathHash(name.slice(0, 32));
}
