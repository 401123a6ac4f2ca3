import { CacheError } from "@glorious/core";

import type { DigestList } from "./digest-list.ts";
import { HASH_CHARACTERS, NOT_HEXADECIMAL, describeLength } from "./digest.ts";
import type { BlobCompressor } from "./request-fields.ts";

/** What a ByteStream name says beside the digest. */
export interface BlobResource {
  readonly instanceName: string;
  readonly compressor: BlobCompressor;
}

/** The same of a name to write to. */
export interface UploadResource extends BlobResource {
  /** The client's own; the same one again goes on with the same upload. */
  readonly uploadId: string;
}

const MAX_NAME_CHARACTERS = 4096;
const MAX_UPLOAD_ID_CHARACTERS = 128;
const DIGEST_FUNCTION = "sha256";
// What the contract lists and we do not have; anything else in that place is a wrong hash.
const OTHER_FUNCTIONS: ReadonlySet<string> = new Set(
  "sha1 md5 vso sha384 sha512 murmur3 sha256tree blake3 gitsha1".split(" "),
);
/** The first of these ends the instance name. */
const KEYWORDS: ReadonlySet<string> = new Set(["blobs", "uploads", "compressed-blobs"]);
const SIZE = /^(?:0|[1-9][0-9]{0,15})$/;

/**
 * Reads `[<instance>/]blobs/<hash>/<size>` or `[<instance>/]compressed-blobs/zstd/<hash>/<size>`;
 * `digests` is cleared and gets the digest. What follows the size is ignored.
 *
 * @throws {CacheError} `INVALID` when it is another name, or names another hash or compressor.
 */
export function parseReadResourceName(name: string, digests: DigestList): BlobResource {
  const { segments, start } = splitName(name);
  if (segments[start] === "uploads") throw invalid(name, "is one to write to");
  const compressor = readBlob(segments, start, name, digests);
  return { instanceName: segments.slice(0, start).join("/"), compressor };
}

/**
 * Reads `[<instance>/]uploads/<uuid>/blobs/<hash>/<size>` or the same with `compressed-blobs/zstd`;
 * `digests` is cleared and gets the digest. What follows the size is ignored.
 *
 * @throws {CacheError} `INVALID` when it is another name, or names another hash or compressor.
 */
export function parseWriteResourceName(name: string, digests: DigestList): UploadResource {
  const { segments, start } = splitName(name);
  if (segments[start] !== "uploads") throw invalid(name, 'has no "uploads" in it');
  const uploadId = segments[start + 1] ?? "";
  if (uploadId === "" || uploadId.length > MAX_UPLOAD_ID_CHARACTERS) {
    throw invalid(name, "has no upload id, or one that is too long");
  }
  const compressor = readBlob(segments, start + 2, name, digests);
  return { instanceName: segments.slice(0, start).join("/"), compressor, uploadId };
}

/** The parts of a name, and which of them ends the instance name. */
function splitName(name: string): { segments: string[]; start: number } {
  if (name.length > MAX_NAME_CHARACTERS) throw invalid(name, "is too long");
  const segments = name.split("/");
  return { segments, start: segments.findIndex((segment) => KEYWORDS.has(segment)) };
}

function readBlob(
  segments: readonly string[],
  start: number,
  name: string,
  digests: DigestList,
): BlobCompressor {
  const isCompressed = segments[start] === "compressed-blobs";
  if (!isCompressed && segments[start] !== "blobs") {
    throw invalid(name, 'has neither "blobs" nor "compressed-blobs" where one belongs');
  }
  if (isCompressed && segments[start + 1] !== "zstd") {
    throw invalid(name, "has another compressor than zstd");
  }
  let at = start + (isCompressed ? 2 : 1);
  const first = segments[at] ?? "";
  if (OTHER_FUNCTIONS.has(first)) {
    throw invalid(name, `has the digest function ${first}; only sha256 is supported`);
  }
  if (first === DIGEST_FUNCTION) at++;
  const hash = segments[at] ?? "";
  const size = segments[at + 1] ?? "";
  if (hash.length !== HASH_CHARACTERS)
    throw invalid(name, `is malformed: ${describeLength(hash.length)}`);
  if (!SIZE.test(size) || !Number.isSafeInteger(Number(size))) {
    throw invalid(name, "has no size in bytes after its hash");
  }
  digests.clear();
  if (!digests.tryPushHash(Buffer.from(hash, "utf8"), 0, Number(size))) {
    throw invalid(name, `is malformed: ${NOT_HEXADECIMAL}`);
  }
  return isCompressed ? "zstd" : "identity";
}

/** What a blob's name is made of. */
export interface BlobResourceParts extends BlobResource {
  readonly hash: string;
  readonly sizeBytes: number;
}

/** The name to read a blob by. */
export function formatReadResourceName(parts: BlobResourceParts): string {
  return `${prefixOf(parts.instanceName)}${formatBlob(parts)}`;
}

/** The name to write a blob by. */
export function formatWriteResourceName(parts: BlobResourceParts & UploadResource): string {
  return `${prefixOf(parts.instanceName)}uploads/${parts.uploadId}/${formatBlob(parts)}`;
}

function prefixOf(instanceName: string): string {
  return instanceName === "" ? "" : `${instanceName}/`;
}

function formatBlob({ compressor, hash, sizeBytes }: BlobResourceParts): string {
  return `${compressor === "zstd" ? "compressed-blobs/zstd" : "blobs"}/${hash}/${sizeBytes}`;
}

function invalid(name: string, problem: string): CacheError {
  return new CacheError(
    "INVALID",
    `the resource name ${JSON.stringify(name.slice(0, 300))} ${problem}`,
    {
      hint: "Names are [<instance>/][uploads/<uuid>/]blobs/<hash>/<size>, or compressed-blobs/zstd for blobs.",
    },
  );
}
