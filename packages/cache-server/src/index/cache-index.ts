import type { AdoptionIndex, Offer } from "./adoption-index.ts";
import type { CommonsIndex } from "./commons-index.ts";
import type { HousekeepingIndex } from "./housekeeping-index.ts";
import type { PartUploadIndex } from "./part-upload-index.ts";
import type { PrincipalFacts, ProvenanceIndex } from "./provenance-index.ts";
import type { UpstreamIndex } from "./upstream-index.ts";

/**
 * What the cache knows: views, keys, paths, which view holds which NAR, and the stored objects.
 *
 * Asynchronous so that SQLite and PostgreSQL serve the same code. Every method is atomic and, when it
 * writes, durable before it resolves. Hashes are lowercase hexadecimal SHA-256 (64 characters) except
 * store path hashes, which are 32 nix32 characters; anything else is a programming error, as are view ids
 * that never were. Times are milliseconds since the epoch. What expires does so when `expire` comes by.
 *
 * A write into a view that was deleted meanwhile throws {@link CacheError} `NOT_FOUND`, a look-up there
 * finds nothing. Any method throws `UNAVAILABLE` when the database is out of reach or the index is closed,
 * `STORAGE_FULL` when its disk is full, `CORRUPT` when it is damaged.
 */
export interface CacheIndex
  extends
    HousekeepingIndex,
    PartUploadIndex,
    ProvenanceIndex,
    AdoptionIndex,
    UpstreamIndex,
    CommonsIndex,
    AsyncDisposable {
  /** Writes of this process that wait for those before them; for figures. */
  readonly waitingWrites: number;
  /** Adds a view with its first signing key. @throws {CacheError} `CONFLICT` when the name is taken. */
  createView(view: NewView, key: NewSigningKey): Promise<ViewRecord>;
  findView(name: string): Promise<ViewRecord | undefined>;
  /** All views in order of their names. */
  listViews(): Promise<ViewRecord[]>;
  /** Changes what is given and keeps the rest; `undefined` when there is no such view. */
  updateView(name: string, changes: ViewChanges): Promise<ViewRecord | undefined>;
  /**
   * Removes the view, its overlays, the upstreams that are theirs alone and all they know; `false` when there is none. Their names are free at once. What
   * they held counts as referenced until `purgeDeletedViews` has come by.
   */
  deleteView(name: string): Promise<boolean>;
  /** Forgets at most `limit` rows of deleted views and returns how many; 0 when nothing of them is left. */
  purgeDeletedViews(limit: number): Promise<number>;
  viewStats(viewId: number): Promise<ViewStats>;
  /** Says that an overlay was written to; its time moves forward only. */
  touchOverlay(viewId: number, atMs: number): Promise<void>;
  /** All that counts for quotas of what a view holds: NARs as stored, documents, files as they were uploaded. */
  viewBytes(viewId: number): Promise<number>;
  /** The same of a tenant's views; `undefined` is the default tenant. */
  tenantUsage(tenant: string | undefined): Promise<TenantUsage>;
  /** Adds to the view's running totals. */
  addCounts(viewId: number, counts: Partial<ViewCounts>): Promise<void>;

  /** The view's active signing keys, oldest first. */
  listSigningKeys(viewId: number): Promise<SigningKeyRecord[]>;
  /** Makes `key` the view's only signing key. */
  replaceSigningKeys(viewId: number, key: NewSigningKey): Promise<void>;
  /** Adds a key to those that sign. @throws {CacheError} `CONFLICT` when the view has one of that name. */
  addSigningKey(viewId: number, key: NewSigningKey): Promise<void>;
  /**
   * Takes a key from those that sign; `false` when the view has none of that name.
   *
   * @throws {CacheError} `CONFLICT` when it is the only one.
   */
  removeSigningKey(viewId: number, name: string): Promise<boolean>;
  /**
   * A number that every change of the view's keys makes larger; 0 for a view without one.
   *
   * Who signs reads it before the keys: should they change in between, the path counts as signed with the
   * older ones and is signed again, once more than needed and never once too seldom.
   */
  signingKeyGeneration(viewId: number): Promise<number>;

  /** The narinfo text of a path in the first view of the chain that has it. */
  findPath(chain: readonly number[], storePathHash: string): Promise<PathRecord | undefined>;
  /**
   * What `findPath` would answer for each of these hashes, as far as a reader needs it; nothing for those it would not
   * find, and no order.
   */
  findNarInfos(
    chain: readonly number[],
    storePathHashes: readonly string[],
  ): Promise<FoundNarInfo[]>;
  /** A view's paths, lost ones too, in order of their hashes, beginning behind `after`; for walking all of them. */
  listPaths(
    viewId: number,
    page: { readonly after?: string; readonly limit: number },
  ): Promise<PathRecord[]>;
  /**
   * At most `limit` of the view's paths that were signed with older keys than it has now, in no order; lost ones
   * too, which are served again as they are when their object is restored.
   */
  listOutdatedPaths(viewId: number, limit: number): Promise<PathRecord[]>;
  /** How many there are of them. */
  countOutdatedPaths(viewId: number): Promise<number>;
  /**
   * Replaces the served text of paths, for new keys. Paths that are absent, or whose text is no longer the one
   * that `replaces` says, are left alone: somebody committed or deleted them meanwhile.
   */
  replaceNarInfos(viewId: number, changes: readonly NarInfoChange[]): Promise<void>;
  /** Of `storePathHashes`, those this view does not have; each once, in the order asked. */
  findMissingPaths(viewId: number, storePathHashes: readonly string[]): Promise<string[]>;
  /** Of `narHashes`, those this view does not hold; each once, in the order asked. */
  findMissingNars(viewId: number, narHashes: readonly string[]): Promise<string[]>;
  /** This view's holding of a NAR, committed or pending. */
  findHolding(viewId: number, narHash: string): Promise<HoldingRecord | undefined>;
  /**
   * An object that a view of the chain may serve: one it holds as a NAR, or a file its own client
   * uploaded. Never an object that only other views know. The first view of the chain that may is named.
   */
  findObject(chain: readonly number[], fileHash: string): Promise<FoundObject | undefined>;
  /** A file that this very view's client uploaded under that hash and compression, not yet expired. */
  findUploadedFile(
    viewId: number,
    fileHash: string,
    compression: string,
  ): Promise<UploadedFileRecord | undefined>;
  /**
   * Removes a path, pinned or lost though it be. Its NAR, when no other path of the view has it, expires at
   * `narExpiresAtMs`.
   */
  deletePath(viewId: number, storePathHash: string, narExpiresAtMs: number): Promise<boolean>;

  /**
   * Announces that the object's bytes are about to become visible in the store, so that the sweep
   * leaves them alone. Must come before the bytes. `busy`: the sweep is deleting that very object; ask again
   * after a moment.
   *
   * @throws {CacheError} `CONFLICT` when the object is known with another compression, size or NAR.
   */
  reserveObject(object: ObjectRecord, nowMs: number): Promise<"reserved" | "busy">;
  /**
   * Records that the view holds a NAR as a stored object, in zstd if nothing else is said. A new holding expires at
   * `expiresAtMs` unless a path is committed for it before; an existing one keeps its expiry when it has none,
   * and takes the later one otherwise. An existing holding keeps its object unless that is in quarantine or
   * `replaceObject` is set; paths committed before name the old object, so they are lost until they are
   * committed again.
   *
   * @throws {Error} when the object is not that NAR, or not in zstd and that was not asked for.
   * @throws {CacheError} `UNAVAILABLE` when the object was not reserved, or the sweep took it since.
   */
  holdNar(holding: NewHolding): Promise<HoldingRecord>;
  /**
   * Records a file as this view's client uploaded it; a repeated upload extends its life.
   *
   * @throws {CacheError} `UNAVAILABLE` when no such object was reserved, or the sweep took it since.
   */
  addUploadedFile(file: UploadedFileRecord): Promise<void>;
  /**
   * Makes paths visible: all of them, or none.
   *
   * A path the view already has with the same NAR hash is updated: it becomes what is given, but keeps when
   * and by whom it was created, and `signatures` join those it has by `mergeClientSignatures`. With another NAR
   * hash it is left as it is and reported as a conflict, which does not hinder the rest and needs neither its
   * NAR nor its references. Nothing is written when a NAR is not held as the very object the narinfo names, or
   * when a required reference is absent. Of one path given twice, the first decides on the NAR.
   *
   * A lost path counts as absent, whatever its NAR: it is made anew, its signatures and its beginning forgotten, and
   * reported as created. The access times of the paths and of their required references move to `createdAtMs`.
   * A required reference may as well be in a view of `behind`, such as an overlay's base, and is used there.
   * With `adopts`, paths that are not offered any more are left out, the others need not be held: the view takes their
   * objects, and their writers stay known beside the one given.
   *
   * @throws {CacheError} `FORBIDDEN` when the writer was revoked meanwhile.
   *
   * `narInfo` is stored as given: the caller renders it for `fileHash`, with the signatures that the path will
   * have, which are `mergeClientSignatures` of those `findPath` answers and those that came.
   */
  commitPaths(
    viewId: number,
    paths: readonly NewPath[],
    options?: CommitPathsOptions,
  ): Promise<CommitResult>;

  /** Keeps a small text under a name; the first one wins. `false` when it was not kept. */
  putDocument(viewId: number, document: NewDocument, writer?: PrincipalFacts): Promise<boolean>;
  findDocument(
    chain: readonly number[],
    kind: DocumentKind,
    name: string,
  ): Promise<Uint8Array | undefined>;

  /** Puts a token on the deny list; `expiresAtMs` is when the entry may be forgotten, if ever. */
  revokeToken(jti: string, expiresAtMs: number | undefined): Promise<void>;
  isTokenRevoked(jti: string): Promise<boolean>;

  /** Notes that a name was seen, see `ConfirmedName` of `@glorious/trust`; its time moves forward only. */
  noteName(key: string, atMs: number): Promise<void>;
  /** When a name was last seen. */
  nameSeenAtMs(key: string): Promise<number | undefined>;

  /** Forgets expired holdings, uploaded files and deny list entries, at most `limit` of each. */
  expire(nowMs: number, limit: number): Promise<ExpireResult>;
  /**
   * Marks at most `limit` objects that nothing refers to, and that were last reserved before
   * `reservedBeforeMs`, as being deleted, and returns them with those marked earlier. Their bytes may then go.
   * One sweep at a time: a second one is given the same objects, and might delete the bytes of an object that
   * was reserved anew after the first had removed it.
   */
  claimUnreferencedObjects(reservedBeforeMs: number, limit: number): Promise<string[]>;
  /** Forgets claimed objects whose bytes are gone. */
  removeClaimedObjects(fileHashes: readonly string[]): Promise<void>;

  /** Reads and writes once, really. @throws {CacheError} `UNAVAILABLE` when that fails. */
  ping(): Promise<void>;
}

/**
 * How an object's bytes encode its NAR. Views hold `zstd` objects only; the others are uploads as they came, or held by
 * the hidden view of an upstream.
 */
export type ObjectCompression = "none" | "gzip" | "br" | "zstd" | "xz";

export interface ObjectRecord {
  /** SHA-256 of the stored bytes: the object's identity and its blob's name. */
  readonly fileHash: string;
  readonly fileSize: number;
  readonly compression: ObjectCompression;
  readonly narHash: string;
  readonly narSize: number;
}

/** An object and the view that may serve it. */
export interface FoundObject extends ObjectRecord {
  readonly viewId: number;
}

export interface NewView {
  readonly name: string;
  readonly isPublic: boolean;
  readonly storeDir: string;
  readonly priority: number;
  readonly upstreamCacheKeyNames: readonly string[];
  /** How long unused paths live, in seconds; 0 is for ever, `undefined` is the server's default. */
  readonly retentionSeconds: number | undefined;
  /** How many bytes the view's NARs may take as stored; `undefined` is no limit. */
  readonly maxSizeBytes: number | undefined;
  /** The zstd level of NARs that the server encodes; `undefined` is the server's default. */
  readonly compressionLevel: number | undefined;
  /** Whether the view's keys sign what comes from its upstreams, beside theirs. Default: no. */
  readonly signsUpstream?: boolean;
  /** Whether pushes send what an upstream of the view has as well. Default: no. */
  readonly pushesUpstream?: boolean;
  readonly createdAtMs: number;
  /** The id of the view that this one is an overlay of. */
  readonly overlayOf?: number | undefined;
  /** Tells whose overlay it is; who has another key may not write to it. */
  readonly overlayKey?: string | undefined;
  /** The principal that made the overlay, and the ref its job ran on. */
  readonly overlayOwner?: string | undefined;
  readonly overlayRef?: string | undefined;
}

export interface ViewRecord extends NewView {
  readonly id: number;
  readonly signsUpstream: boolean;
  readonly pushesUpstream: boolean;
  /** Of an overlay: when it was last written to, as `touchOverlay` was told. */
  readonly writtenAtMs?: number | undefined;
}

/** What the views of one tenant hold together, apart by whether they are overlays. */
export interface TenantUsage {
  readonly own: LevelUsage;
  readonly overlays: LevelUsage;
}

export interface LevelUsage {
  readonly views: number;
  /** Those that hold anything. */
  readonly holders: number;
  readonly bytes: number;
}

/** `"default"` makes a setting `undefined` again. */
export interface ViewChanges {
  readonly isPublic?: boolean;
  readonly storeDir?: string;
  readonly priority?: number;
  readonly upstreamCacheKeyNames?: readonly string[];
  readonly retentionSeconds?: number | "default";
  readonly maxSizeBytes?: number | "default";
  readonly compressionLevel?: number | "default";
  readonly signsUpstream?: boolean;
  readonly pushesUpstream?: boolean;
}

export interface NewSigningKey {
  readonly name: string;
  /** `name:base64(seed, public key)`, as Nix writes it. Secret. */
  readonly secretKey: string;
  /** `name:base64(public key)`. */
  readonly publicKey: string;
  readonly createdAtMs: number;
}

export type SigningKeyRecord = NewSigningKey;

/** Running totals of what a view's clients sent, whatever anybody else had sent before. */
export interface ViewCounts {
  /** NARs uploaded. */
  readonly uploads: number;
  /** Uncompressed bytes of these NARs. */
  readonly uploadedNarBytes: number;
  /** Uploads refused because the path exists with another NAR hash. */
  readonly conflicts: number;
}

/** What a view has; nothing that is lost is counted. */
export interface ViewStats extends ViewCounts {
  readonly paths: number;
  /** NARs this view holds, and their sizes uncompressed and as stored, as if nobody shared them. */
  readonly nars: number;
  readonly narBytes: number;
  readonly fileBytes: number;
}

export interface PathRecord {
  readonly viewId: number;
  readonly storePathHash: string;
  readonly storePath: string;
  readonly narHash: string;
  readonly narSize: number;
  /** The object that the narinfo names. */
  readonly fileHash: string;
  readonly fileSize: number;
  /** Base names. */
  readonly references: readonly string[];
  readonly deriver: string | undefined;
  readonly ca: string | undefined;
  readonly system: string | undefined;
  /** Signatures that clients brought, not ours. */
  readonly signatures: readonly string[];
  /** The signed text as served. */
  readonly narInfo: string;
  /** What `signingKeyGeneration` was before the keys were read that signed it. */
  readonly keyGeneration: number;
  readonly createdAtMs: number;
  readonly createdBy: string | undefined;
  /** When it was last pushed, referred to by a push, or touched. */
  readonly accessedAtMs: number;
}

/** What a reader needs of a path. */
export type FoundNarInfo = Pick<
  PathRecord,
  "viewId" | "storePathHash" | "references" | "narInfo" | "accessedAtMs"
>;

/** On what paths are committed, and by whom. */
export interface CommitPathsOptions {
  readonly behind?: readonly number[];
  /** Recorded as who wrote what is new or says something else now. */
  readonly writer?: PrincipalFacts | undefined;
  /** The paths come from there, as they are. */
  readonly adopts?: Offer | undefined;
}

export interface NewPath extends Omit<
  PathRecord,
  "viewId" | "narSize" | "fileSize" | "accessedAtMs"
> {
  /** Hashes of references that must be in the view, in one behind it, or among the paths committed with this one. */
  readonly requiredReferences: readonly string[];
}

/** A path signed anew. */
export interface NarInfoChange {
  readonly storePathHash: string;
  /** The text as it was read. */
  readonly replaces: string;
  readonly narInfo: string;
  readonly keyGeneration: number;
}

export interface HoldingRecord extends ObjectRecord {
  /** `undefined` once a path is committed. */
  readonly expiresAtMs: number | undefined;
}

export interface NewHolding {
  readonly viewId: number;
  readonly narHash: string;
  readonly fileHash: string;
  readonly expiresAtMs: number;
  /** Takes the new object even when the view holds the NAR as another one: that one was lost. */
  readonly replaceObject?: boolean;
  /** The object may be in any encoding, as what comes from an upstream is. */
  readonly isAsItCame?: boolean;
}

export interface UploadedFileRecord {
  readonly viewId: number;
  readonly fileHash: string;
  readonly compression: ObjectCompression;
  readonly narHash: string;
  readonly narSize: number;
  readonly expiresAtMs: number;
}

export type CommitResult =
  | {
      readonly kind: "committed";
      /** Store path hashes that are new in the view, or were lost. */
      readonly created: readonly string[];
      /** Those that were there with the same NAR. */
      readonly unchanged: readonly string[];
      readonly conflicts: readonly { readonly storePathHash: string; readonly narHash: string }[];
    }
  | {
      readonly kind: "incomplete";
      /** NAR hashes that the view does not hold as the object named. */
      readonly missingNars: readonly string[];
      readonly missingReferences: readonly {
        readonly storePathHash: string;
        readonly reference: string;
      }[];
    };

/**
 * `realisation`: until Nix 2.34; `build-trace`: from 2.35; `listing`: what a NAR holds, made by the server and named
 * by the NAR's hash. A listing is kept for as long as its view holds the NAR, and only then.
 */
export type DocumentKind = "log" | "realisation" | "build-trace" | "debuginfo" | "listing";

export interface NewDocument {
  readonly kind: DocumentKind;
  readonly name: string;
  readonly body: Uint8Array;
  readonly createdAtMs: number;
}

export interface ExpireResult {
  readonly holdings: number;
  readonly uploadedFiles: number;
  readonly revocations: number;
}
