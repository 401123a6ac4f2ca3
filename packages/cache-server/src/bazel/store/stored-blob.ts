import { CacheError, isCacheError } from "@glorious/core";
import type { BlobStore } from "@glorious/storage";

import type { ObjectRow } from "./bazel-index.ts";
import type { StoredBlob } from "./bazel-store.ts";

const EMPTY: StoredBlob = {
  sizeBytes: 0,
  form: "identity",
  storedBytes: 0,
  bytes: Buffer.alloc(0),
  open: () => Promise.reject(new Error("The empty blob is at hand")),
};

/** The blob of no bytes. */
export function emptyBlob(): StoredBlob {
  return EMPTY;
}

/** A blob of a pack. It was not stored as zstd unless that made it smaller. */
export function packedBlob(bytes: Buffer, sizeBytes: number): StoredBlob {
  return {
    sizeBytes,
    form: bytes.length < sizeBytes ? "zstd" : "identity",
    storedBytes: bytes.length,
    bytes,
    open: () => Promise.reject(new Error("The blob's bytes are at hand")),
  };
}

/** A blob as the index knows it. */
export function toStoredBlob(
  row: ObjectRow,
  {
    files,
    name,
    onLost,
  }: {
    readonly files: BlobStore;
    readonly name: () => string;
    /** Told when the bytes are gone or have another size. */
    readonly onLost: () => Promise<void>;
  },
): StoredBlob {
  const { sizeBytes, storedBytes, file, data } = row;
  return {
    sizeBytes,
    storedBytes,
    form: row.form === 1 ? "zstd" : "identity",
    bytes: data === null ? undefined : Buffer.from(data.buffer, data.byteOffset, data.byteLength),
    async open(range, signal) {
      if (data !== null) throw new Error("The blob's bytes are at hand");
      const blob =
        file === null
          ? undefined
          : await files.get(file, { range, signal }).catch((error: unknown) => {
              if (isCacheError(error) && error.code === "RANGE") return undefined;
              throw error;
            });
      if (blob?.sizeBytes === storedBytes) return blob;
      await blob?.[Symbol.asyncDispose]();
      await onLost();
      throw new CacheError("NOT_FOUND", `The stored bytes of ${name()} are gone or damaged`, {
        hint: "Build or upload it again: that stores it anew.",
      });
    },
  };
}
