import type { KeyObject } from "node:crypto";

import { CacheError, describeError } from "@glorious/core";
import { compactVerify, errors } from "jose";

import { decodeTokenUnverified } from "./decode-token.ts";
import { parseTokenClaims, type TokenClaims } from "./token-claims.ts";
import { type TokenKey, toVerifyingKey } from "./token-key.ts";

/** What {@link createTokenVerifier} needs. */
export interface TokenVerifierOptions {
  /** At least one. Several let old and new tokens live side by side while a key is replaced. */
  readonly keys: readonly TokenKey[];
  /** When set, a token must name this issuer. */
  readonly issuer?: string | undefined;
  /** When set and not empty, a token must name at least one of these audiences. */
  readonly audiences?: readonly string[] | undefined;
  /** Refuses tokens that never expire. Default `true`. */
  readonly requireExpiry?: boolean | undefined;
  /**
   * How far this clock and the one that made the token may be apart, in seconds, for expiry and start
   * alike. Default 60: enough for machines that keep time, short enough that a withdrawn token is
   * soon dead (Attic's library allows 15 minutes after expiry and nothing before the start).
   */
  readonly clockToleranceSeconds?: number | undefined;
}

/** Why a token is refused. */
export type TokenRefusal =
  | "malformed"
  | "unknown-key"
  | "bad-signature"
  | "expired"
  | "not-yet-valid"
  | "no-expiry"
  | "wrong-issuer"
  | "wrong-audience"
  | "bad-claims";

/** What became of a token. `message` is for people and holds nothing secret. */
export type TokenVerdict =
  | { readonly kind: "valid"; readonly claims: TokenClaims }
  | { readonly kind: "invalid"; readonly reason: TokenRefusal; readonly message: string };

type InvalidToken = Extract<TokenVerdict, { kind: "invalid" }>;

export interface TokenVerifier {
  /** Judges a token at a moment, in milliseconds since the epoch. Never throws because of the token. */
  verify(token: string, nowMs: number): Promise<TokenVerdict>;
}

interface Candidate {
  readonly kid: string | undefined;
  readonly algorithm: TokenKey["algorithm"];
  readonly key: KeyObject | Uint8Array;
}

// Longer than any HTTP header that Node accepts.
const MAX_TOKEN_LENGTH = 16 * 1024;
const MAX_REMEMBERED = 1024;

/**
 * Makes a judge of tokens. Signatures are checked before anything the token claims is believed.
 *
 * A token that names a `kid` is tried with the keys of that name and with nameless ones, any other
 * with every key; always only with keys of the token's own algorithm. Signatures found good are
 * remembered for the last 1024 tokens, times are judged anew on every call.
 *
 * @throws {CacheError} `CONFIG` when there is no key, or one is unusable.
 */
export function createTokenVerifier(options: TokenVerifierOptions): TokenVerifier {
  const candidates = options.keys.map((key) => ({
    kid: key.kid,
    algorithm: key.algorithm,
    key: toVerifyingKey(key),
  }));
  if (candidates.length === 0) {
    throw new CacheError("CONFIG", "There is no key to verify tokens with");
  }
  const remembered = new Map<string, TokenClaims>();

  return {
    async verify(token, nowMs) {
      let claims = remembered.get(token);
      if (claims === undefined) {
        const proven = await proveClaims(token, candidates);
        if ("kind" in proven) return proven;
        claims = proven;
      }
      // Deleting first makes the map's order that of the last use.
      remembered.delete(token);
      remembered.set(token, claims);
      if (remembered.size > MAX_REMEMBERED) {
        const oldest = remembered.keys().next();
        if (oldest.done !== true) remembered.delete(oldest.value);
      }
      return judgeClaims(claims, options, nowMs) ?? { kind: "valid", claims };
    },
  };
}

async function proveClaims(
  token: string,
  candidates: readonly Candidate[],
): Promise<TokenClaims | InvalidToken> {
  const decoded = token.length > MAX_TOKEN_LENGTH ? undefined : decodeTokenUnverified(token);
  if (decoded === undefined) return invalid("malformed", "The token is no JSON Web Token");
  const { alg, kid, typ } = decoded.header;
  if (typ !== undefined && (typeof typ !== "string" || typ.toUpperCase() !== "JWT")) {
    return invalid("malformed", "The token's header says that it is of another type than JWT");
  }
  if (kid !== undefined && typeof kid !== "string") {
    return invalid("malformed", "The token's key id is no text");
  }
  const fitting = candidates.filter(
    (candidate) =>
      candidate.algorithm === alg &&
      (kid === undefined || candidate.kid === undefined || candidate.kid === kid),
  );
  if (fitting.length === 0) {
    return invalid("unknown-key", "The token is signed with a key that this server does not know");
  }
  for (const candidate of fitting) {
    try {
      await compactVerify(token, candidate.key, { algorithms: [candidate.algorithm] });
      return parseTokenClaims(decoded.payload);
    } catch (error) {
      if (error instanceof errors.JWSSignatureVerificationFailed) continue;
      if (error instanceof errors.JOSEError) {
        return invalid("malformed", "The token is no JSON Web Token that this server can read");
      }
      if (error instanceof CacheError) return invalid("bad-claims", describeError(error));
      throw error;
    }
  }
  return invalid(
    "bad-signature",
    "The token's signature is wrong: it was changed, or made elsewhere",
  );
}

function judgeClaims(
  claims: TokenClaims,
  options: TokenVerifierOptions,
  nowMs: number,
): InvalidToken | undefined {
  const toleranceMs = (options.clockToleranceSeconds ?? 60) * 1000;
  const { expiresAtMs, notBeforeMs } = claims;
  if (expiresAtMs === undefined) {
    if (options.requireExpiry ?? true) {
      return invalid("no-expiry", "The token never expires, which this server does not accept");
    }
  } else if (nowMs > expiresAtMs + toleranceMs) {
    return invalid("expired", `The token expired at ${formatTime(expiresAtMs)}`);
  }
  if (notBeforeMs !== undefined && nowMs < notBeforeMs - toleranceMs) {
    return invalid("not-yet-valid", `The token is valid from ${formatTime(notBeforeMs)} on`);
  }
  if (options.issuer !== undefined && claims.issuer !== options.issuer) {
    return invalid("wrong-issuer", "The token is from another issuer than this server trusts");
  }
  const audiences = options.audiences ?? [];
  if (audiences.length > 0 && !audiences.some((name) => claims.audiences?.includes(name))) {
    return invalid("wrong-audience", "The token is meant for another service than this server");
  }
  return undefined;
}

function invalid(reason: TokenRefusal, message: string): InvalidToken {
  return { kind: "invalid", reason, message };
}

function formatTime(timeMs: number): string {
  return new Date(timeMs).toISOString();
}
