import type { NarInfoChange, ObjectRecord } from "./cache-index.ts";

/**
 * Caches that views fall back to; part of `CacheIndex`, whose conventions hold here.
 *
 * What was fetched from an upstream is held by a hidden view: one that no name finds and no list has, reached by its id
 * alone. So it has space, eviction, verification and quarantine like all views, and takes nothing from those that
 * people push to.
 */
export interface UpstreamIndex {
  /**
   * Adds an upstream with a hidden view, empty.
   *
   * @throws {CacheError} `CONFLICT` when the name is taken, `NOT_FOUND` when the view it belongs to is not there.
   */
  createUpstream(upstream: NewUpstream): Promise<UpstreamRecord>;
  findUpstream(name: string): Promise<UpstreamRecord | undefined>;
  /** All upstreams in order of their names. */
  listUpstreams(): Promise<UpstreamRecord[]>;
  /**
   * Changes what is given and keeps the rest; `undefined` when there is no such upstream. When a key goes, what was
   * believed on its word goes with it: the upstream gets another hidden view, empty.
   */
  updateUpstream(name: string, changes: UpstreamChanges): Promise<UpstreamRecord | undefined>;
  /** Removes the upstream from all views, and its hidden view as `deleteView` does; `false` when there is none. */
  deleteUpstream(name: string): Promise<boolean>;
  /**
   * Makes these the upstreams of a view, in this order, and no others.
   *
   * @throws {CacheError} `NOT_FOUND` when one is not there, or belongs to another view.
   */
  setViewUpstreams(viewId: number, upstreamIds: readonly number[]): Promise<void>;
  /** The upstreams of these views, each once: those of lower priority first, then in order of the views and their lists. */
  upstreamsOfViews(viewIds: readonly number[]): Promise<UpstreamRecord[]>;
  /** The names of the views that have this upstream, in order. */
  viewsOfUpstream(upstreamId: number): Promise<string[]>;

  /** Keeps answers in place of those before. Those of a hidden view that is gone are dropped. */
  putUpstreamPaths(paths: readonly UpstreamPath[]): Promise<void>;
  removeUpstreamPath(hiddenViewId: number, storePathHash: string): Promise<void>;
  /** Every answer that is kept of these hidden views about these paths, in order of the views. */
  findUpstreamPaths(
    hiddenViewIds: readonly number[],
    storePathHashes: readonly string[],
  ): Promise<UpstreamPath[]>;
  /** The answer that says that a file is the NAR of its path; that of the first view with one. */
  findUpstreamFile(
    hiddenViewIds: readonly number[],
    fileHash: string,
  ): Promise<UpstreamPath | undefined>;
  /**
   * Forgets answers of before a time, and the oldest of those that are more than `keep`; at most `limit` of them. Again
   * until it returns 0.
   */
  trimUpstreamPaths(checkedBeforeMs: number, keep: number, limit: number): Promise<number>;

  /**
   * NARs with paths that views hold in another encoding than zstd, in order of the objects' ids, beginning behind `after`. Only
   * hidden views do.
   */
  listHeldAsTheyCame(page: {
    readonly after: number;
    readonly limit: number;
  }): Promise<HeldAsItCame[]>;
  /**
   * Holds a NAR as another object from now on, which its paths name as well, all at once. The object before stays
   * readable by its hash for a while, as an uploaded file is.
   *
   * @returns `false`, and nothing is changed, when the NAR is not held as that object any more, the other one is not
   *   reserved or is in quarantine, or a path says something else than `replaces`.
   */
  moveHolding(move: HoldingMove): Promise<boolean>;
}

/** A NAR in the encoding that its upstream sent. */
export interface HeldAsItCame {
  /** The object's; of one that several views hold, those of a page's end may be left out. */
  readonly id: number;
  readonly viewId: number;
  readonly object: ObjectRecord;
}

export interface HoldingMove {
  readonly viewId: number;
  readonly narHash: string;
  /** File hashes. */
  readonly from: string;
  readonly to: string;
  /** Of every path that has the NAR. */
  readonly narInfos: readonly Omit<NarInfoChange, "keyGeneration">[];
  /** When the object before need not be readable any more. */
  readonly fileExpiresAtMs: number;
}

export interface NewUpstream {
  /** The operator's name for it: `[a-z0-9][a-z0-9-]{0,31}`. */
  readonly name: string;
  /** http or https, with a final slash, without credentials or query. */
  readonly url: string;
  /** `name:base64(public key)`, at least one. */
  readonly publicKeys: readonly string[];
  /** The value of an `Authorization` header; only with `onlyViewId`. Secret. */
  readonly authorization: string | undefined;
  /** The id of the only view that may have it; `undefined` for one that all may have. */
  readonly onlyViewId: number | undefined;
  readonly storeDir: string;
  /** Lower ones are preferred. */
  readonly priority: number;
  /** How many bytes may be kept of what was fetched, as stored; `undefined` is the server's default. */
  readonly maxSizeBytes: number | undefined;
  readonly createdAtMs: number;
}

export interface UpstreamRecord extends NewUpstream {
  readonly id: number;
  /** The hidden view that holds what was fetched; another one once a key was taken away. */
  readonly viewId: number;
}

/** `"default"` makes a setting `undefined` again. */
export interface UpstreamChanges {
  readonly publicKeys?: readonly string[];
  readonly authorization?: string;
  readonly priority?: number;
  readonly maxSizeBytes?: number | "default";
}

/** What an upstream said about a path, verified. */
export interface UpstreamPath {
  /** The upstream's hidden view at that time: answers that another set of keys verified are not found any more. */
  readonly hiddenViewId: number;
  readonly storePathHash: string;
  /** The upstream's text. */
  readonly narInfo: string;
  /** SHA-256 of the compressed NAR, when the text says it. */
  readonly fileHash: string | undefined;
  readonly narHash: string;
  /** Base names. */
  readonly references: readonly string[];
  readonly checkedAtMs: number;
}
