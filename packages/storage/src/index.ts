export { type BlobKey, isBlobKey, parseBlobKey } from "./blob-key.ts";
export type {
  AdoptOptions,
  Blob,
  BlobStat,
  BlobStore,
  ByteRange,
  CleanUpOptions,
  CleanUpResult,
  GetOptions,
  PutOptions,
  PutResult,
  StreamOptions,
  Written,
} from "./blob-store.ts";
export { type ChunkBuffers, createChunkBuffers } from "./chunk-buffers.ts";
export { type FsyncPolicy, makeDurableDirectory, syncDirectory } from "./durable-directory.ts";
export { type FileLock, tryLockFile } from "./file-lock.ts";
export { type FilesystemStoreOptions, openFilesystemStore } from "./filesystem-store.ts";
