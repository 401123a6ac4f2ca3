import { CacheError } from "@glorious/core";

import type { PartUploadRecord, UploadPart } from "../../src/index/part-upload-index.ts";

/** The part of the index model that knows uploads in parts. */
export class PartUploadModel {
  readonly #uploads: Map<string, PartUploadRecord> = new Map();
  readonly #parts: Map<string, Map<number, UploadPart>> = new Map();
  readonly #deadViews: Set<number> = new Set();

  /** Its uploads are only there to be cleaned up. */
  forgetView(viewId: number): void {
    this.#deadViews.add(viewId);
    for (const [id, upload] of this.#uploads) {
      if (upload.viewId === viewId) this.#uploads.set(id, { ...upload, expiresAtMs: 0 });
    }
  }

  create(upload: PartUploadRecord): void {
    if (this.#uploads.has(upload.id)) throw new CacheError("CONFLICT", "taken");
    this.#uploads.set(upload.id, upload);
    this.#parts.set(upload.id, new Map());
  }

  find(viewId: number, id: string): PartUploadRecord | undefined {
    const upload = this.#alive(id);
    return upload?.viewId === viewId ? upload : undefined;
  }

  findOfNar(
    viewId: number,
    narHash: string,
    partBytes: number,
    nowMs: number,
  ): PartUploadRecord | undefined {
    return [...this.#uploads.keys()]
      .map((id) => this.find(viewId, id))
      .filter((upload) => upload?.narHash === narHash && upload.partBytes === partBytes)
      .filter((upload) => (upload?.expiresAtMs ?? 0) > nowMs)
      .reduce((newest, other) => {
        if (newest === undefined) return other;
        return (other?.createdAtMs ?? 0) >= newest.createdAtMs ? other : newest;
      }, undefined);
  }

  addPart(id: string, part: UploadPart): void {
    const parts = this.#parts.get(id);
    if (this.#alive(id) === undefined || parts === undefined) {
      throw new CacheError("NOT_FOUND", "no such upload");
    }
    const known = parts.get(part.number);
    if (known !== undefined && JSON.stringify(known) !== JSON.stringify(part)) {
      throw new CacheError("CONFLICT", "another part");
    }
    parts.set(part.number, part);
  }

  listParts(id: string): UploadPart[] {
    return [...(this.#parts.get(id)?.values() ?? [])].sort((a, b) => a.number - b.number);
  }

  extend(id: string, expiresAtMs: number): boolean {
    const upload = this.#alive(id);
    if (upload === undefined) return false;
    const later = Math.max(upload.expiresAtMs, expiresAtMs);
    this.#uploads.set(id, { ...upload, expiresAtMs: later });
    return true;
  }

  delete(id: string): boolean {
    this.#parts.delete(id);
    return this.#uploads.delete(id);
  }

  /** In no order. */
  listExpired(nowMs: number): PartUploadRecord[] {
    return [...this.#uploads.values()].filter(({ expiresAtMs }) => expiresAtMs <= nowMs);
  }

  #alive(id: string): PartUploadRecord | undefined {
    const upload = this.#uploads.get(id);
    return upload !== undefined && this.#deadViews.has(upload.viewId) ? undefined : upload;
  }
}
