import { CacheError } from "@glorious/core";

import { decodeNix32, encodeNix32, nix32Length } from "./nix32.ts";

/** The hash algorithms Nix writes into its formats. */
export type HashAlgorithm = "md5" | "sha1" | "sha256" | "sha512";

/** A hash with the algorithm that made it. */
export interface NixHash {
  readonly algorithm: HashAlgorithm;
  /** 16, 20, 32 or 64 bytes, as the algorithm demands. */
  readonly bytes: Buffer;
}

/** `sha256:<nix32>`, `sha256:<hex>` and `sha256-<base64>`. */
export type HashFormat = "nix32" | "base16" | "sri";

const BYTE_LENGTHS: Readonly<Record<HashAlgorithm, number>> = {
  md5: 16,
  sha1: 20,
  sha256: 32,
  sha512: 64,
};
const HEX_SHA256 = /^[0-9a-f]{64}$/;

/** Tells whether `text` names a hash algorithm Nix knows. */
export function isHashAlgorithm(text: string): text is HashAlgorithm {
  return Object.hasOwn(BYTE_LENGTHS, text);
}

/**
 * Parses a hash in any notation Nix reads: `sha256:` followed by hex, nix32 or base64 (told apart by
 * their length), or SRI (`sha256-<base64>`).
 *
 * With `algorithm` the bare value is accepted too, and another algorithm is refused.
 *
 * @throws {CacheError} `INVALID` when the text is none of these.
 * @see `Hash::parseAny` in NixOS/nix.
 */
export function parseHash(text: string, algorithm?: HashAlgorithm): NixHash {
  const [, prefix, separator, rest] = /^([a-z0-9]+)([:-])(.*)$/s.exec(text) ?? [];
  const named = prefix ?? algorithm;
  const value = rest ?? text;
  if (named === undefined || !isHashAlgorithm(named)) {
    throw invalid(text, "it does not start with md5, sha1, sha256 or sha512");
  }
  if (algorithm !== undefined && named !== algorithm) {
    throw invalid(text, `${algorithm} is wanted here`);
  }
  return { algorithm: named, bytes: decodeValue(value, named, separator === "-", text) };
}

/** Formats a hash; {@link parseHash} reads every format back. */
export function formatHash(hash: NixHash, format: HashFormat): string {
  if (format === "nix32") return `${hash.algorithm}:${encodeNix32(hash.bytes)}`;
  if (format === "base16") return `${hash.algorithm}:${hash.bytes.toString("hex")}`;
  return `${hash.algorithm}-${hash.bytes.toString("base64")}`;
}

/** Tells whether two hashes are of one algorithm and value. */
export function equalHashes(left: NixHash, right: NixHash): boolean {
  return left.algorithm === right.algorithm && left.bytes.equals(right.bytes);
}

/**
 * Parses a SHA-256 in any notation, bare or prefixed, into 64 lowercase hex digits.
 *
 * @throws {CacheError} `INVALID` when the text is no SHA-256.
 */
export function parseSha256Hex(text: string): string {
  return HEX_SHA256.test(text) ? text : parseHash(text, "sha256").bytes.toString("hex");
}

/**
 * Turns 64 hex digits into the bare 52 nix32 characters.
 *
 * @throws {CacheError} `INVALID` when the text is not 64 lowercase hex digits.
 */
export function sha256HexToNix32(hex: string): string {
  if (!HEX_SHA256.test(hex)) throw invalid(hex, "64 lowercase hex digits are wanted here");
  return encodeNix32(Buffer.from(hex, "hex"));
}

/**
 * Turns 52 bare nix32 characters into 64 lowercase hex digits.
 *
 * @throws {CacheError} `INVALID` when the text is anything else.
 */
export function nix32ToSha256Hex(text52: string): string {
  if (text52.length !== 52) throw invalid(text52, "52 nix32 characters are wanted here");
  return decodeNix32(text52).toString("hex");
}

function decodeValue(
  value: string,
  algorithm: HashAlgorithm,
  isSri: boolean,
  whole: string,
): Buffer {
  const byteLength = BYTE_LENGTHS[algorithm];
  if (!isSri && value.length === byteLength * 2 && /^[0-9a-fA-F]*$/.test(value)) {
    return Buffer.from(value, "hex");
  }
  if (!isSri && value.length === nix32Length(byteLength)) return decodeNix32(value);
  const bytes = Buffer.from(value, "base64");
  // Buffer skips what is no base64; writing it again tells whether anything was skipped.
  if (bytes.length !== byteLength || bytes.toString("base64") !== value) {
    throw invalid(whole, `no notation of ${algorithm} has this length or these characters`);
  }
  return bytes;
}

function invalid(text: string, reason: string): CacheError {
  const shown = text.length > 160 ? `${text.slice(0, 160)}…` : text;
  return new CacheError("INVALID", `${JSON.stringify(shown)} is not a hash: ${reason}`);
}
