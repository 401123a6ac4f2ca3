import { CacheError } from "@glorious/core";
import type { JWK } from "jose";

import { parseStrictJson } from "./strict-json.ts";

/** An issuer's published keys (RFC 7517). */
export interface JsonWebKeySet {
  readonly keys: readonly JWK[];
}

// The forges publish two to five.
const MAX_KEYS = 100;

/**
 * Parses what an issuer publishes as its keys. Keys of types that nobody here can use are kept and never
 * used; a broken key does not spoil the others.
 *
 * @throws {CacheError} `CORRUPT` when the text is no key set, or one with more than 100 keys.
 */
export function parseKeySet(text: string): JsonWebKeySet {
  let value: unknown;
  try {
    value = parseStrictJson(text);
  } catch (cause) {
    throw new CacheError("CORRUPT", "The issuer's key set is no JSON", { cause });
  }
  const keys =
    typeof value === "object" && value !== null && "keys" in value ? value.keys : undefined;
  if (!Array.isArray(keys)) {
    throw new CacheError("CORRUPT", "The issuer's key set has no list of keys");
  }
  if (keys.length > MAX_KEYS) {
    throw new CacheError("CORRUPT", `The issuer's key set has more than ${MAX_KEYS} keys`);
  }
  return { keys: keys.filter(isKey) };
}

function isKey(value: unknown): value is JWK {
  if (typeof value !== "object" || value === null) return false;
  return Object.entries(value).every(([name, part]) => {
    if (name === "key_ops") return Array.isArray(part);
    return (
      !["kty", "kid", "use", "alg", "crv", "n", "e", "x", "y"].includes(name) ||
      typeof part === "string"
    );
  });
}
