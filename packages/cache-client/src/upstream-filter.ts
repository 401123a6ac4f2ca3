import { formatCount } from "@glorious/core";

import type { PathFacts } from "./path-info.ts";
import type { SkippedPaths } from "./push-events.ts";

/** The paths to push, and those an upstream has. */
export interface FilteredPaths {
  readonly kept: readonly PathFacts[];
  readonly skipped: readonly SkippedPaths[];
}

/**
 * Sets aside the paths that carry a signature by one of `keyNames`, grouped by the first of these names
 * they are signed by. As in Attic names are compared and nothing is verified: this saves uploads, it
 * is no matter of trust.
 */
export function filterUpstream(
  paths: readonly PathFacts[],
  keyNames: readonly string[],
): FilteredPaths {
  const kept: PathFacts[] = [];
  const skipped = new Map<string, string[]>();
  for (const path of paths) {
    const signers = new Set(path.signatures.map(keyNameOf));
    const keyName = keyNames.find((name) => signers.has(name));
    if (keyName === undefined) {
      kept.push(path);
      continue;
    }
    const group = skipped.get(keyName);
    if (group === undefined) skipped.set(keyName, [path.storePath.path]);
    else group.push(path.storePath.path);
  }
  return {
    kept,
    skipped: [...skipped].map(([keyName, storePaths]) => describe(keyName, storePaths)),
  };
}

/**
 * Sets aside the paths that the view's readers get from its upstreams.
 *
 * @param upstreamPaths names of upstreams by store path hash.
 */
export function leaveToUpstreams(
  paths: readonly PathFacts[],
  upstreamPaths: ReadonlyMap<string, string>,
): FilteredPaths {
  const kept: PathFacts[] = [];
  const skipped = new Map<string, string[]>();
  for (const path of paths) {
    const upstream = upstreamPaths.get(path.storePath.hash);
    if (upstream === undefined) {
      kept.push(path);
      continue;
    }
    const group = skipped.get(upstream);
    if (group === undefined) skipped.set(upstream, [path.storePath.path]);
    else group.push(path.storePath.path);
  }
  return {
    kept,
    skipped: [...skipped].map(([upstream, storePaths]) => ({
      upstream,
      storePaths,
      reason: `${formatCount(storePaths.length, "path")} skipped: upstream ${upstream} has ${storePaths.length === 1 ? "it" : "them"}`,
    })),
  };
}

/** `undefined` when it is no signature. */
function keyNameOf(signature: string): string | undefined {
  const colonAt = signature.indexOf(":");
  return colonAt > 0 ? signature.slice(0, colonAt) : undefined;
}

function describe(keyName: string, storePaths: readonly string[]): SkippedPaths {
  return {
    keyName,
    storePaths,
    reason: `${formatCount(storePaths.length, "path")} skipped: signed by ${keyName}`,
  };
}
