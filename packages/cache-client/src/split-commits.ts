import type { PathFacts } from "./path-info.ts";
import { MAX_PATHS_PER_REQUEST } from "./wire-flywheel.ts";

/** Well below the 64 MiB our server takes, with room for JSON around the strings. */
const MAX_COMMIT_BYTES = 48 * 2 ** 20;

/**
 * Cuts a closure into commits our server accepts. One commit is the rule. A closure beyond the
 * server's limits is cut in dependency order, references first, so that after each commit what is
 * visible is closed.
 */
export function splitCommits(paths: readonly PathFacts[]): PathFacts[][] {
  const batches: PathFacts[][] = [];
  let batch: PathFacts[] = [];
  let sizeBytes = 0;
  for (const path of sortByReferences(paths)) {
    const pathBytes = estimateJsonBytes(path);
    if (batch.length === MAX_PATHS_PER_REQUEST || sizeBytes + pathBytes > MAX_COMMIT_BYTES) {
      batches.push(batch);
      batch = [];
      sizeBytes = 0;
    }
    batch.push(path);
    sizeBytes += pathBytes;
  }
  if (batch.length > 0) batches.push(batch);
  return batches;
}

/** Orders paths so that each comes after those it refers to; references outside the list are ignored. */
export function sortByReferences<Path extends PathFacts>(paths: readonly Path[]): Path[] {
  const byBaseName = new Map(paths.map((path) => [path.storePath.baseName, path]));
  const done = new Set<string>();
  const sorted: Path[] = [];
  for (const root of paths) {
    // A stack instead of recursion: closures can be deeper than the call stack.
    const stack = [{ path: root, next: 0 }];
    if (done.has(root.storePath.baseName)) continue;
    done.add(root.storePath.baseName);
    for (let top = stack.at(-1); top !== undefined; top = stack.at(-1)) {
      const reference = top.path.references[top.next];
      top.next += 1;
      if (reference === undefined) {
        sorted.push(top.path);
        stack.pop();
        continue;
      }
      const path = byBaseName.get(reference);
      if (path === undefined || done.has(reference)) continue;
      done.add(reference);
      stack.push({ path, next: 0 });
    }
  }
  return sorted;
}

function estimateJsonBytes({ storePath, references, signatures, ca, deriver }: PathFacts): number {
  const strings = [storePath.path, ...references, ...signatures, ca ?? "", deriver ?? ""];
  return strings.reduce((sum, text) => sum + Buffer.byteLength(text) + 8, 400);
}
