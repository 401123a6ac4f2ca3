/**
 * Uploads that come in parts and survive a restart; part of `CacheIndex`, whose conventions hold here.
 *
 * The index only knows which parts there are. Their bytes are the caller's, also those of uploads that have
 * expired or whose view is gone: `listExpiredUploads` names both until `deleteUpload`.
 */
export interface PartUploadIndex {
  /** @throws {CacheError} `CONFLICT` when the id is taken, or the view would have more than `limits` allow. */
  createUpload(upload: PartUploadRecord, limits?: PartUploadLimits): Promise<void>;
  /** An upload into this view, expired or not. */
  findUpload(viewId: number, id: string): Promise<PartUploadRecord | undefined>;
  /** The newest upload of a NAR into this view, in parts of that many NAR bytes, that has not expired. */
  findUploadOfNar(
    viewId: number,
    wanted: { readonly narHash: string; readonly partBytes: number; readonly nowMs: number },
  ): Promise<PartUploadRecord | undefined>;
  /**
   * Records a part whose bytes are stored; once more when it is the same.
   *
   * @throws {CacheError} `NOT_FOUND` when there is no such upload any more; `CONFLICT` when it has that part
   *   with another size or hash.
   */
  addUploadPart(uploadId: string, part: UploadPart): Promise<void>;
  /** The parts there are, in order of their numbers. */
  listUploadParts(uploadId: string): Promise<UploadPart[]>;
  /** Lets an upload live longer, never shorter. `false` when it is gone. */
  extendUpload(id: string, expiresAtMs: number): Promise<boolean>;
  /** Forgets an upload and its parts. */
  deleteUpload(id: string): Promise<boolean>;
  /** At most `limit` uploads that have expired, the longest expired first; those of deleted views before all. */
  listExpiredUploads(nowMs: number, limit: number): Promise<PartUploadRecord[]>;
}

/** What a view may have at the same time, expired uploads that are not removed yet included. */
export interface PartUploadLimits {
  readonly maxUploads: number;
  /** Of the NARs that all of them announce. */
  readonly maxNarBytes: number;
}

export interface PartUploadRecord {
  /** Made by the caller, never to be guessed. */
  readonly id: string;
  readonly viewId: number;
  readonly narHash: string;
  readonly narSize: number;
  /** How many bytes of the NAR each part but the last encodes. */
  readonly partBytes: number;
  readonly createdAtMs: number;
  readonly expiresAtMs: number;
}

/** A part as it is stored. */
export interface UploadPart {
  readonly number: number;
  /** Of the encoded bytes. */
  readonly sizeBytes: number;
  readonly sha256: string;
}
