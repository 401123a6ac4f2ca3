/**
 * Who wrote what and who read it; part of `CacheIndex`, whose conventions hold here.
 *
 * What a revocation hides counts as absent for everybody, as if it were lost: whoever builds it anew and pushes it
 * makes it anew. Who wrote something is known even when it is there no more.
 */
export interface ProvenanceIndex {
  /** Records what was read, and by whom; who read it before has read it again. */
  recordReads(reader: PrincipalFacts, reads: readonly EntryUse[]): Promise<void>;
  /** Who wrote and who read an entry, in every view; at most `limit` of each, the latest first. */
  findProvenance(kind: EntryKind, name: string, limit: number): Promise<EntryProvenance[]>;
  /** What a revocation would do. */
  previewRevocation(selection: RevocationSelection, limit: number): Promise<RevocationEffect>;
  /**
   * From now on refuses who the selection names, and hides everything that it wrote and that is still as it was
   * written. Others write in between. Who stops in the middle has refused them already; `hideRevoked` does the rest.
   */
  revoke(
    selection: RevocationSelection,
    by: { readonly atMs: number; readonly createdBy: string | undefined },
    limit: number,
  ): Promise<RevocationEffect & { readonly id: number }>;
  /**
   * Hides what of a revocation in force is not hidden yet.
   *
   * @returns How many entries it hides, those of before included.
   */
  hideRevoked(id: number): Promise<number>;
  /** Says that a revocation is done, on every plane, and how many entries it hides. */
  finishRevocation(
    id: number,
    done: { readonly atMs: number; readonly entries: number },
  ): Promise<void>;
  /**
   * Takes a revocation back: those it named are accepted again, and what it hid is there again, unless something else
   * took its place; with `keepsHidden` that stays hidden. `undefined` when there is none, or it was taken back.
   */
  liftRevocation(
    id: number,
    options: { readonly atMs: number; readonly keepsHidden: boolean },
  ): Promise<{ readonly restored: number } | undefined>;
  /** The latest revocations, the newest first. */
  listRevocations(limit: number): Promise<RevocationRecord[]>;
  /** Whether a revocation that was not taken back names such a caller. */
  isRevoked(caller: RevocationTarget): Promise<boolean>;
  /** Forgets reads and writes from before a time, the writes only of what is there no more; at most `limit` of each. */
  forgetProvenance(beforeMs: number, limit: number): Promise<number>;
}

/** What an entry is: a path by its hash, or a document by its name. */
export type EntryKind = "path" | "log" | "realisation" | "build-trace" | "debuginfo";

/** What an entry of a Bazel index is: an ActionResult or a blob by its hash, or a value by its key. */
export type BazelEntryKind = "action" | "blob" | "value";

/** Who did something, as far as the token said it. */
export interface PrincipalFacts {
  /** A stable id: of a forge's repository, or of a token. */
  readonly principal: string;
  readonly trust: "trusted" | "overlay" | "untrusted" | "token";
  readonly run?: string | undefined;
  readonly attempt?: string | undefined;
  readonly commit?: string | undefined;
  readonly repository?: string | undefined;
  readonly ref?: string | undefined;
  readonly jti?: string | undefined;
  /** By what key a push may take over what it wrote; never answered. */
  readonly offers?: string | undefined;
  /** What the client called itself, `bazel 8.4.2` or `curl/8.7.1 Nix/2.34.1`; nothing proves it. */
  readonly client?: string | undefined;
}

export interface EntryUse {
  readonly viewId: number;
  /** `nar`: an object by its file hash, which counts as a use of all paths that the view has it for. */
  readonly kind: EntryKind | "nar";
  readonly name: string;
  readonly atMs: number;
}

export interface EntryProvenance {
  readonly view: string;
  /** `hidden`: by a revocation. */
  readonly state: "present" | "lost" | "hidden" | "gone";
  readonly writers: readonly (PrincipalFacts & {
    readonly atMs: number;
    /** The overlay it was written to, when it was taken over from there at `atMs`. */
    readonly adoptedFrom?: string | undefined;
  })[];
  readonly readers: readonly (PrincipalFacts & {
    readonly firstAtMs: number;
    readonly lastAtMs: number;
  })[];
}

/** Everybody who fits all that is given; at least one of them is. */
export interface RevocationSelection {
  readonly principal?: string | undefined;
  readonly run?: string | undefined;
  readonly jti?: string | undefined;
  /** Only what was written from then on. By itself it refuses nobody. */
  readonly sinceMs?: number | undefined;
}

export interface RevocationTarget {
  readonly principal: string;
  readonly run: string | undefined;
  readonly jti: string | undefined;
}

export interface RevocationEffect {
  /** How many entries are hidden. */
  readonly entries: number;
  /** Some of them; those of Bazel's with their instance name. */
  readonly samples: readonly {
    readonly view: string;
    readonly kind: EntryKind | BazelEntryKind;
    readonly name: string;
  }[];
  /** Who wrote them. */
  readonly writers: readonly PrincipalFacts[];
  /** Who read any of them after it was written, and was not the writer. */
  readonly consumers: readonly (PrincipalFacts & {
    readonly entries: number;
    readonly lastAtMs: number;
  })[];
}

export interface RevocationRecord extends RevocationSelection {
  readonly id: number;
  readonly createdAtMs: number;
  readonly createdBy: string | undefined;
  /** How many it hides, on every plane; 0 until it is finished. */
  readonly entries: number;
  /** When everything was hidden; until then something may be left to hide, as after a crash. */
  readonly finishedAtMs: number | undefined;
  /** When it was taken back. */
  readonly liftedAtMs: number | undefined;
}
