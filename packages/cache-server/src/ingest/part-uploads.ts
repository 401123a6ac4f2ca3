import { randomBytes } from "node:crypto";

import { CacheError, isCacheError } from "@glorious/core";
import { countNarParts, maxEncodedBytes, narPartSize } from "@glorious/nix-store";
import type { BlobStore } from "@glorious/storage";

import type { CacheIndex, ObjectRecord } from "../index/cache-index.ts";
import type { PartUploadLimits, PartUploadRecord, UploadPart } from "../index/part-upload-index.ts";
import type { IngestedNar, NarIngest } from "./nar-ingest.ts";
import { deletePartBlobs, findStoredParts, partKey } from "./part-blobs.ts";
import { isPartSize, PART_SIZE_HINT } from "./part-size.ts";

/** What a client wants to send in parts. */
export interface PartUploadRequest {
  readonly narHash: string;
  readonly narSize: number;
  readonly partBytes: number;
  /** zstd level to encode a new upload at; one that is open keeps its own. */
  readonly level: number;
}

/** A part as it comes. */
export interface IncomingPart {
  readonly number: number;
  /** What its bytes must turn out to hash to. */
  readonly sha256: string;
  readonly source: AsyncIterable<Buffer>;
  readonly signal: AbortSignal;
}

/** Where an upload stands: `held` when the view has the NAR and nothing need be sent. */
export type BegunUpload =
  | { readonly kind: "held"; readonly object: ObjectRecord }
  | {
      readonly kind: "open";
      readonly id: string;
      /** zstd level of all its parts. */
      readonly level: number;
      readonly parts: readonly number[];
    };

/** `running`: it takes longer than the caller should wait for; to be asked again. */
export type CompletedUpload =
  | { readonly kind: "done"; readonly nar: IngestedNar }
  | { readonly kind: "missing"; readonly parts: readonly number[] }
  | { readonly kind: "running" };

/**
 * Uploads of large NARs in parts, which go on where they were after either side was killed.
 *
 * Parts wait in the store under names of their own, where nobody reads them. Completing an upload takes
 * them in like a NAR that came whole, with every check; it goes on when its client goes away.
 */
export interface PartUploads {
  /**
   * Opens an upload, or finds the one of this NAR that is open.
   *
   * @throws {CacheError} `INVALID` for sizes that no upload can have; `TOO_LARGE`; `CONFLICT` when the view
   *   has too many open.
   */
  begin(viewId: number, request: PartUploadRequest): Promise<BegunUpload>;
  /**
   * Makes a part durable; once more when it is the same.
   *
   * @throws {CacheError} `NOT_FOUND` when the view has no such upload; `INVALID` for a number it does not have;
   *   `CONFLICT` when another part has the number; `TOO_LARGE`, `CORRUPT`.
   */
  putPart(viewId: number, id: string, part: IncomingPart): Promise<UploadPart>;
  /**
   * Makes one object of the parts and removes them.
   *
   * @throws {CacheError} `NOT_FOUND` when the view has no such upload; `CORRUPT` or `TRUNCATED` when the parts
   *   are not the NAR, and then the upload is gone too.
   */
  complete(viewId: number, id: string, signal: AbortSignal): Promise<CompletedUpload>;
  /** @throws {CacheError} `NOT_FOUND`; `CONFLICT` while the upload is being completed. */
  giveUp(viewId: number, id: string): Promise<void>;
  /** Breaks off what is being completed; its parts stay for the next start. */
  stop(): Promise<void>;
}

export interface PartUploadsOptions {
  readonly index: CacheIndex;
  readonly store: BlobStore;
  readonly ingest: NarIngest;
  readonly now: () => number;
  readonly maxNarSizeBytes: number;
  /** How long an upload waits for its next part. */
  readonly maxAgeMs: number;
  readonly limits: PartUploadLimits;
  /** How long a request waits for the completion; shorter than clients and proxies wait for an answer. */
  readonly maxWaitMs: number;
}

const MAX_PARTS = 10_000;

export function createPartUploads(options: PartUploadsOptions): PartUploads {
  const { index, store, now, maxAgeMs } = options;
  const stopping = new AbortController();
  const completions = new Map<string, Promise<IngestedNar>>();

  const requireUpload = async (viewId: number, id: string): Promise<PartUploadRecord> => {
    const upload = await index.findUpload(viewId, id);
    if (upload !== undefined && upload.expiresAtMs > now()) return upload;
    throw new CacheError("NOT_FOUND", `There is no upload ${JSON.stringify(id.slice(0, 100))}`, {
      hint: "It expired, ended or was given up; begin a new one.",
    });
  };

  const findParts = async (upload: PartUploadRecord): Promise<UploadPart[]> =>
    findStoredParts(store, upload, await index.listUploadParts(upload.id));

  const remove = async (upload: PartUploadRecord): Promise<void> => {
    await deletePartBlobs(store, upload);
    await index.deleteUpload(upload.id);
  };

  async function* readParts(
    upload: PartUploadRecord,
    parts: readonly UploadPart[],
  ): AsyncGenerator<Buffer> {
    const { signal } = stopping;
    for (const part of parts) {
      const blob = await store.get(partKey(upload, part), { signal });
      if (blob === undefined) {
        throw new CacheError("UNAVAILABLE", `Part ${part.number} of the upload is gone`);
      }
      await using open = blob;
      yield* open.stream();
    }
  }

  const join = async (
    upload: PartUploadRecord,
    parts: readonly UploadPart[],
  ): Promise<IngestedNar> => {
    const { viewId, narHash, narSize } = upload;
    // The sweep must not take the parts away meanwhile.
    await index.extendUpload(upload.id, now() + maxAgeMs);
    try {
      const nar = await options.ingest.ingest({
        viewId,
        source: readParts(upload, parts),
        compression: "zstd",
        expected: { narHash, narSize },
        keepsFile: false,
        level: levelOf(upload),
        signal: stopping.signal,
      });
      await remove(upload);
      return nar;
    } catch (error) {
      // Which of the parts is wrong nobody can tell.
      if (isCacheError(error, "CORRUPT") || isCacheError(error, "TRUNCATED")) await remove(upload);
      throw error;
    }
  };

  const startJoining = (
    upload: PartUploadRecord,
    parts: readonly UploadPart[],
  ): Promise<IngestedNar> => {
    const joining = join(upload, parts).finally(() => completions.delete(upload.id));
    // Its client may be gone when it fails.
    joining.catch(() => {});
    completions.set(upload.id, joining);
    return joining;
  };

  return {
    async begin(viewId, request) {
      requireSizes(request, options.maxNarSizeBytes);
      const { narHash, partBytes } = request;
      const open = await index.findUploadOfNar(viewId, { narHash, partBytes, nowMs: now() });
      const object = await options.ingest.hold(viewId, narHash);
      if (object !== undefined) {
        // Left by a crash after the NAR was taken in, or the NAR came another way.
        if (open !== undefined && !completions.has(open.id)) await remove(open);
        return { kind: "held", object };
      }
      if (open?.narSize === request.narSize) {
        await index.extendUpload(open.id, now() + maxAgeMs);
        const parts = (await findParts(open)).map(({ number }) => number);
        return { kind: "open", id: open.id, level: levelOf(open), parts };
      }
      const { level, ...facts } = request;
      const id = newUploadId(level);
      const times = { createdAtMs: now(), expiresAtMs: now() + maxAgeMs };
      await index.createUpload({ id, viewId, ...facts, ...times }, options.limits);
      return { kind: "open", id, level, parts: [] };
    },

    async putPart(viewId, id, { number, sha256, source, signal }) {
      const upload = await requireUpload(viewId, id);
      const narBytes = narPartSize(upload, number);
      if (narBytes === 0) {
        throw new CacheError("INVALID", `The upload has no part ${number}`, {
          hint: `Its parts are numbered from 0 to ${countNarParts(upload) - 1}.`,
        });
      }
      const key = partKey(upload, { number, sha256 });
      const { sizeBytes } = await store.put(source, {
        key,
        expected: { sha256 },
        maxSizeBytes: maxEncodedBytes(narBytes),
        signal,
      });
      const part: UploadPart = { number, sizeBytes, sha256 };
      try {
        await index.addUploadPart(id, part);
      } catch (error) {
        await store.delete(key);
        throw error;
      }
      if (upload.expiresAtMs - now() < maxAgeMs / 2) await index.extendUpload(id, now() + maxAgeMs);
      return part;
    },

    async complete(viewId, id, signal) {
      const upload = await requireUpload(viewId, id);
      const parts = completions.has(id) ? [] : await findParts(upload);
      let joining = completions.get(id);
      if (joining === undefined) {
        const missing = missingParts(upload, parts);
        if (missing.length > 0) return { kind: "missing", parts: missing };
        joining = startJoining(upload, parts);
      }
      const nar = await waitFor(joining, options.maxWaitMs, signal);
      return nar === undefined ? { kind: "running" } : { kind: "done", nar };
    },

    async giveUp(viewId, id) {
      const upload = await requireUpload(viewId, id);
      if (completions.has(id)) {
        throw new CacheError("CONFLICT", "The upload is being completed", {
          hint: "Ask again whether it is complete.",
        });
      }
      await remove(upload);
    },

    async stop() {
      stopping.abort(new CacheError("CANCELLED", "The server is stopping"));
      await Promise.allSettled(completions.values());
    },
  };
}

/** The level is in the id: parts that are sent after it was changed are encoded like those that are there. */
function newUploadId(level: number): string {
  return `${String(level).padStart(2, "0")}${randomBytes(16).toString("hex")}`;
}

function levelOf({ id }: PartUploadRecord): number {
  return Number(id.slice(0, 2));
}

function requireSizes(request: PartUploadRequest, maxNarSizeBytes: number): void {
  const { narSize, partBytes } = request;
  if (narSize > maxNarSizeBytes) {
    throw new CacheError(
      "TOO_LARGE",
      `The NAR is larger than the ${maxNarSizeBytes} bytes allowed here`,
      { hint: "The server's limits.maxNarSize sets the bound." },
    );
  }
  if (!isPartSize(partBytes)) {
    throw new CacheError("INVALID", `Parts of ${partBytes} bytes are not accepted`, {
      hint: PART_SIZE_HINT,
    });
  }
  if (countNarParts(request) <= MAX_PARTS) return;
  throw new CacheError("INVALID", `${countNarParts(request)} parts are too many`, {
    hint: `Send at most ${MAX_PARTS}, each of more bytes.`,
  });
}

function missingParts(upload: PartUploadRecord, parts: readonly UploadPart[]): number[] {
  const there = new Set(parts.map(({ number }) => number));
  const numbers = Array.from({ length: countNarParts(upload) }, (_, number) => number);
  return numbers.filter((number) => !there.has(number));
}

/** The outcome, unless it takes longer; a caller that goes away leaves it running. */
async function waitFor<T>(
  running: Promise<T>,
  maxWaitMs: number,
  signal: AbortSignal,
): Promise<T | undefined> {
  const { promise, resolve } = Promise.withResolvers<undefined>();
  const leave = (): void => resolve(undefined);
  const timer = setTimeout(leave, maxWaitMs);
  signal.addEventListener("abort", leave, { once: true });
  try {
    return await Promise.race([running, promise]);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", leave);
  }
}
