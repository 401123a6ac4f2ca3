import { createHash } from "node:crypto";

import { CacheError } from "@glorious/core";

/**
 * The hash of a blob or an action as its 32 bytes: the key in every table and index behind the
 * wire, half as long as the text and free of its spelling.
 */
export type DigestKey = Uint8Array;

/** A digest as people and resource names write it. */
export interface BlobDigest {
  /** SHA-256 in 64 lowercase hexadecimal characters. */
  readonly hash: string;
  /** Size of the content in bytes. */
  readonly sizeBytes: number;
}

/** Bytes of a {@link DigestKey}. */
export const KEY_BYTES = 32;
/** Characters of a hash. */
export const HASH_CHARACTERS = 64;

/** The digest of no bytes at all, which every cache holds. */
export const EMPTY_DIGEST: BlobDigest = Object.freeze({
  hash: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
  sizeBytes: 0,
});

/** The digest of `content`. */
export function digestOf(content: Uint8Array): BlobDigest {
  return { hash: createHash("sha256").update(content).digest("hex"), sizeBytes: content.length };
}

/**
 * Reads a hash.
 *
 * @throws {CacheError} `INVALID` when it is not 64 lowercase hexadecimal characters.
 */
export function parseHash(hash: string): DigestKey {
  const key = Buffer.allocUnsafeSlow(KEY_BYTES);
  if (hash.length !== HASH_CHARACTERS) throw new CacheError("INVALID", describeLength(hash.length));
  if (!decodeHash(Buffer.from(hash, "utf8"), 0, key, 0)) {
    throw new CacheError("INVALID", NOT_HEXADECIMAL);
  }
  return key;
}

/** The text of a hash. */
export function formatHash(key: DigestKey): string {
  return Buffer.from(key.buffer, key.byteOffset, key.length).toString("hex");
}

/** What is wrong with a hash of another length. */
export function describeLength(characters: number): string {
  return characters === 0
    ? "the hash is missing"
    : `the hash has ${characters} characters, a SHA-256 has ${HASH_CHARACTERS}`;
}

/** What is wrong with a size, if anything is. */
export function describeSize(sizeBytes: number): string | undefined {
  if (sizeBytes < 0) return `the size ${sizeBytes} is negative`;
  if (sizeBytes <= Number.MAX_SAFE_INTEGER) return undefined;
  return `the size ${sizeBytes} is larger than any blob`;
}

/** What is wrong with a hash of the right length. */
export const NOT_HEXADECIMAL = "the hash is not lowercase hexadecimal";

// Two characters at a time: 16 rows of a cache line or two are ever touched.
const PAIRS = makePairs();

function makePairs(): Int16Array {
  const pairs = new Int16Array(0x1_00_00).fill(-1);
  for (let value = 0; value < 256; value++) {
    const text = value.toString(16).padStart(2, "0");
    pairs[text.charCodeAt(0) | (text.charCodeAt(1) << 8)] = value;
  }
  return pairs;
}

/**
 * Decodes the 64 characters at `from` into the 32 bytes at `to`. False, with nonsense written, when
 * they are not lowercase hexadecimal.
 */
export function decodeHash(
  source: Uint8Array,
  from: number,
  target: Uint8Array,
  to: number,
): boolean {
  let all = 0;
  for (let index = 0; index < KEY_BYTES; index++) {
    const at = from + 2 * index;
    const value = PAIRS[source[at]! | (source[at + 1]! << 8)]!;
    all |= value;
    target[to + index] = value;
  }
  return all >= 0;
}

const DIGITS = Buffer.from("0123456789abcdef", "latin1");

/** Writes the 32 bytes at `from` as the 64 characters at `to`. */
export function encodeHash(source: Uint8Array, from: number, target: Uint8Array, to: number): void {
  for (let index = 0; index < KEY_BYTES; index++) {
    const value = source[from + index]!;
    target[to + 2 * index] = DIGITS[value >>> 4]!;
    target[to + 2 * index + 1] = DIGITS[value & 15]!;
  }
}
