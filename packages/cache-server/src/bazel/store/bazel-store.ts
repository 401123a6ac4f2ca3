import type { DigestKey, DigestList } from "@glorious/reapi";
import type { Blob, ByteRange } from "@glorious/storage";

import type { BazelScrubProgress, BazelScrubWork } from "../../housekeeping/bazel-scrub.ts";
import type {
  EntryProvenance,
  RevocationEffect,
  RevocationSelection,
} from "../../index/provenance-index.ts";
import type { Actor } from "./actor.ts";
import type { ActionAdoption } from "./adopt-actions.ts";

/** How bytes are encoded, stored or on the wire. */
export type BlobForm = "identity" | "zstd";

/** A digest by itself. */
export interface BlobName {
  readonly key: DigestKey;
  /** Of the blob itself, however it is encoded. */
  readonly sizeBytes: number;
}

/** A blob on its way in. */
export interface BlobUpload extends BlobName {
  readonly form: BlobForm;
  /** The bytes as encoded. Chunks are handed over. */
  readonly source: Uint8Array | AsyncIterable<Buffer>;
  readonly signal?: AbortSignal | undefined;
  /** Given chunks of the source when nothing reads them any more; those that it is not given are lost. */
  readonly giveBack?: ((chunk: Uint8Array) => void) | undefined;
}

/** A blob that came as a whole; its bytes do not change. */
export interface WholeBlob extends BlobName {
  readonly form: BlobForm;
  /** As encoded. */
  readonly source: Uint8Array;
}

/** What became of one blob among many. */
export type PutOutcome = "stored" | "present" | Error;

/** A blob that can be read now, whatever happens to it afterwards. */
export interface StoredBlob {
  readonly sizeBytes: number;
  readonly form: BlobForm;
  readonly storedBytes: number;
  /** The stored bytes, when they are few. */
  readonly bytes: Buffer | undefined;
  /**
   * Opens the stored bytes when they are not at hand.
   *
   * @throws {CacheError} `NOT_FOUND` when the store has lost them; the blob is then absent from here on.
   */
  open(range?: ByteRange, signal?: AbortSignal): Promise<Blob>;
}

/** What a look-up of an ActionResult found. */
export type ActionFinding =
  | { readonly kind: "hit"; readonly result: Buffer }
  /** Nobody stored it, or it was evicted. */
  | { readonly kind: "absent" }
  /** It is there, and something that it refers to is not. */
  | { readonly kind: "incomplete" }
  /** It is there; what its trees hold was not known when it was stored. */
  | { readonly kind: "unresolved"; readonly result: Buffer };

/** What most look-ups that find nothing find; no object is made for each. */
export const ABSENT: ActionFinding = { kind: "absent" };
export const INCOMPLETE: ActionFinding = { kind: "incomplete" };

/** An ActionResult as it is stored, whole or not. */
export interface ActionParts {
  readonly result: Buffer;
  /** Everything it needs; `undefined` when that is not known. */
  readonly refersTo: DigestList | undefined;
}

/** A value under a key. */
export interface KeyedValue {
  readonly value: StoredBlob;
  /** 64 lowercase hexadecimal digits. */
  readonly sha256: string;
}

/** What one scope holds, or all scopes of a view; bytes that they share count for each. */
export interface ScopeUsage {
  /** Instance names that hold something. */
  readonly instances: number;
  readonly blobs: number;
  readonly actions: number;
  readonly keyedValues: number;
  /** Of blobs and values, uncompressed. */
  readonly logicalBytes: number;
  readonly storedBytes: number;
}

/**
 * What one instance name holds: blobs, ActionResults and keyed values.
 *
 * Nothing of another scope is seen from here. Bytes that another scope of the same tenant has are stored once,
 * and still have to be uploaded here in full before this scope has them.
 *
 * Methods that begin with `lookUp` answer at once, from memory or index. Every answer that tells of something
 * present counts as a use of it, and an ActionResult's as a use of all it refers to: what was used within the TTL is
 * not evicted. What a promise reports as stored is durable.
 */
export interface BazelScope {
  readonly viewId: number;
  readonly instance: string;
  /** Whether memory has all of these; when it says no, some may be here all the same. */
  remembersAll(digests: DigestList): boolean;
  /** What `findMissing` finds, at once; `undefined` when there are too many to look up in one turn. */
  findFewMissing(digests: DigestList): number[] | undefined;
  /** The places in the list of the digests that are not here, each digest once, in order. */
  findMissing(digests: DigestList): Promise<number[]>;
  /** What `findBlob` finds, at once, by the digest's place in a list. */
  lookUpBlob(digests: DigestList, index: number): StoredBlob | undefined;
  /** The same when only the hash is known. */
  lookUpBlobOfHash(key: DigestKey): StoredBlob | undefined;
  findBlob(name: BlobName): Promise<StoredBlob | undefined>;
  /** The same when only the hash is known. */
  findBlobOfHash(key: DigestKey): Promise<StoredBlob | undefined>;
  /**
   * Verifies a blob and stores it. When the scope has it already, its source is not read.
   *
   * @throws {CacheError} `CORRUPT` when the content has another hash or size; `TRUNCATED`, `TOO_LARGE`;
   *   `STORAGE_FULL` when nothing may be evicted for it; `CANCELLED`.
   */
  putBlob(upload: BlobUpload): Promise<"stored" | "present">;
  /** Does so with many, which costs less for each; an outcome of each in order, the error that `putBlob` throws too. */
  putBlobs(blobs: readonly WholeBlob[]): Promise<readonly PutOutcome[]>;

  /** What `findAction` finds, at once, by the action's place in a list; `undefined` when it has to wait for it. */
  lookUpAction(digests: DigestList, index: number): ActionFinding | undefined;
  /** The same by the action's hash. */
  lookUpActionOf(key: DigestKey): ActionFinding | undefined;
  findAction(key: DigestKey): Promise<ActionFinding>;
  /** Whether an absent ActionResult was evicted lately, as far as memory knows; good for figures only. */
  wasEvicted(key: DigestKey): boolean;
  /** What is stored of an action, whether what it needs is here or not. */
  findActionParts(key: DigestKey): Promise<ActionParts | undefined>;
  /**
   * Stores a serialized ActionResult with the digests of everything it needs; `undefined` while its trees are
   * missing. It replaces the one that is here; who wrote that is still known.
   */
  putAction(key: DigestKey, result: Uint8Array, refersTo: DigestList | undefined): Promise<void>;
  /**
   * Whether who writes here may take the place of the whole ActionResult that is here: a trusted job may, of one that no
   * trusted job wrote.
   */
  maySupersede(key: DigestKey): boolean;
  /** Notes what an ActionResult needs that was found `unresolved`; no other result is touched. */
  resolveAction(key: DigestKey, result: Uint8Array, refersTo: DigestList): Promise<void>;

  findValue(key: string): Promise<KeyedValue | undefined>;
  /** @returns Whether the key is new. */
  putValue(
    key: string,
    source: AsyncIterable<Buffer>,
    options?: {
      readonly sizeBytes?: number | undefined;
      readonly signal?: AbortSignal | undefined;
    },
  ): Promise<boolean>;
  deleteValue(key: string): Promise<boolean>;

  /** The chunks that a blob was put together from. */
  findLayout(key: DigestKey): Promise<DigestList | undefined>;
  putLayout(key: DigestKey, chunks: DigestList): Promise<void>;

  usage(): Promise<ScopeUsage>;
}

/** What became of a call of {@link BazelStore.evict}. */
export interface EvictionResult {
  readonly actions: number;
  readonly blobs: number;
  readonly keyedValues: number;
  readonly freedBytes: number;
}

/** What an entry is, and its name: a hash, or a value's key. */
export type EntryName =
  | { readonly kind: "action" | "blob"; readonly key: DigestKey }
  | { readonly kind: "value"; readonly key: string };

/** A revocation as the whole server has it. */
export interface StoreRevocation extends RevocationSelection {
  /** Of the server's. */
  readonly id: number;
  readonly createdAtMs: number;
}

/**
 * Who wrote and read what of one tenant's Bazel data. Reads of ActionResults and values are recorded, not those of blobs:
 * a blob is what its hash says, and an ActionResult led to it. What is revoked is absent, until somebody writes it anew.
 */
export interface StoreProvenance {
  /** What a revocation would hide; instance names stand for views. */
  preview(selection: RevocationSelection, limit: number): Promise<RevocationEffect>;
  /**
   * Hides what was written until the revocation was made, at once, and refuses from now on what those write whom it
   * names, uploads under way included. What was done before is done once only.
   */
  revoke(revocation: StoreRevocation, limit: number): Promise<RevocationEffect>;
  /**
   * Takes a revocation back; with `keepsHidden` only for those whom it names.
   *
   * @returns How many entries are there again.
   */
  lift(id: number, options: { readonly keepsHidden: boolean }): Promise<number>;
  /** Who wrote and who was given an entry, by instance name; at most `limit` of each, the latest first. */
  find(entry: EntryName, limit: number): Promise<EntryProvenance[]>;
  /** Forgets who read what before a time. */
  forget(beforeMs: number): Promise<void>;
}

/** One tenant's Bazel data. Nothing of it is shared with another tenant. */
export interface BazelStore extends AsyncDisposable {
  /**
   * The scope of an instance name, the view's full name with what follows it; it need not hold anything.
   *
   * @param actor Whom provenance names as who reads and writes through it; without it, nobody.
   */
  scope(viewId: number, instance: string, actor?: Actor): BazelScope;
  readonly provenance: StoreProvenance;
  /** Takes over what merge queues' runs wrote, see `adoptActions`. */
  adopt(adoption: ActionAdoption): Promise<void>;
  /** What all scopes of a view hold. */
  usageOf(viewId: number): Promise<ScopeUsage>;
  /** Bytes stored, as far as they count against the limit. */
  readonly storedBytes: number;
  /** True while the tenant's limit is reached and everything is too fresh to go. */
  readonly isFull: boolean;
  /**
   * Makes room: first what belongs to views that are gone, then, as long as a limit is exceeded, what was not
   * used for longest, ActionResults before what they refer to. Serves meanwhile.
   */
  evict(): Promise<EvictionResult>;
  /** Tells the index what was used; otherwise done about once a minute. */
  flush(): Promise<void>;
  /**
   * Moves all small blobs from the index into packs, and writes those packs anew of which little is still needed;
   * otherwise done now and then, when it is worth it.
   */
  pack(): Promise<void>;
  /** Makes a blob absent in every scope, because its bytes are damaged or gone: its next upload replaces it. */
  lose(key: DigestKey): Promise<void>;
  /**
   * Goes once through all blobs and values, and makes absent what is lost or damaged. Serves meanwhile.
   *
   * @param onFraction Told how much of this store is done, from 0 to 1.
   */
  scrub(
    progress: BazelScrubProgress,
    work: BazelScrubWork,
    onFraction: (fraction: number) => void,
  ): Promise<void>;
}
