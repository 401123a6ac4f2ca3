import { compactVerify, type CryptoKey, errors, importJWK, type JWK } from "jose";

import { ClaimError } from "./claims-reader.ts";
import {
  type DecodedIdentityToken,
  type DecodeFailure,
  decodeIdentityToken,
  MAX_IDENTITY_TOKEN_LENGTH,
} from "./decode-identity-token.ts";
import {
  DEFAULT_IDENTITY_ALGORITHMS,
  IDENTITY_ALGORITHMS,
  type IdentityAlgorithm,
  type IdentityIssuer,
} from "./identity-issuer.ts";
import type { JsonWebKeySet } from "./key-set.ts";
import type { Principal } from "./principal.ts";
import { readPrincipal } from "./read-principal.ts";

/** Why an identity token is refused. The codes never change their meaning. */
export type IdentityRefusal =
  | DecodeFailure
  | "wrong-type"
  | "wrong-algorithm"
  | "unknown-key"
  | "bad-signature"
  | "wrong-issuer"
  | "wrong-audience"
  | "no-expiry"
  | "expired"
  | "not-yet-valid"
  | "too-long-lived"
  | "bad-claims";

/** What became of an identity token. `message` is for the operator and holds no value of the token. */
export type IdentityVerdict =
  | {
      readonly kind: "verified";
      readonly principal: Principal;
      /** The token's own id, where the issuer gives one. */
      readonly jti: string | undefined;
      readonly issuedAtMs: number;
      readonly expiresAtMs: number;
    }
  | { readonly kind: "refused"; readonly code: IdentityRefusal; readonly message: string };

/** What {@link verifyIdentityToken} judges by. */
export interface IdentityContext {
  readonly issuer: IdentityIssuer;
  /** The issuer's keys as far as they are known. */
  readonly jwks: JsonWebKeySet;
  readonly nowMs: number;
  /** How far this clock and the issuer's may be apart. Default 60, at most 300. */
  readonly clockToleranceSeconds?: number | undefined;
}

type Refused = Extract<IdentityVerdict, { kind: "refused" }>;

const DEFAULT_MAX_LIFETIME_SECONDS = 86_400;
const MAX_CLOCK_TOLERANCE_SECONDS = 300;
// An issuer with more keys than this under one id is broken, and each costs a signature check.
const MAX_KEYS_TO_TRY = 8;

const DECODE_MESSAGES: Readonly<Record<DecodeFailure, string>> = {
  "too-large": `The token is longer than ${MAX_IDENTITY_TOKEN_LENGTH} characters`,
  malformed: "The token is no JSON Web Token",
  "duplicate-key": "The token names a key twice, so that two readers may understand it differently",
};

/**
 * Verifies one identity token: its signature by a key of the issuer, then for whom, by whom and for when
 * it was made, then its claims. Never throws because of the token.
 *
 * `unknown-key` means that newer keys may help; every other refusal is final for this token.
 */
export async function verifyIdentityToken(
  token: string,
  context: IdentityContext,
): Promise<IdentityVerdict> {
  const decoded = decodeIdentityToken(token);
  if (typeof decoded === "string") return refuse(decoded, DECODE_MESSAGES[decoded]);
  return (
    (await proveSignature(token, decoded, context)) ??
    judgeIssuerAndAudience(decoded.payload, context.issuer) ??
    judgeTimesAndClaims(decoded.payload, context)
  );
}

async function proveSignature(
  token: string,
  { header }: DecodedIdentityToken,
  { issuer, jwks }: IdentityContext,
): Promise<Refused | undefined> {
  const { alg, kid, typ, crit } = header;
  if (typ !== undefined && (typeof typ !== "string" || typ.toUpperCase() !== "JWT")) {
    return refuse("wrong-type", "The token's header says that it is of another type than JWT");
  }
  if (kid !== undefined && typeof kid !== "string") {
    return refuse("malformed", "The token's key id is no text");
  }
  if (crit !== undefined) {
    return refuse("malformed", "The token's header asks for extensions, which no issuer uses");
  }
  const algorithm = IDENTITY_ALGORITHMS.find(
    (name) => name === alg && (issuer.algorithms ?? DEFAULT_IDENTITY_ALGORITHMS).includes(name),
  );
  if (algorithm === undefined) {
    return refuse("wrong-algorithm", "The token is signed in a way that its issuer does not use");
  }
  const keys = jwks.keys
    .filter((key) => isCandidate(key, kid, algorithm))
    .slice(0, MAX_KEYS_TO_TRY);
  let isTried = false;
  for (const jwk of keys) {
    const key = await importPublicKey(jwk, algorithm);
    if (key === undefined) continue;
    isTried = true;
    try {
      await compactVerify(token, key, { algorithms: [algorithm] });
      return undefined;
    } catch (error) {
      if (error instanceof errors.JWSSignatureVerificationFailed) continue;
      if (error instanceof errors.JOSEError) return refuse("malformed", DECODE_MESSAGES.malformed);
      throw error;
    }
  }
  return isTried
    ? refuse("bad-signature", "The token's signature is wrong: it was changed, or made elsewhere")
    : refuse("unknown-key", "The token is signed with a key that its issuer does not publish");
}

function isCandidate(key: JWK, kid: string | undefined, algorithm: IdentityAlgorithm): boolean {
  return (
    (kid === undefined || key.kid === kid) &&
    (key.use === undefined || key.use === "sig") &&
    (key.alg === undefined || key.alg === algorithm) &&
    (key.key_ops === undefined || key.key_ops.includes("verify")) &&
    fitsKeyType(key, algorithm)
  );
}

function fitsKeyType(key: JWK, algorithm: IdentityAlgorithm): boolean {
  if (algorithm === "EdDSA") return key.kty === "OKP" && key.crv === "Ed25519";
  if (!algorithm.startsWith("ES")) return key.kty === "RSA";
  const curve = { ES256: "P-256", ES384: "P-384", ES512: "P-521" }[algorithm as "ES256"];
  return key.kty === "EC" && key.crv === curve;
}

/** A key of the set; `undefined` when it is malformed or weak, as a key that is not there. */
async function importPublicKey(
  { kty, n, e, crv, x, y }: JWK,
  algorithm: IdentityAlgorithm,
): Promise<CryptoKey | undefined> {
  try {
    const parts = Object.entries({ kty, n, e, crv, x, y }).filter(([, part]) => part !== undefined);
    const key = await importJWK(Object.fromEntries(parts) as JWK, algorithm);
    if (key instanceof Uint8Array) return undefined;
    const { modulusLength } = key.algorithm as { modulusLength?: number };
    return modulusLength !== undefined && modulusLength < 2048 ? undefined : key;
  } catch {
    return undefined;
  }
}

function judgeIssuerAndAudience(
  payload: Readonly<Record<string, unknown>>,
  issuer: IdentityIssuer,
): Refused | undefined {
  const { iss, aud } = payload;
  if (iss !== issuer.issuer) {
    return refuse(
      "wrong-issuer",
      "The token names another issuer than the one whose key signed it",
    );
  }
  const audiences: readonly unknown[] = Array.isArray(aud) ? aud : [aud];
  const ours = audiences.filter(
    (name) => typeof name === "string" && issuer.audiences.includes(name),
  );
  if (ours.length === 0) {
    return refuse("wrong-audience", "The token is meant for another service than this server");
  }
  // Whoever else receives such a token could come here with it.
  if (ours.length < audiences.length) {
    return refuse("wrong-audience", "The token is meant for other services beside this server");
  }
  return undefined;
}

function judgeTimesAndClaims(
  payload: Readonly<Record<string, unknown>>,
  { issuer, nowMs, clockToleranceSeconds = 60 }: IdentityContext,
): IdentityVerdict {
  const toleranceMs = Math.min(clockToleranceSeconds, MAX_CLOCK_TOLERANCE_SECONDS) * 1000;
  const expiresAtMs = readTimeMs(payload["exp"]);
  const issuedAtMs = readTimeMs(payload["iat"]);
  if (expiresAtMs === undefined || issuedAtMs === undefined) {
    return refuse("no-expiry", "The token does not say when it was made and when it expires");
  }
  const notBeforeMs = payload["nbf"] === undefined ? issuedAtMs : readTimeMs(payload["nbf"]);
  if (notBeforeMs === undefined) return refuse("bad-claims", 'The claim "nbf" is no time');
  if (nowMs >= expiresAtMs + toleranceMs) return refuse("expired", "The token has expired");
  if (Math.max(notBeforeMs, issuedAtMs) > nowMs + toleranceMs) {
    return refuse("not-yet-valid", "The token is not valid yet: compare the clocks");
  }
  const maxLifetimeSeconds = issuer.maxLifetimeSeconds ?? DEFAULT_MAX_LIFETIME_SECONDS;
  if (expiresAtMs - issuedAtMs > maxLifetimeSeconds * 1000) {
    return refuse(
      "too-long-lived",
      `The token is valid for more than ${maxLifetimeSeconds} seconds`,
    );
  }
  const { jti } = payload;
  if (jti !== undefined && (typeof jti !== "string" || jti.length > 256)) {
    return refuse("bad-claims", 'The claim "jti" is no short text');
  }
  try {
    const principal = readPrincipal(issuer, payload);
    return { kind: "verified", principal, jti, issuedAtMs, expiresAtMs };
  } catch (error) {
    if (error instanceof ClaimError) return refuse("bad-claims", error.message);
    throw error;
  }
}

function readTimeMs(seconds: unknown): number | undefined {
  // Beyond the maximum a Date cannot tell the time any more.
  return typeof seconds === "number" && seconds >= 0 && seconds <= 8.64e12
    ? seconds * 1000
    : undefined;
}

function refuse(code: IdentityRefusal, message: string): Refused {
  return { kind: "refused", code, message };
}
