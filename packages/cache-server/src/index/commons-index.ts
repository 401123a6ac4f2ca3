import type { PathRecord } from "./cache-index.ts";

/**
 * What tenants agree on, and the view that it goes into; part of `CacheIndex`, whose conventions hold here. A voter is a
 * view in which trusted jobs wrote a path, and nobody else since it was made there.
 */
export interface CommonsIndex {
  /**
   * Hashes of the paths that came into any of these views after the place that an earlier page ended at, in the order of
   * their coming; 0 is the beginning. The limit is of the paths of all views that are looked at, and what lies after
   * `last` has not been; where it is `after` again there is nothing more.
   */
  listNewPaths(
    viewIds: readonly number[],
    page: { readonly after: number; readonly limit: number },
  ): Promise<{ readonly storePathHashes: readonly string[]; readonly last: number }>;
  /** What these views have under a hash, as far as they are voters for it. */
  findTrustedPaths(viewIds: readonly number[], storePathHash: string): Promise<PathRecord[]>;
  /** Remembers who agreed on a path of the commons; those known stay. */
  addVotes(
    commonsId: number,
    storePathHash: string,
    vote: { readonly voters: readonly number[]; readonly atMs: number },
  ): Promise<void>;
  /** Who agreed on the paths of the commons, in order of their hashes, beginning behind `after`; no lost ones. */
  listVotes(
    commonsId: number,
    page: { readonly after?: string; readonly limit: number },
  ): Promise<CommonsVotes[]>;
  /** The same of one path; `undefined` when the commons does not have it. */
  findVotes(commonsId: number, storePathHash: string): Promise<CommonsVotes | undefined>;
}

export interface CommonsVotes {
  readonly storePathHash: string;
  /** Set for what verifies itself. */
  readonly ca: string | undefined;
  readonly votes: readonly CommonsVote[];
}

export interface CommonsVote {
  readonly viewId: number;
  readonly atMs: number;
  /**
   * `withdrawn`: the view's path is hidden by a revocation, or is another one now, or its writers were revoked after it had
   * been collected. A view that has only collected its path keeps its word.
   */
  readonly state: "holds" | "withdrawn";
}
