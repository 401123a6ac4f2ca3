import type { ObjectRecord } from "./cache-index.ts";

/**
 * What retention, garbage collection and scrubbing ask of an index; part of `CacheIndex`, whose conventions
 * hold here.
 *
 * An object whose bytes are bad is put in quarantine. While it is there, and until new bytes come, whatever
 * needs it is **lost**: a holding of that object, and a path whose narinfo names it. A path is lost, too, when
 * its view holds its NAR as another object than the narinfo names, as after `holdNar` replaced a lost one. What is
 * lost counts as absent for everybody who reads or pushes, so that a miss and a new upload heal it; garbage
 * collection still sees it.
 */
export interface HousekeepingIndex {
  /**
   * Moves access times forward, never back; paths that the view does not have are ignored.
   *
   * One write for many reads: what callers keep in memory of an index is good until the next write, whatever it
   * wrote, so collect touches for a minute rather than for a second.
   */
  touchPaths(touches: readonly PathTouch[]): Promise<void>;
  /** The same for all paths of the view that have the NAR of an object, however the view came to know that. */
  touchNars(touches: readonly NarTouch[]): Promise<void>;

  /**
   * Protects a path, and so all it refers to, from garbage collection, under a name of the view's own. A name
   * that is taken moves to the new path. The pin outlives a path that is deleted by hand and protects it again once
   * it is pushed again.
   *
   * @throws {CacheError} `NOT_FOUND` when the view has no such path, or it is lost.
   */
  putPin(viewId: number, pin: PinRecord): Promise<"created" | "replaced">;
  deletePin(viewId: number, name: string): Promise<boolean>;
  /** The view's pins in order of their names. */
  listPins(viewId: number): Promise<PinRecord[]>;

  /** A view's paths, lost ones too, in order of their hashes, beginning behind `after`; for marking. */
  listGraph(
    viewId: number,
    page: { readonly after?: string; readonly limit: number },
  ): Promise<GraphNode[]>;
  /**
   * Deletes the largest part of the candidates of which every path
   * - has the access time given: nobody used it since;
   * - is not pinned;
   * - has no referrer in the view, lost or not, that stays. References of a path to itself do not count, and cycles
   *   within the part go together.
   *
   * NARs that no path of the view has any more expire at `narExpiresAtMs`, and their listings with them.
   *
   * Its time grows with the candidates and the references among them, and nobody else writes meanwhile: a few
   * hundred are a good slice.
   */
  collectPaths(
    viewId: number,
    candidates: readonly CollectCandidate[],
    narExpiresAtMs: number,
  ): Promise<CollectResult>;

  /** Objects that a view refers to, in quarantine too, in order of their hashes, beginning behind `after`. */
  listObjects(page: {
    readonly after?: string;
    readonly limit: number;
  }): Promise<ObjectStateRecord[]>;
  /** Records when the objects' bytes were found good. Unknown ones are ignored; nothing leaves quarantine. */
  markVerified(fileHashes: readonly string[], atMs: number): Promise<void>;
  /**
   * Puts an object in quarantine; one that is there keeps its time and reason. An unknown one is ignored: the
   * sweep was faster.
   *
   * @returns At most 1000 of the paths that name it, by view.
   */
  quarantineObject(
    fileHash: string,
    finding: { readonly atMs: number; readonly reason: string },
  ): Promise<AffectedPath[]>;
  /**
   * Takes an object out of quarantine, not verified yet. Call it after its bytes were put anew, and before
   * `holdNar`: paths that name it are served again at once, in every view.
   */
  restoreObject(fileHash: string): Promise<void>;
  /** What is in quarantine, the longest first. */
  listQuarantined(page: { readonly limit: number }): Promise<QuarantineRecord[]>;
  /** How many objects are in quarantine. */
  countQuarantined(): Promise<number>;
  /** At most `limit` of the paths that name an object, by view; lost ones too. */
  listPathsOfObject(fileHash: string, limit: number): Promise<AffectedPath[]>;
  /** An object that is known, whether a view refers to it or not: for telling what lies in the store. */
  findObjectState(fileHash: string): Promise<KnownObjectRecord | undefined>;

  /**
   * Reads everything and returns what is wrong, a sentence each: damage to the database, and whatever is kept twice
   * and differs. Nothing else is answered meanwhile, for ten seconds and more per gigabyte: not for a server at
   * work.
   */
  checkConsistency(): Promise<string[]>;
}

export interface PathTouch {
  readonly viewId: number;
  readonly storePathHash: string;
  readonly atMs: number;
}

export interface NarTouch {
  readonly viewId: number;
  readonly fileHash: string;
  readonly atMs: number;
}

export interface PinRecord {
  readonly name: string;
  readonly storePathHash: string;
  readonly storePath: string;
  readonly createdAtMs: number;
  readonly createdBy: string | undefined;
}

/** A path as garbage collection sees it. */
export interface GraphNode {
  readonly storePathHash: string;
  readonly accessedAtMs: number;
  /** The object that its narinfo names, and the NAR in it. */
  readonly fileSize: number;
  readonly narHash: string;
  /** Store path hashes, its own and those of paths elsewhere among them. */
  readonly references: readonly string[];
}

/** A path that may be deleted if nobody used it since. Of one given twice, the first time counts. */
export interface CollectCandidate {
  readonly storePathHash: string;
  readonly accessedAtMs: number;
}

/** Store path hashes, each once, in the order of the candidates; absent paths are in neither. */
export interface CollectResult {
  readonly deleted: readonly string[];
  readonly kept: readonly string[];
}

export interface ObjectStateRecord extends ObjectRecord {
  /** When its bytes were last found good; `undefined` before the first time. */
  readonly verifiedAtMs: number | undefined;
  /** Since when it is in quarantine. */
  readonly quarantinedAtMs: number | undefined;
}

export interface KnownObjectRecord extends ObjectStateRecord {
  /** Whether a view refers to it; the sweep takes the others. */
  readonly isReferenced: boolean;
}

export interface AffectedPath {
  readonly viewId: number;
  /** The view's name. */
  readonly view: string;
  readonly storePathHash: string;
  readonly storePath: string;
}

export interface QuarantineRecord {
  readonly object: ObjectRecord;
  readonly reason: string;
  readonly atMs: number;
  /** How many paths name it, in all views. */
  readonly paths: number;
}
