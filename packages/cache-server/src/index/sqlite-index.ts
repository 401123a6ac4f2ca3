import type { DatabaseSync } from "node:sqlite";

import { CacheError, type Logger, silentLogger } from "@glorious/core";

import type { Offer } from "./adoption-index.ts";
import type {
  CacheIndex,
  CommitPathsOptions,
  CommitResult,
  DocumentKind,
  ExpireResult,
  FoundNarInfo,
  FoundObject,
  HoldingRecord,
  NarInfoChange,
  NewDocument,
  NewHolding,
  NewPath,
  NewSigningKey,
  NewView,
  ObjectRecord,
  PathRecord,
  SigningKeyRecord,
  TenantUsage,
  UploadedFileRecord,
  ViewChanges,
  ViewCounts,
  ViewRecord,
  ViewStats,
} from "./cache-index.ts";
import type { CommonsVotes } from "./commons-index.ts";
import type {
  AffectedPath,
  CollectCandidate,
  CollectResult,
  GraphNode,
  KnownObjectRecord,
  NarTouch,
  ObjectStateRecord,
  PathTouch,
  PinRecord,
  QuarantineRecord,
} from "./housekeeping-index.ts";
import type { PartUploadLimits, PartUploadRecord, UploadPart } from "./part-upload-index.ts";
import type {
  EntryKind,
  EntryProvenance,
  EntryUse,
  PrincipalFacts,
  RevocationEffect,
  RevocationRecord,
  RevocationSelection,
  RevocationTarget,
} from "./provenance-index.ts";
import { SCHEMA_STEPS } from "./schema.ts";
import { SqliteAdoptionReads } from "./sqlite-adoption.ts";
import type { WriteOperation, WriteOutcome } from "./sqlite-batch.ts";
import { SqliteCommonsReads } from "./sqlite-commons.ts";
import type { Synchronous } from "./sqlite-connection.ts";
import { findInconsistencies } from "./sqlite-consistency.ts";
import { fromFailure, fromSqliteError } from "./sqlite-errors.ts";
import { SqliteHousekeepingReads } from "./sqlite-housekeeping.ts";
import {
  createWriters,
  INDEX_WRITERS,
  type WriteMethod,
  type Writes,
} from "./sqlite-index-writers.ts";
import { openDatabase } from "./sqlite-open.ts";
import { SqlitePartUploadReads } from "./sqlite-part-uploads.ts";
import { SqliteProvenanceReads } from "./sqlite-provenance.ts";
import { SqliteReads } from "./sqlite-reads.ts";
import type { HiddenSlice } from "./sqlite-revocation.ts";
import { SqliteUpstreamReads } from "./sqlite-upstreams.ts";
import { createLocalWriter, type SqliteWriter, startThreadWriter } from "./sqlite-writer.ts";
import type {
  HeldAsItCame,
  HoldingMove,
  NewUpstream,
  UpstreamChanges,
  UpstreamPath,
  UpstreamRecord,
} from "./upstream-index.ts";
import { WriteQueue } from "./write-queue.ts";

/** How {@link openSqliteIndex} opens an index. */
export interface SqliteIndexOptions {
  /** The database file, made when absent, readable by its owner only; or `:memory:`. */
  readonly file: string;
  readonly logger?: Logger;
  /** `off` gives up durability against power cuts, for tests. Default: `full`. */
  readonly synchronous?: Synchronous;
}

/**
 * Opens the index in a SQLite file, and brings its schema up to date.
 *
 * Reads run at once on the caller's thread; writes are batched and run on a thread of their own. Several
 * processes may open one file on a local disk.
 *
 * @throws {CacheError} `CONFIG` when the file is another program's, or has a newer schema;
 *   `UNAVAILABLE` when it cannot be opened; `CORRUPT` when it is no sound database.
 */
export async function openSqliteIndex(options: SqliteIndexOptions): Promise<CacheIndex> {
  const { file, logger = silentLogger, synchronous = "full" } = options;
  try {
    const database = await openDatabase({ file, synchronous, logger, migrations: SCHEMA_STEPS });
    try {
      const writer =
        file === ":memory:"
          ? createLocalWriter(database, file, createWriters)
          : await startThreadWriter({ file, synchronous, writers: INDEX_WRITERS }, logger);
      return new SqliteIndex(file, database, writer);
    } catch (error) {
      database.close();
      throw error;
    }
  } catch (error) {
    throw fromSqliteError(error, file);
  }
}

/** Entries that a revocation hides at a time: some tens of milliseconds, before others write. */
const ENTRIES_PER_SLICE = 1000;

class SqliteIndex implements CacheIndex {
  readonly #file: string;
  readonly #database: DatabaseSync;
  readonly #reads: SqliteReads;
  readonly #housekeeping: SqliteHousekeepingReads;
  readonly #partUploads: SqlitePartUploadReads;
  readonly #provenance: SqliteProvenanceReads;
  readonly #adoption: SqliteAdoptionReads;
  readonly #upstreams: SqliteUpstreamReads;
  readonly #commons: SqliteCommonsReads;
  readonly #writer: SqliteWriter;
  readonly #queue: WriteQueue<WriteOperation, WriteOutcome>;
  #closing: Promise<void> | undefined;

  constructor(file: string, database: DatabaseSync, writer: SqliteWriter) {
    this.#file = file;
    this.#database = database;
    this.#reads = new SqliteReads(database);
    this.#housekeeping = new SqliteHousekeepingReads(database);
    this.#partUploads = new SqlitePartUploadReads(database);
    this.#provenance = new SqliteProvenanceReads(database);
    this.#adoption = new SqliteAdoptionReads(database);
    this.#upstreams = new SqliteUpstreamReads(database);
    this.#commons = new SqliteCommonsReads(database);
    this.#writer = writer;
    this.#queue = new WriteQueue((operations) => writer.runBatch(operations));
  }

  get waitingWrites(): number {
    return this.#queue.waiting;
  }

  createView(view: NewView, key: NewSigningKey): Promise<ViewRecord> {
    return this.#write("createView", view, key);
  }

  async findView(name: string): Promise<ViewRecord | undefined> {
    return this.#read((reads) => reads.findView(name));
  }

  async listViews(): Promise<ViewRecord[]> {
    return this.#read((reads) => reads.listViews());
  }

  updateView(name: string, changes: ViewChanges): Promise<ViewRecord | undefined> {
    return this.#write("updateView", name, changes);
  }

  deleteView(name: string): Promise<boolean> {
    return this.#write("deleteView", name);
  }

  purgeDeletedViews(limit: number): Promise<number> {
    return this.#write("purgeDeletedViews", limit);
  }

  async viewStats(viewId: number): Promise<ViewStats> {
    return this.#read((reads) => reads.viewStats(viewId));
  }

  touchOverlay(viewId: number, atMs: number): Promise<void> {
    return this.#write("touchOverlay", viewId, atMs);
  }

  async viewBytes(viewId: number): Promise<number> {
    return this.#read((reads) => reads.viewBytes(viewId));
  }

  async tenantUsage(tenant: string | undefined): Promise<TenantUsage> {
    return this.#read((reads) => reads.tenantUsage(tenant));
  }

  addCounts(viewId: number, counts: Partial<ViewCounts>): Promise<void> {
    return this.#write("addCounts", viewId, counts);
  }

  async listSigningKeys(viewId: number): Promise<SigningKeyRecord[]> {
    return this.#read((reads) => reads.listSigningKeys(viewId));
  }

  replaceSigningKeys(viewId: number, key: NewSigningKey): Promise<void> {
    return this.#write("replaceSigningKeys", viewId, key);
  }

  addSigningKey(viewId: number, key: NewSigningKey): Promise<void> {
    return this.#write("addSigningKey", viewId, key);
  }

  removeSigningKey(viewId: number, name: string): Promise<boolean> {
    return this.#write("removeSigningKey", viewId, name);
  }

  async signingKeyGeneration(viewId: number): Promise<number> {
    return this.#read((reads) => reads.signingKeyGeneration(viewId));
  }

  async findPath(chain: readonly number[], storePathHash: string): Promise<PathRecord | undefined> {
    return this.#read((reads) => reads.findPath(chain, storePathHash));
  }

  async findNarInfos(
    chain: readonly number[],
    storePathHashes: readonly string[],
  ): Promise<FoundNarInfo[]> {
    return this.#read((reads) => reads.findNarInfos(chain, storePathHashes));
  }

  async listPaths(
    viewId: number,
    page: { readonly after?: string; readonly limit: number },
  ): Promise<PathRecord[]> {
    return this.#read((reads) => reads.listPaths(viewId, page));
  }

  async listOutdatedPaths(viewId: number, limit: number): Promise<PathRecord[]> {
    return this.#read((reads) => reads.listOutdatedPaths(viewId, limit));
  }

  async countOutdatedPaths(viewId: number): Promise<number> {
    return this.#read((reads) => reads.countOutdatedPaths(viewId));
  }

  replaceNarInfos(viewId: number, changes: readonly NarInfoChange[]): Promise<void> {
    return this.#write("replaceNarInfos", viewId, changes);
  }

  async findMissingPaths(viewId: number, storePathHashes: readonly string[]): Promise<string[]> {
    return this.#read((reads) => reads.findMissingPaths(viewId, storePathHashes));
  }

  async findMissingNars(viewId: number, narHashes: readonly string[]): Promise<string[]> {
    return this.#read((reads) => reads.findMissingNars(viewId, narHashes));
  }

  async findHolding(viewId: number, narHash: string): Promise<HoldingRecord | undefined> {
    return this.#read((reads) => reads.findHolding(viewId, narHash));
  }

  async findObject(chain: readonly number[], fileHash: string): Promise<FoundObject | undefined> {
    return this.#read((reads) => reads.findObject(chain, fileHash));
  }

  async findUploadedFile(
    viewId: number,
    fileHash: string,
    compression: string,
  ): Promise<UploadedFileRecord | undefined> {
    return this.#read((reads) => reads.findUploadedFile(viewId, fileHash, compression));
  }

  deletePath(viewId: number, storePathHash: string, narExpiresAtMs: number): Promise<boolean> {
    return this.#write("deletePath", viewId, storePathHash, narExpiresAtMs);
  }

  reserveObject(object: ObjectRecord, nowMs: number): Promise<"reserved" | "busy"> {
    return this.#write("reserveObject", object, nowMs);
  }

  holdNar(holding: NewHolding): Promise<HoldingRecord> {
    return this.#write("holdNar", holding);
  }

  addUploadedFile(file: UploadedFileRecord): Promise<void> {
    return this.#write("addUploadedFile", file);
  }

  commitPaths(
    viewId: number,
    paths: readonly NewPath[],
    options: CommitPathsOptions = {},
  ): Promise<CommitResult> {
    return this.#write("commitPaths", viewId, paths, options);
  }

  putDocument(viewId: number, document: NewDocument, writer?: PrincipalFacts): Promise<boolean> {
    return this.#write("putDocument", viewId, document, writer);
  }

  async findDocument(
    chain: readonly number[],
    kind: DocumentKind,
    name: string,
  ): Promise<Uint8Array | undefined> {
    return this.#read((reads) => reads.findDocument(chain, kind, name));
  }

  revokeToken(jti: string, expiresAtMs: number | undefined): Promise<void> {
    return this.#write("revokeToken", jti, expiresAtMs);
  }

  async isTokenRevoked(jti: string): Promise<boolean> {
    return this.#read((reads) => reads.isTokenRevoked(jti));
  }

  noteName(key: string, atMs: number): Promise<void> {
    return this.#write("noteName", key, atMs);
  }

  async nameSeenAtMs(key: string): Promise<number | undefined> {
    return this.#read((reads) => reads.nameSeenAtMs(key));
  }

  expire(nowMs: number, limit: number): Promise<ExpireResult> {
    return this.#write("expire", nowMs, limit);
  }

  claimUnreferencedObjects(reservedBeforeMs: number, limit: number): Promise<string[]> {
    return this.#write("claimUnreferencedObjects", reservedBeforeMs, limit);
  }

  removeClaimedObjects(fileHashes: readonly string[]): Promise<void> {
    return this.#write("removeClaimedObjects", fileHashes);
  }

  touchPaths(touches: readonly PathTouch[]): Promise<void> {
    return this.#write("touchPaths", touches);
  }

  touchNars(touches: readonly NarTouch[]): Promise<void> {
    return this.#write("touchNars", touches);
  }

  putPin(viewId: number, pin: PinRecord): Promise<"created" | "replaced"> {
    return this.#write("putPin", viewId, pin);
  }

  deletePin(viewId: number, name: string): Promise<boolean> {
    return this.#write("deletePin", viewId, name);
  }

  async listPins(viewId: number): Promise<PinRecord[]> {
    return this.#read(() => this.#housekeeping.listPins(viewId));
  }

  async listGraph(
    viewId: number,
    page: { readonly after?: string; readonly limit: number },
  ): Promise<GraphNode[]> {
    return this.#read(() => this.#housekeeping.listGraph(viewId, page));
  }

  collectPaths(
    viewId: number,
    candidates: readonly CollectCandidate[],
    narExpiresAtMs: number,
  ): Promise<CollectResult> {
    return this.#write("collectPaths", viewId, candidates, narExpiresAtMs);
  }

  async listObjects(page: {
    readonly after?: string;
    readonly limit: number;
  }): Promise<ObjectStateRecord[]> {
    return this.#read(() => this.#housekeeping.listObjects(page));
  }

  markVerified(fileHashes: readonly string[], atMs: number): Promise<void> {
    return this.#write("markVerified", fileHashes, atMs);
  }

  quarantineObject(
    fileHash: string,
    finding: { readonly atMs: number; readonly reason: string },
  ): Promise<AffectedPath[]> {
    return this.#write("quarantineObject", fileHash, finding);
  }

  restoreObject(fileHash: string): Promise<void> {
    return this.#write("restoreObject", fileHash);
  }

  async listQuarantined(page: { readonly limit: number }): Promise<QuarantineRecord[]> {
    return this.#read(() => this.#housekeeping.listQuarantined(page));
  }

  async countQuarantined(): Promise<number> {
    return this.#read(() => this.#housekeeping.countQuarantined());
  }

  async listPathsOfObject(fileHash: string, limit: number): Promise<AffectedPath[]> {
    return this.#read(() => this.#housekeeping.listPathsOfObject(fileHash, limit));
  }

  async findObjectState(fileHash: string): Promise<KnownObjectRecord | undefined> {
    return this.#read(() => this.#housekeeping.findObjectState(fileHash));
  }

  async checkConsistency(): Promise<string[]> {
    return this.#read(() => findInconsistencies(this.#database));
  }

  createUpload(upload: PartUploadRecord, limits?: PartUploadLimits): Promise<void> {
    return this.#write("createUpload", upload, limits);
  }

  async findUpload(viewId: number, id: string): Promise<PartUploadRecord | undefined> {
    return this.#read(() => this.#partUploads.findUpload(viewId, id));
  }

  async findUploadOfNar(
    viewId: number,
    wanted: { readonly narHash: string; readonly partBytes: number; readonly nowMs: number },
  ): Promise<PartUploadRecord | undefined> {
    return this.#read(() => this.#partUploads.findUploadOfNar(viewId, wanted));
  }

  addUploadPart(uploadId: string, part: UploadPart): Promise<void> {
    return this.#write("addUploadPart", uploadId, part);
  }

  async listUploadParts(uploadId: string): Promise<UploadPart[]> {
    return this.#read(() => this.#partUploads.listUploadParts(uploadId));
  }

  extendUpload(id: string, expiresAtMs: number): Promise<boolean> {
    return this.#write("extendUpload", id, expiresAtMs);
  }

  deleteUpload(id: string): Promise<boolean> {
    return this.#write("deleteUpload", id);
  }

  async listExpiredUploads(nowMs: number, limit: number): Promise<PartUploadRecord[]> {
    return this.#read(() => this.#partUploads.listExpiredUploads(nowMs, limit));
  }

  recordReads(reader: PrincipalFacts, reads: readonly EntryUse[]): Promise<void> {
    return this.#write("recordReads", reader, reads);
  }

  async findProvenance(kind: EntryKind, name: string, limit: number): Promise<EntryProvenance[]> {
    return this.#read(() => this.#provenance.findProvenance(kind, name, limit));
  }

  async previewRevocation(
    selection: RevocationSelection,
    limit: number,
  ): Promise<RevocationEffect> {
    return this.#read(() => this.#provenance.previewRevocation(selection, limit));
  }

  async revoke(
    selection: RevocationSelection,
    by: { readonly atMs: number; readonly createdBy: string | undefined },
    limit: number,
  ): Promise<RevocationEffect & { readonly id: number }> {
    // Before anything else: who it names is refused from now on.
    const id = await this.#write("addRevocation", selection, by);
    const effect = await this.#write("describeRevocation", selection, limit);
    await this.hideRevoked(id);
    return { ...effect, id };
  }

  async hideRevoked(id: number): Promise<number> {
    // Again until nothing is left: what was hidden last may have been copied meanwhile, by an adoption.
    for (let hidden = 1; hidden > 0;) {
      hidden = 0;
      for (let slice: HiddenSlice | undefined; slice === undefined || slice.next !== undefined;) {
        slice = await this.#write("hideSlice", id, slice?.next, ENTRIES_PER_SLICE);
        hidden += slice.hidden;
      }
    }
    return await this.#write("countHidden", id);
  }

  finishRevocation(
    id: number,
    done: { readonly atMs: number; readonly entries: number },
  ): Promise<void> {
    return this.#write("finishRevocation", id, done);
  }

  liftRevocation(
    id: number,
    options: { readonly atMs: number; readonly keepsHidden: boolean },
  ): Promise<{ readonly restored: number } | undefined> {
    return this.#write("liftRevocation", id, options);
  }

  async listRevocations(limit: number): Promise<RevocationRecord[]> {
    return this.#read(() => this.#provenance.listRevocations(limit));
  }

  async isRevoked(caller: RevocationTarget): Promise<boolean> {
    return this.#read(() => this.#provenance.isRevoked(caller));
  }

  forgetProvenance(beforeMs: number, limit: number): Promise<number> {
    return this.#write("forgetProvenance", beforeMs, limit);
  }

  async findOffers(key: string, baseId: number): Promise<Offer[]> {
    return this.#read(() => this.#adoption.findOffers(key, baseId));
  }

  async listOfferedPaths(
    offer: Offer,
    page: { readonly after?: string; readonly limit: number },
  ): Promise<string[]> {
    return this.#read(() => this.#adoption.listOfferedPaths(offer, page));
  }

  adoptDocuments(
    viewId: number,
    offer: Offer,
    options: { readonly writer: PrincipalFacts; readonly atMs: number; readonly limit: number },
  ): Promise<number> {
    return this.#write("adoptDocuments", viewId, offer, options);
  }

  createUpstream(upstream: NewUpstream): Promise<UpstreamRecord> {
    return this.#write("createUpstream", upstream);
  }

  async findUpstream(name: string): Promise<UpstreamRecord | undefined> {
    return this.#read(() => this.#upstreams.findUpstream(name));
  }

  async listUpstreams(): Promise<UpstreamRecord[]> {
    return this.#read(() => this.#upstreams.listUpstreams());
  }

  updateUpstream(name: string, changes: UpstreamChanges): Promise<UpstreamRecord | undefined> {
    return this.#write("updateUpstream", name, changes);
  }

  deleteUpstream(name: string): Promise<boolean> {
    return this.#write("deleteUpstream", name);
  }

  setViewUpstreams(viewId: number, upstreamIds: readonly number[]): Promise<void> {
    return this.#write("setViewUpstreams", viewId, upstreamIds);
  }

  async upstreamsOfViews(viewIds: readonly number[]): Promise<UpstreamRecord[]> {
    return this.#read(() => this.#upstreams.upstreamsOfViews(viewIds));
  }

  async viewsOfUpstream(upstreamId: number): Promise<string[]> {
    return this.#read(() => this.#upstreams.viewsOfUpstream(upstreamId));
  }

  putUpstreamPaths(paths: readonly UpstreamPath[]): Promise<void> {
    return this.#write("putUpstreamPaths", paths);
  }

  removeUpstreamPath(hiddenViewId: number, storePathHash: string): Promise<void> {
    return this.#write("removeUpstreamPath", hiddenViewId, storePathHash);
  }

  async findUpstreamPaths(
    hiddenViewIds: readonly number[],
    storePathHashes: readonly string[],
  ): Promise<UpstreamPath[]> {
    return this.#read(() => this.#upstreams.findUpstreamPaths(hiddenViewIds, storePathHashes));
  }

  async findUpstreamFile(
    hiddenViewIds: readonly number[],
    fileHash: string,
  ): Promise<UpstreamPath | undefined> {
    return this.#read(() => this.#upstreams.findUpstreamFile(hiddenViewIds, fileHash));
  }

  trimUpstreamPaths(checkedBeforeMs: number, keep: number, limit: number): Promise<number> {
    return this.#write("trimUpstreamPaths", checkedBeforeMs, keep, limit);
  }

  async listHeldAsTheyCame(page: {
    readonly after: number;
    readonly limit: number;
  }): Promise<HeldAsItCame[]> {
    return this.#read(() => this.#upstreams.listHeldAsTheyCame(page));
  }

  moveHolding(move: HoldingMove): Promise<boolean> {
    return this.#write("moveHolding", move);
  }

  async listNewPaths(
    viewIds: readonly number[],
    page: { readonly after: number; readonly limit: number },
  ): Promise<{ readonly storePathHashes: readonly string[]; readonly last: number }> {
    return this.#read(() => this.#commons.listNewPaths(viewIds, page));
  }

  async findTrustedPaths(viewIds: readonly number[], storePathHash: string): Promise<PathRecord[]> {
    return this.#read(() => this.#commons.findTrustedPaths(viewIds, storePathHash));
  }

  addVotes(
    commonsId: number,
    storePathHash: string,
    vote: { readonly voters: readonly number[]; readonly atMs: number },
  ): Promise<void> {
    return this.#write("addVotes", commonsId, storePathHash, vote);
  }

  async listVotes(
    commonsId: number,
    page: { readonly after?: string; readonly limit: number },
  ): Promise<CommonsVotes[]> {
    return this.#read(() => this.#commons.listVotes(commonsId, page));
  }

  async findVotes(commonsId: number, storePathHash: string): Promise<CommonsVotes | undefined> {
    return this.#read(() => this.#commons.findVotes(commonsId, storePathHash));
  }

  async ping(): Promise<void> {
    try {
      const written = await this.#write("ping");
      const read = this.#read((reads) => reads.readPing());
      if (read < written) throw new Error(`Wrote ping ${written} and read ${read}`);
    } catch (cause) {
      throw new CacheError("UNAVAILABLE", `The index ${this.#file} cannot be read and written`, {
        hint: "Check the disk that holds it; the cause says what failed.",
        cause,
      });
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing ??= this.#close();
    await this.#closing;
  }

  async #close(): Promise<void> {
    await this.#queue.idle();
    await this.#writer[Symbol.asyncDispose]();
    this.#database.close();
  }

  #read<Value>(read: (reads: SqliteReads) => Value): Value {
    this.#requireOpen();
    try {
      return read(this.#reads);
    } catch (error) {
      throw fromSqliteError(error, this.#file);
    }
  }

  async #write<Method extends WriteMethod>(
    method: Method,
    ...parameters: Parameters<Writes[Method]>
  ): Promise<ReturnType<Writes[Method]>> {
    this.#requireOpen();
    const outcome = await this.#queue.run({ method, parameters });
    if (outcome.kind === "failed") throw fromFailure(outcome.failure);
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- it comes from that very method
    return outcome.value as ReturnType<Writes[Method]>;
  }

  #requireOpen(): void {
    if (this.#closing !== undefined) {
      throw new CacheError("UNAVAILABLE", `The index ${this.#file} is closed`);
    }
  }
}
