import { createHash } from "node:crypto";

import { CacheError } from "@glorious/core";
import {
  formatPublicKey,
  formatSecretKey,
  generateSecretKey,
  parseSecretKey,
  type SecretKey,
  toPublicKey,
} from "@glorious/nix-store";

import type { NewSigningKey } from "../index/cache-index.ts";

/**
 * A signing key under a name that no other server uses: readers trust keys by name, and two
 * servers with a view `main` must not take each other's place in `trusted-public-keys`.
 */
export function createSigningKey(
  viewName: string,
  given: SecretKey | undefined,
  createdAtMs: number,
): NewSigningKey {
  const secretKey = given ?? nameAfterKey(generateSecretKey(viewName));
  return {
    name: secretKey.name,
    secretKey: formatSecretKey(secretKey),
    publicKey: formatPublicKey(toPublicKey(secretKey)),
    createdAtMs,
  };
}

/** The key under its name with a part of its public half's hash. */
export function nameAfterKey(key: SecretKey): SecretKey {
  const digest = createHash("sha256").update(toPublicKey(key).bytes).digest("hex");
  return { ...key, name: `${key.name}-${digest.slice(0, 8)}` };
}

/** @throws {CacheError} `INVALID`, without a cause. */
export function parseKeypair(text: string): SecretKey {
  try {
    return parseSecretKey(text);
  } catch {
    // The cause may show a part of the key.
    throw new CacheError("INVALID", "The keypair is not name:base64 of 64 bytes, as Nix writes it");
  }
}
