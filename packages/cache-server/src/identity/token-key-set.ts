import { createHash, createPublicKey, KeyObject } from "node:crypto";

import type { RsaTokenKey, TokenKey } from "@glorious/trust";

/** A public key of tokens, as a key set has it (RFC 7517). */
export interface PublishedKey {
  readonly kty: "RSA";
  readonly n: string;
  readonly e: string;
  readonly use: "sig";
  readonly alg: "RS256";
  readonly kid: string;
}

/** The public halves of all keys that have one: whoever gets these can verify tokens and make none. */
export function publishKeys(keys: readonly TokenKey[]): PublishedKey[] {
  return keys.flatMap((key) => (key.algorithm === "RS256" ? [publishKey(key)] : []));
}

/**
 * The key with the id under which it is published: the configured one, else the key's thumbprint (RFC 7638). An HS256
 * key is not published and stays as it is.
 */
export function withKeyId(key: TokenKey): TokenKey {
  return key.algorithm === "RS256" ? { ...key, kid: publishKey(key).kid } : key;
}

function publishKey({ publicKey, kid }: RsaTokenKey): PublishedKey {
  const object =
    publicKey instanceof KeyObject && publicKey.type === "public"
      ? publicKey
      : createPublicKey(publicKey);
  const { n = "", e = "" } = object.export({ format: "jwk" });
  // The members in the order that the thumbprint wants.
  const thumbprint = createHash("sha256").update(JSON.stringify({ e, kty: "RSA", n }));
  const id = kid ?? thumbprint.digest("base64url");
  return { kty: "RSA", n, e, use: "sig", alg: "RS256", kid: id };
}
