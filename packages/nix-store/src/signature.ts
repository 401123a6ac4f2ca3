import {
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  sign,
  verify,
} from "node:crypto";

import { CacheError } from "@glorious/core";

import { formatHash, type NixHash } from "./hash.ts";
import { DEFAULT_STORE_DIR } from "./store-path.ts";

/** An Ed25519 signing key. Its key object shows no key material when printed or serialized. */
export interface SecretKey {
  /** What signatures and public keys of this key start with. */
  readonly name: string;
  readonly keyObject: KeyObject;
}

/** What readers put into `trusted-public-keys`. */
export interface PublicKey {
  readonly name: string;
  /** The 32 raw bytes of the Ed25519 public key. */
  readonly bytes: Buffer;
}

/** `<key name>:<base64>`, as `Sig` lines carry it. */
export interface NarInfoSignature {
  readonly keyName: string;
  /** The 64 bytes of the Ed25519 signature. */
  readonly bytes: Buffer;
}

// An Ed25519 key in DER is one of these prefixes and the raw 32 bytes (RFC 8410, section 7 and 4).
const PKCS8_PREFIX = Buffer.from("302e020100300506032b657004220420", "hex");
const SPKI_PREFIX = Buffer.from("302a300506032b6570032100", "hex");
const publicKeyObjects = new WeakMap<PublicKey, KeyObject>();

/**
 * Makes a new signing key.
 *
 * @throws {CacheError} `INVALID` when the name is empty or holds a colon, a space or a control character.
 */
export function generateSecretKey(name: string): SecretKey {
  requireKeyName(name);
  return { name, keyObject: generateKeyPairSync("ed25519").privateKey };
}

/**
 * Makes the signing key that belongs to 32 bytes of seed: always the same.
 *
 * @throws {CacheError} `INVALID` when the name is none of a key.
 * @throws {Error} when the seed has another length.
 */
export function secretKeyFromSeed(name: string, seed: Uint8Array): SecretKey {
  requireKeyName(name);
  if (seed.length !== 32) throw new Error(`A seed has 32 bytes, not ${seed.length}`);
  return { name, keyObject: toKeyObject(seed) };
}

/**
 * Parses a secret key as Nix writes it: `<name>:<base64 of seed and public key>`.
 *
 * Surrounding white space is dropped, because key files end in a newline.
 *
 * @throws {CacheError} `INVALID` when it is malformed or its two halves do not belong together. The message
 *   never shows the key.
 */
export function parseSecretKey(text: string): SecretKey {
  const { name, bytes } = parseNamed(text, 64, "secret key");
  const keyObject = toKeyObject(bytes.subarray(0, 32));
  if (!rawPublicKey(keyObject).equals(bytes.subarray(32))) {
    throw new CacheError("INVALID", `The secret key ${name} does not match its own public half`);
  }
  return { name, keyObject };
}

/** Formats a secret key for a key file, without a newline. Keep the result out of logs and messages. */
export function formatSecretKey(key: SecretKey): string {
  const pkcs8 = key.keyObject.export({ format: "der", type: "pkcs8" });
  const seed = pkcs8.subarray(PKCS8_PREFIX.length, PKCS8_PREFIX.length + 32);
  return `${key.name}:${Buffer.concat([seed, rawPublicKey(key.keyObject)]).toString("base64")}`;
}

/** The public half of a secret key, under the same name. */
export function toPublicKey(key: SecretKey): PublicKey {
  return { name: key.name, bytes: rawPublicKey(key.keyObject) };
}

/**
 * Parses an entry of `trusted-public-keys`: `<name>:<base64 of 32 bytes>`.
 *
 * @throws {CacheError} `INVALID` when it is malformed.
 */
export function parsePublicKey(text: string): PublicKey {
  return parseNamed(text, 32, "public key");
}

/** Formats a public key for `trusted-public-keys`. */
export function formatPublicKey(key: PublicKey): string {
  return `${key.name}:${key.bytes.toString("base64")}`;
}

/**
 * Parses a `Sig` value.
 *
 * @throws {CacheError} `INVALID` when it is not `<key name>:<base64 of 64 bytes>`.
 */
export function parseSignature(text: string): NarInfoSignature {
  const { name, bytes } = parseNamed(text, 64, "signature");
  return { keyName: name, bytes };
}

/**
 * The text a narinfo's signatures cover.
 *
 * References are sorted and named once, and the hash is nix32, whatever the narinfo shows: Nix rebuilds
 * the text this way before it verifies.
 *
 * @param info.references base names.
 * @see `ValidPathInfo::fingerprint` in NixOS/nix.
 */
export function narInfoFingerprint(info: {
  readonly storePath: string;
  readonly narHash: NixHash;
  readonly narSize: number;
  readonly references: readonly string[];
  readonly storeDir?: string;
}): string {
  const storeDir = info.storeDir ?? DEFAULT_STORE_DIR;
  const references = [...new Set(info.references)].sort().map((base) => `${storeDir}/${base}`);
  return [
    "1",
    info.storePath,
    formatHash(info.narHash, "nix32"),
    String(info.narSize),
    references.join(","),
  ].join(";");
}

/** Signs a fingerprint; the result is a whole `Sig` value. Ed25519 is deterministic: same input, same text. */
export function signFingerprint(key: SecretKey, fingerprint: string): string {
  return `${key.name}:${sign(null, Buffer.from(fingerprint), key.keyObject).toString("base64")}`;
}

/**
 * Tells whether one of the keys made this signature over this fingerprint.
 *
 * Only keys of the signature's name count; a malformed signature is simply not valid.
 */
export function verifySignature(
  keys: readonly PublicKey[],
  fingerprint: string,
  signature: string,
): boolean {
  const [name = "", bytes] = splitNamed(signature);
  if (bytes?.length !== 64) return false;
  return keys.some(
    (key) => key.name === name && verify(null, Buffer.from(fingerprint), keyObjectOf(key), bytes),
  );
}

function keyObjectOf(key: PublicKey): KeyObject {
  const known = publicKeyObjects.get(key);
  if (known !== undefined) return known;
  const der = Buffer.concat([SPKI_PREFIX, key.bytes]);
  const keyObject = createPublicKey({ key: der, format: "der", type: "spki" });
  publicKeyObjects.set(key, keyObject);
  return keyObject;
}

function toKeyObject(seed: Uint8Array): KeyObject {
  const der = Buffer.concat([PKCS8_PREFIX, seed]);
  return createPrivateKey({ key: der, format: "der", type: "pkcs8" });
}

function rawPublicKey(key: KeyObject): Buffer {
  const spki = createPublicKey(key).export({ format: "der", type: "spki" });
  return Buffer.from(spki.subarray(SPKI_PREFIX.length));
}

function parseNamed(
  text: string,
  byteLength: number,
  kind: string,
): { name: string; bytes: Buffer } {
  const [name, bytes] = splitNamed(text.trim());
  if (name === undefined || bytes?.length !== byteLength) {
    throw new CacheError(
      "INVALID",
      `The ${kind} is malformed: <name>:<base64 of ${byteLength} bytes> is wanted`,
    );
  }
  requireKeyName(name);
  return { name, bytes };
}

function splitNamed(text: string): [name?: string, bytes?: Buffer] {
  const colon = text.indexOf(":");
  if (colon < 1) return [];
  const encoded = text.slice(colon + 1);
  const bytes = Buffer.from(encoded, "base64");
  // Buffer skips what is no base64; writing it again tells whether anything was skipped.
  return bytes.toString("base64") === encoded ? [text.slice(0, colon), bytes] : [];
}

function requireKeyName(name: string): void {
  if (!/^[^\s:\p{Cc}]+$/u.test(name)) {
    throw new CacheError("INVALID", `${JSON.stringify(name.slice(0, 80))} is no key name`, {
      hint: "Use a name without colons and spaces, such as cache.example.org-1.",
    });
  }
}
