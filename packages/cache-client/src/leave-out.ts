import { CacheError } from "@glorious/core";

import type { PathFacts } from "./path-info.ts";
import type { FailedPath } from "./push-events.ts";
import { sortByReferences } from "./split-commits.ts";

/** A closure without what cannot be had. */
export interface SoundPaths<Path> {
  /** References before those that refer to them. */
  readonly sound: readonly Path[];
  readonly failed: readonly FailedPath[];
}

/**
 * Sets aside the paths that `reasonOf` has a reason against, and all that need one of these, so that what is left is as
 * closed as it was.
 */
export function leaveOut<Path extends PathFacts>(
  paths: readonly Path[],
  reasonOf: (path: Path) => CacheError | undefined,
): SoundPaths<Path> {
  const sound: Path[] = [];
  const failed: FailedPath[] = [];
  const failedNames = new Set<string>();
  for (const path of sortByReferences(paths)) {
    const needed = path.references.find((baseName) => failedNames.has(baseName));
    const error =
      reasonOf(path) ?? (needed === undefined ? undefined : withoutReference(path, needed));
    if (error === undefined) {
      sound.push(path);
      continue;
    }
    failedNames.add(path.storePath.baseName);
    failed.push({ storePath: path.storePath.path, error });
  }
  return { sound, failed };
}

/** Why a path is left out although nothing is wrong with it. */
export function withoutReference({ storePath }: PathFacts, reference: string): CacheError {
  return new CacheError(
    "NOT_FOUND",
    `${storePath.path} is left out: it refers to ${reference}, which cannot be had`,
  );
}
