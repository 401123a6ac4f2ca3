import { createPrivateKey, createPublicKey, KeyObject } from "node:crypto";

import { CacheError } from "@glorious/core";

/** A key that signs tokens, verifies them, or both. Secret, except for an RS256 public key alone. */
export type TokenKey = HmacTokenKey | RsaTokenKey;

export interface HmacTokenKey {
  /** Names the key in a token's header, so that several can be in use at once. */
  readonly kid?: string | undefined;
  readonly algorithm: "HS256";
  /** The key's bytes, at least 32: what Attic's setting holds, base64-decoded. */
  readonly secret: Uint8Array;
}

export interface RsaTokenKey {
  readonly kid?: string | undefined;
  readonly algorithm: "RS256";
  /** A key object or PEM text, at least 2048 bits. A private key's PEM serves as well. */
  readonly publicKey: KeyObject | string;
  /** Absent on a server that only verifies. */
  readonly privateKey?: KeyObject | string | undefined;
}

/** The key that checks what `key` signs. @throws {CacheError} `CONFIG` when it is unusable or weak. */
export function toVerifyingKey(key: TokenKey): KeyObject | Uint8Array {
  if (key.algorithm === "HS256") return requireSecret(key);
  return requireRsa(key, () => {
    if (!(key.publicKey instanceof KeyObject)) return createPublicKey(key.publicKey);
    return key.publicKey.type === "private" ? createPublicKey(key.publicKey) : key.publicKey;
  });
}

/** The key that signs. @throws {CacheError} `CONFIG` when it is absent, unusable or weak. */
export function toSigningKey(key: TokenKey): KeyObject | Uint8Array {
  if (key.algorithm === "HS256") return requireSecret(key);
  const { privateKey } = key;
  if (privateKey === undefined) {
    throw new CacheError("CONFIG", `${describeKey(key)} can verify tokens but not sign them`, {
      hint: "Configure the private key, or make tokens where it is.",
    });
  }
  return requireRsa(key, () =>
    privateKey instanceof KeyObject ? privateKey : createPrivateKey(privateKey),
  );
}

function requireSecret(key: HmacTokenKey): Uint8Array {
  if (key.secret.byteLength >= 32) return key.secret;
  throw new CacheError("CONFIG", `${describeKey(key)} has fewer than 32 bytes`, {
    hint: "Make one with `openssl rand -base64 64`.",
  });
}

function requireRsa(key: RsaTokenKey, read: () => KeyObject): KeyObject {
  let object: KeyObject;
  try {
    object = read();
  } catch (cause) {
    throw new CacheError("CONFIG", `${describeKey(key)} is no readable key`, {
      cause,
      hint: "Give an RSA key in PEM form.",
    });
  }
  const bits = object.asymmetricKeyDetails?.modulusLength;
  if (object.asymmetricKeyType === "rsa" && bits !== undefined && bits >= 2048) return object;
  throw new CacheError("CONFIG", `${describeKey(key)} is no RSA key of at least 2048 bits`, {
    hint: "Make one with `openssl genrsa -traditional 4096`.",
  });
}

function describeKey(key: TokenKey): string {
  return `The ${key.algorithm} token key${key.kid === undefined ? "" : ` ${JSON.stringify(key.kid)}`}`;
}
