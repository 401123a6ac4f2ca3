import { CacheError } from "@glorious/core";

import type {
  CommitResult,
  ExpireResult,
  HoldingRecord,
  NarInfoChange,
  NewHolding,
  NewPath,
  FoundObject,
  ObjectRecord,
  PathRecord,
  UploadedFileRecord,
  ViewCounts,
  ViewStats,
} from "../../src/index/cache-index.ts";
import type {
  CollectCandidate,
  CollectResult,
  GraphNode,
  KnownObjectRecord,
  ObjectStateRecord,
  PinRecord,
  QuarantineRecord,
} from "../../src/index/housekeeping-index.ts";
import type { PartUploadRecord } from "../../src/index/part-upload-index.ts";
import { PartUploadModel } from "./part-upload-model.ts";
import { UpstreamModel } from "./upstream-model.ts";

interface ModelObject {
  readonly object: ObjectRecord;
  reservedAtMs: number;
  isDeleting: boolean;
  verifiedAtMs: number | undefined;
  quarantine: { readonly atMs: number; readonly reason: string } | undefined;
}

interface ModelHolding {
  readonly viewId: number;
  readonly fileHash: string;
  readonly expiresAtMs: number | undefined;
}

/**
 * What a cache index does, as plainly as it can be said: maps, and loops over them.
 *
 * Property tests run the same steps on it and on a real index and expect the same answers.
 */
export class IndexModel {
  nowMs = 1000;
  /** Ids of the views there are, by name; the real index chooses them. */
  readonly views: Map<string, number> = new Map();
  readonly #everIds: Set<number> = new Set();
  readonly counts: Map<number, ViewCounts> = new Map();
  /** Names of each view's keys, oldest first, and how often they changed. */
  readonly keys: Map<number, { readonly names: readonly string[]; readonly generation: number }> =
    new Map();
  readonly objects: Map<string, ModelObject> = new Map();
  readonly holdings: Map<string, ModelHolding> = new Map();
  readonly files: Map<string, UploadedFileRecord> = new Map();
  /** Lost ones too. */
  readonly paths: Map<string, PathRecord> = new Map();
  readonly pins: Map<string, PinRecord & { readonly viewId: number }> = new Map();
  readonly uploads: PartUploadModel = new PartUploadModel();
  readonly upstreams: UpstreamModel = new UpstreamModel({
    has: (id) => this.counts.has(id),
    add: (id) => {
      this.#everIds.add(id);
      this.counts.set(id, { uploads: 0, uploadedNarBytes: 0, conflicts: 0 });
    },
    delete: (id) => this.#dropView(id),
  });

  /** The id of a view, be it that of `upstream/<name>`, or one that no view has. */
  idOf(name: string): number {
    const hidden = this.upstreams.upstreams.get(name.replace(/^upstream\//, ""));
    return (name.includes("/") ? hidden?.viewId : this.views.get(name)) ?? 1_000_000;
  }

  /** Whether a view has, or ever had, this id. */
  knewView(id: number): boolean {
    return this.#everIds.has(id);
  }

  addView(name: string, id: number, keyName: string): void {
    this.#everIds.add(id);
    this.views.set(name, id);
    this.counts.set(id, { uploads: 0, uploadedNarBytes: 0, conflicts: 0 });
    this.keys.set(id, { names: [keyName], generation: 0 });
  }

  deleteView(name: string): boolean {
    const id = this.views.get(name);
    if (id === undefined) return false;
    this.views.delete(name);
    this.keys.delete(id);
    this.#dropView(id);
    this.upstreams.forgetView(id);
    return true;
  }

  #dropView(id: number): void {
    this.counts.delete(id);
    for (const [key, { viewId }] of this.pins) if (viewId === id) this.pins.delete(key);
    this.uploads.forgetView(id);
  }

  /** Forgets all rows of deleted views. */
  purgeDeletedViews(): void {
    for (const table of [this.holdings, this.files, this.paths]) {
      for (const [key, { viewId }] of table) if (!this.counts.has(viewId)) table.delete(key);
    }
    this.upstreams.purge();
  }

  #changeKeys(viewId: number, change: (names: readonly string[]) => readonly string[]): void {
    const keys = this.keys.get(viewId);
    if (keys === undefined) throw noView();
    this.keys.set(viewId, { names: change(keys.names), generation: keys.generation + 1 });
  }

  replaceSigningKeys(viewId: number, name: string): void {
    this.#changeKeys(viewId, () => [name]);
  }

  addSigningKey(viewId: number, name: string): void {
    this.#changeKeys(viewId, (names) => {
      if (names.includes(name)) throw new CacheError("CONFLICT", "taken");
      return [...names, name];
    });
  }

  removeSigningKey(viewId: number, name: string): boolean {
    this.#requireView(viewId);
    const names = this.keyNames(viewId);
    if (!names.includes(name)) return false;
    if (names.length === 1) throw new CacheError("CONFLICT", "the last one");
    this.#changeKeys(viewId, () => names.filter((other) => other !== name));
    return true;
  }

  keyNames(viewId: number): readonly string[] {
    return this.keys.get(viewId)?.names ?? [];
  }

  signingKeyGeneration(viewId: number): number {
    return this.keys.get(viewId)?.generation ?? 0;
  }

  listOutdatedPaths(viewId: number): PathRecord[] {
    const generation = this.signingKeyGeneration(viewId);
    return this.listPaths(viewId).filter((path) => path.keyGeneration < generation);
  }

  addCounts(viewId: number, added: ViewCounts): void {
    const counts = this.counts.get(viewId);
    if (counts === undefined) throw noView();
    this.counts.set(viewId, {
      uploads: counts.uploads + added.uploads,
      uploadedNarBytes: counts.uploadedNarBytes + added.uploadedNarBytes,
      conflicts: counts.conflicts + added.conflicts,
    });
  }

  viewStats(viewId: number): ViewStats {
    const counts = this.counts.get(viewId);
    if (counts === undefined) throw noView();
    const held = [...this.holdings.values()]
      .filter((holding) => holding.viewId === viewId && !this.#isBad(holding.fileHash))
      .map(({ fileHash }) => this.#object(fileHash));
    return {
      ...counts,
      paths: this.#pathsOf(viewId).filter((path) => !this.#isLost(path)).length,
      nars: held.length,
      narBytes: held.reduce((sum, { narSize }) => sum + narSize, 0),
      fileBytes: held.reduce((sum, { fileSize }) => sum + fileSize, 0),
    };
  }

  reserveObject(object: ObjectRecord, nowMs: number): "reserved" | "busy" {
    const known = this.objects.get(object.fileHash);
    if (known?.isDeleting === true) return "busy";
    if (known === undefined) {
      this.objects.set(object.fileHash, {
        object,
        reservedAtMs: nowMs,
        isDeleting: false,
        verifiedAtMs: undefined,
        quarantine: undefined,
      });
    } else {
      known.reservedAtMs = Math.max(known.reservedAtMs, nowMs);
    }
    return "reserved";
  }

  holdNar(holding: NewHolding): HoldingRecord {
    this.#requireView(holding.viewId);
    this.#requireReserved(holding.fileHash);
    const key = `${holding.viewId} ${holding.narHash}`;
    const known = this.holdings.get(key);
    const expiresAtMs =
      known === undefined ? holding.expiresAtMs : laterOf(known.expiresAtMs, holding.expiresAtMs);
    const replaces =
      known === undefined || holding.replaceObject === true || this.#isBad(known.fileHash);
    const fileHash = replaces ? holding.fileHash : known.fileHash;
    this.holdings.set(key, { viewId: holding.viewId, fileHash, expiresAtMs });
    return { ...this.#object(fileHash), expiresAtMs };
  }

  findHolding(viewId: number, narHash: string): HoldingRecord | undefined {
    const holding = this.holdings.get(`${viewId} ${narHash}`);
    if (holding === undefined || this.#isBad(holding.fileHash)) return undefined;
    return { ...this.#object(holding.fileHash), expiresAtMs: holding.expiresAtMs };
  }

  addUploadedFile(file: UploadedFileRecord): void {
    this.#requireView(file.viewId);
    this.#requireReserved(file.fileHash);
    const key = `${file.viewId} ${file.fileHash}`;
    const expiresAtMs = Math.max(this.files.get(key)?.expiresAtMs ?? 0, file.expiresAtMs);
    this.files.set(key, { ...file, expiresAtMs });
  }

  findUploadedFile(
    viewId: number,
    fileHash: string,
    compression: string,
  ): UploadedFileRecord | undefined {
    const file = this.files.get(`${viewId} ${fileHash}`);
    return file?.compression === compression && !this.#isBad(fileHash) ? file : undefined;
  }

  findObject(chain: readonly number[], fileHash: string): FoundObject | undefined {
    const { object } = this.objects.get(fileHash) ?? {};
    if (object === undefined || this.#isBad(fileHash)) return undefined;
    const knowing = new Set(
      [...this.#references()].filter((row) => row.fileHash === fileHash).map((row) => row.viewId),
    );
    const viewId = chain.find((id) => knowing.has(id));
    return viewId === undefined ? undefined : { ...object, viewId };
  }

  commitPaths(viewId: number, paths: readonly NewPath[]): CommitResult {
    this.#requireView(viewId);
    const hashes = new Set(paths.map((path) => path.storePathHash));
    const narHashes = new Map<string, string>();
    const present = this.#pathsOf(viewId).filter((path) => !this.#isLost(path));
    for (const path of [...present, ...paths]) {
      if (!narHashes.has(path.storePathHash)) narHashes.set(path.storePathHash, path.narHash);
    }
    const refused = paths.filter((path) => narHashes.get(path.storePathHash) !== path.narHash);
    const accepted = paths.filter((path) => !refused.includes(path));
    const missingNars = accepted
      .filter((path) => this.findHolding(viewId, path.narHash)?.fileHash !== path.fileHash)
      .map((path) => path.narHash);
    const missingReferences = accepted.flatMap(({ storePathHash, requiredReferences }) =>
      requiredReferences
        .filter((hash) => !hashes.has(hash) && this.findPath([viewId], hash) === undefined)
        .map((reference) => ({ storePathHash, reference })),
    );
    if (missingNars.length > 0 || missingReferences.length > 0) {
      return { kind: "incomplete", missingNars: [...new Set(missingNars)], missingReferences };
    }
    const acceptedHashes = [...new Set(accepted.map((path) => path.storePathHash))];
    const isKnown = (hash: string): boolean => this.findPath([viewId], hash) !== undefined;
    const created = acceptedHashes.filter((hash) => !isKnown(hash));
    const unchanged = acceptedHashes.filter(isKnown);
    for (const path of accepted) this.#putPath(viewId, path);
    for (const { storePathHash, requiredReferences, createdAtMs } of accepted) {
      for (const hash of [storePathHash, ...requiredReferences]) {
        this.touchPath(viewId, hash, createdAtMs);
      }
    }
    const refusedHashes = [...new Set(refused.map((path) => path.storePathHash))];
    const conflicts = refusedHashes.map((storePathHash) => ({
      storePathHash,
      narHash: narHashes.get(storePathHash) ?? "",
    }));
    return { kind: "committed", created, unchanged, conflicts };
  }

  #putPath(viewId: number, newPath: NewPath): void {
    const { requiredReferences: _requiredReferences, ...path } = newPath;
    const key = `${viewId} ${path.storePathHash}`;
    const before = this.paths.get(key);
    if (before !== undefined && this.#isLost(before)) {
      this.deletePath(viewId, path.storePathHash, path.createdAtMs);
    }
    const known = this.paths.get(key);
    const { narSize, fileSize } = this.#object(path.fileHash);
    const signatures = [...new Set([...(known?.signatures ?? []), ...path.signatures])].sort();
    const { createdAtMs, createdBy } = known ?? path;
    const accessedAtMs = known?.accessedAtMs ?? createdAtMs;
    const kept = { signatures, createdAtMs, createdBy, accessedAtMs };
    this.paths.set(key, { ...path, viewId, narSize, fileSize, ...kept });
    const held = `${viewId} ${path.narHash}`;
    const holding = this.holdings.get(held);
    if (holding !== undefined) this.holdings.set(held, { ...holding, expiresAtMs: undefined });
  }

  findPath(chain: readonly number[], storePathHash: string): PathRecord | undefined {
    return chain
      .map((id) => this.paths.get(`${id} ${storePathHash}`))
      .find((path) => path !== undefined && !this.#isLost(path));
  }

  listPaths(viewId: number): PathRecord[] {
    return this.#pathsOf(viewId).sort((a, b) => (a.storePathHash < b.storePathHash ? -1 : 1));
  }

  replaceNarInfos(viewId: number, changes: readonly NarInfoChange[]): void {
    for (const { storePathHash, replaces, narInfo, keyGeneration } of changes) {
      const key = `${viewId} ${storePathHash}`;
      const path = this.paths.get(key);
      if (path?.narInfo === replaces) this.paths.set(key, { ...path, narInfo, keyGeneration });
    }
  }

  deletePath(viewId: number, storePathHash: string, narExpiresAtMs: number): boolean {
    const path = this.paths.get(`${viewId} ${storePathHash}`);
    if (path === undefined) return false;
    this.paths.delete(`${viewId} ${storePathHash}`);
    const isUsed = this.#pathsOf(viewId).some((other) => other.narHash === path.narHash);
    const holding = this.holdings.get(`${viewId} ${path.narHash}`);
    if (!isUsed && holding !== undefined) {
      this.holdings.set(`${viewId} ${path.narHash}`, { ...holding, expiresAtMs: narExpiresAtMs });
    }
    return true;
  }

  touchPath(viewId: number, storePathHash: string, atMs: number): void {
    const key = `${viewId} ${storePathHash}`;
    const path = this.paths.get(key);
    if (path === undefined) return;
    this.paths.set(key, { ...path, accessedAtMs: Math.max(path.accessedAtMs, atMs) });
  }

  touchNar(viewId: number, fileHash: string, atMs: number): void {
    const narHash = this.objects.get(fileHash)?.object.narHash;
    for (const path of this.#pathsOf(viewId)) {
      if (path.narHash === narHash) this.touchPath(viewId, path.storePathHash, atMs);
    }
  }

  putPin(viewId: number, pin: PinRecord): "created" | "replaced" {
    if (this.findPath([viewId], pin.storePathHash) === undefined) {
      throw new CacheError("NOT_FOUND", "no such path");
    }
    const isThere = this.pins.has(`${viewId} ${pin.name}`);
    this.pins.set(`${viewId} ${pin.name}`, { ...pin, viewId });
    return isThere ? "replaced" : "created";
  }

  deletePin(viewId: number, name: string): boolean {
    return this.pins.delete(`${viewId} ${name}`);
  }

  listPins(viewId: number): PinRecord[] {
    return [...this.pins.values()]
      .filter((pin) => pin.viewId === viewId)
      .map(({ viewId: _viewId, ...pin }) => pin)
      .sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  listGraph(viewId: number): GraphNode[] {
    return this.listPaths(viewId).map((path) => ({
      storePathHash: path.storePathHash,
      accessedAtMs: path.accessedAtMs,
      fileSize: path.fileSize,
      narHash: path.narHash,
      references: path.references.map((name) => name.slice(0, 32)),
    }));
  }

  /** Takes one path after the other out of the set until it is closed. */
  collectPaths(
    viewId: number,
    candidates: readonly CollectCandidate[],
    narExpiresAtMs: number,
  ): CollectResult {
    const nodes = this.listGraph(viewId);
    const asked = [...new Set(candidates.map(({ storePathHash }) => storePathHash))].filter(
      (hash) => nodes.some(({ storePathHash }) => storePathHash === hash),
    );
    const pinned = new Set(this.listPins(viewId).map(({ storePathHash }) => storePathHash));
    const doomed = new Set(
      asked.filter((hash) => {
        const node = nodes.find(({ storePathHash }) => storePathHash === hash);
        const given = candidates.find(({ storePathHash }) => storePathHash === hash);
        return node?.accessedAtMs === given?.accessedAtMs && !pinned.has(hash);
      }),
    );
    const isSpared = (hash: string): boolean =>
      nodes.some(
        ({ storePathHash, references }) =>
          storePathHash !== hash && references.includes(hash) && !doomed.has(storePathHash),
      );
    for (let spared: string | undefined; ; doomed.delete(spared)) {
      spared = [...doomed].find(isSpared);
      if (spared === undefined) break;
    }
    for (const hash of doomed) this.deletePath(viewId, hash, narExpiresAtMs);
    return {
      deleted: asked.filter((hash) => doomed.has(hash)),
      kept: asked.filter((hash) => !doomed.has(hash)),
    };
  }

  createUpload(upload: PartUploadRecord): void {
    this.#requireView(upload.viewId);
    this.uploads.create(upload);
  }

  /** Referenced or not, in order of their hashes. */
  listKnownObjects(): KnownObjectRecord[] {
    const referenced = new Set([...this.#references()].map((row) => row.fileHash));
    return [...this.objects.values()]
      .map(({ object, verifiedAtMs, quarantine }) => ({
        ...object,
        verifiedAtMs,
        quarantinedAtMs: quarantine?.atMs,
        isReferenced: referenced.has(object.fileHash),
      }))
      .sort((a, b) => (a.fileHash < b.fileHash ? -1 : 1));
  }

  listObjects(): ObjectStateRecord[] {
    return this.listKnownObjects().flatMap(({ isReferenced, ...state }) =>
      isReferenced ? [state] : [],
    );
  }

  markVerified(fileHash: string, atMs: number): void {
    const state = this.objects.get(fileHash);
    if (state !== undefined) state.verifiedAtMs = atMs;
  }

  /** In no order. */
  quarantineObject(fileHash: string, finding: NonNullable<ModelObject["quarantine"]>): string[] {
    const state = this.objects.get(fileHash);
    if (state === undefined) return [];
    state.quarantine ??= finding;
    return this.#pathsNaming(fileHash).map((path) => `${path.viewId} ${path.storePathHash}`);
  }

  restoreObject(fileHash: string): void {
    const state = this.objects.get(fileHash);
    if (state !== undefined)
      Object.assign(state, { quarantine: undefined, verifiedAtMs: undefined });
  }

  /** In no order. */
  listQuarantined(): QuarantineRecord[] {
    return [...this.objects.values()].flatMap(({ object, quarantine }) =>
      quarantine === undefined
        ? []
        : [{ object, ...quarantine, paths: this.#pathsNaming(object.fileHash).length }],
    );
  }

  expire(nowMs: number): ExpireResult {
    const forget = (table: Map<string, { readonly expiresAtMs: number | undefined }>): number => {
      const expired = [...table].filter(([, row]) => (row.expiresAtMs ?? Infinity) <= nowMs);
      for (const [key] of expired) table.delete(key);
      return expired.length;
    };
    return { holdings: forget(this.holdings), uploadedFiles: forget(this.files), revocations: 0 };
  }

  claimUnreferencedObjects(reservedBeforeMs: number): string[] {
    const referenced = new Set([...this.#references()].map((row) => row.fileHash));
    for (const [fileHash, state] of this.objects) {
      if (!referenced.has(fileHash) && state.reservedAtMs < reservedBeforeMs) {
        state.isDeleting = true;
      }
    }
    return [...this.objects].filter(([, { isDeleting }]) => isDeleting).map(([hash]) => hash);
  }

  removeClaimedObjects(fileHashes: readonly string[]): void {
    for (const fileHash of fileHashes) {
      if (this.objects.get(fileHash)?.isDeleting === true) this.objects.delete(fileHash);
    }
  }

  #isBad(fileHash: string): boolean {
    return this.objects.get(fileHash)?.quarantine !== undefined;
  }

  #isLost(path: PathRecord): boolean {
    const holding = this.holdings.get(`${path.viewId} ${path.narHash}`);
    return holding?.fileHash !== path.fileHash || this.#isBad(path.fileHash);
  }

  #pathsNaming(fileHash: string): PathRecord[] {
    return [...this.paths.values()].filter(
      (path) => path.fileHash === fileHash && this.counts.has(path.viewId),
    );
  }

  #pathsOf(viewId: number): PathRecord[] {
    return [...this.paths.values()].filter((path) => path.viewId === viewId);
  }

  *#references(): Iterable<{ readonly viewId: number; readonly fileHash: string }> {
    yield* this.holdings.values();
    yield* this.files.values();
    yield* this.paths.values();
  }

  #object(fileHash: string): ObjectRecord {
    const known = this.objects.get(fileHash);
    if (known === undefined) throw new Error(`The model lost the object ${fileHash}`);
    return known.object;
  }

  #requireView(viewId: number): void {
    if (!this.counts.has(viewId)) throw noView();
  }

  #requireReserved(fileHash: string): void {
    const known = this.objects.get(fileHash);
    if (known === undefined || known.isDeleting) {
      throw new CacheError("UNAVAILABLE", "not reserved, or no more");
    }
  }
}

function noView(): CacheError {
  return new CacheError("NOT_FOUND", "no such view");
}

/** The later of an expiry and another one; none stays none. */
function laterOf(expiresAtMs: number | undefined, otherMs: number): number | undefined {
  return expiresAtMs === undefined ? undefined : Math.max(expiresAtMs, otherMs);
}
