export {
  type ContentAddress,
  type ContentAddressMethod,
  contentAddressedPath,
  formatContentAddress,
  isContentAddressed,
  parseContentAddress,
} from "./content-address.ts";
export { type ContentCheck, createContentCheck } from "./content-check.ts";
export {
  equalHashes,
  formatHash,
  type HashAlgorithm,
  type HashFormat,
  isHashAlgorithm,
  type NixHash,
  nix32ToSha256Hex,
  parseHash,
  parseSha256Hex,
  sha256HexToNix32,
} from "./hash.ts";
export { formatNarInfo, type NarInfo, parseNarInfo } from "./nar-info.ts";
export { decodeNix32, encodeNix32 } from "./nix32.ts";
export { formatNixCacheInfo, type NixCacheInfo, parseNixCacheInfo } from "./nix-cache-info.ts";
export {
  formatPublicKey,
  formatSecretKey,
  generateSecretKey,
  narInfoFingerprint,
  type NarInfoSignature,
  parsePublicKey,
  parseSecretKey,
  parseSignature,
  type PublicKey,
  type SecretKey,
  secretKeyFromSeed,
  signFingerprint,
  toPublicKey,
  verifySignature,
} from "./signature.ts";
export {
  DEFAULT_STORE_DIR,
  isStoreDir,
  isStorePathHash,
  isStorePathName,
  MAX_STORE_PATH_NAME_LENGTH,
  parseStorePath,
  parseStorePathBaseName,
  type StorePath,
} from "./store-path.ts";
export {
  type BlockPool,
  createBlockPool,
  encodeNar,
  type EncodeNarOptions,
} from "./nar-encoder.ts";
export { maxEncodedBytes, NAR_ENCODING } from "./nar-encoding.ts";
export {
  countNarParts,
  type EncodedNarPart,
  encodeNarParts,
  narPartSize,
  type NarParts,
} from "./nar-parts.ts";
export {
  decompressNar,
  type DecompressNarOptions,
  type NarCompression,
  parseNarCompression,
  type XzDecoder,
} from "./nar-decompress.ts";
export { decodeZstd, type DecodeZstdOptions } from "./zstd-decoder.ts";
export {
  createZstdFrameReader,
  type ZstdFrameHandler,
  type ZstdFrameHeader,
  type ZstdFrameReader,
  type ZstdFrameSummary,
} from "./zstd-frames.ts";
export { readZstdWindow } from "./zstd-window.ts";
export { createZstdScanner, type ZstdScanner } from "./zstd-scanner.ts";
export {
  createNarLister,
  formatNarListing,
  type NarLister,
  type NarListerLimits,
  type NarListing,
  type NarListingNode,
  parseNarListing,
} from "./nar-listing.ts";
export {
  createNarReader,
  type NarHandler,
  type NarReader,
  type NarRegularFile,
} from "./nar-reader.ts";
export { type NarEntry, writeNar } from "./nar-writer.ts";
export {
  type BuildTraceEntry,
  buildTraceFingerprint,
  type BuildTraceKey,
  formatBuildTraceEntry,
  formatRealisation,
  formatRealisationId,
  parseBuildTraceEntry,
  parseBuildTraceKey,
  parseRealisation,
  parseRealisationId,
  type Realisation,
  realisationFingerprint,
  type RealisationId,
} from "./realisation.ts";
