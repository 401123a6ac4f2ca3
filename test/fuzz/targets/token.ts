import { createHash, generateKeyPairSync } from "node:crypto";

import { isCacheError } from "@glorious/core";
import {
  createTokenVerifier,
  decodeTokenUnverified,
  isCachePattern,
  matchesCachePattern,
  parseAuthorization,
  parseTokenClaims,
  permissionsFor,
  signToken,
  type TokenKey,
} from "@glorious/trust";

import { Finding, type FuzzTarget, type OpenTarget } from "../fuzz-target.ts";

const NOW_MS = 1_800_000_000_000;
/** The same in every run, so that a run can be had again; it guards nothing. */
const HMAC: TokenKey = {
  algorithm: "HS256",
  secret: createHash("sha512").update("fuzz").digest(),
  kid: "h",
};

/** A signature covers the first two parts as they are written. */
const signed = new Set<string>();

/** Two good tokens and one that has expired. */
async function createTokens(rsa: TokenKey): Promise<string[]> {
  const claims = {
    subject: "fuzz",
    caches: [["main*", new Set(["pull", "push"] as const)]] as const,
    isAdmin: false,
    expiresAtMs: NOW_MS + 1e6,
  };
  const tokens = await Promise.all([
    signToken(HMAC, claims),
    signToken(rsa, { ...claims, jti: "one", isAdmin: true }),
    signToken(HMAC, { ...claims, expiresAtMs: NOW_MS - 1e6 }),
  ]);
  for (const token of tokens.slice(0, 2)) signed.add(signedPart(token));
  return tokens;
}

async function open(): Promise<OpenTarget> {
  const { publicKey, privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  const rsa: TokenKey = { algorithm: "RS256", publicKey, privateKey, kid: "r" };
  const tokens = await createTokens(rsa);
  const verifier = createTokenVerifier({ keys: [HMAC, rsa] });
  return {
    async run(input) {
      const text = input.toString("latin1").replaceAll("{{RSA}}", tokens[1] ?? "");
      const credentials = parseAuthorization(text);
      decodeTokenUnverified(text);
      checkClaims(text);
      const verdict = await verifier.verify(credentials?.token ?? text, NOW_MS);
      if (verdict.kind === "invalid") return verdict.reason;
      if (!signed.has(signedPart((credentials?.token ?? text).trim()))) {
        throw new Finding("A token that nobody signed is valid");
      }
      return "valid";
    },
    [Symbol.asyncDispose]: async () => {},
  };
}

function signedPart(token: string): string {
  return token.split(".").slice(0, 2).join(".");
}

function checkClaims(text: string): void {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return;
  }
  try {
    const claims = parseTokenClaims(value);
    for (const [pattern] of claims.caches) {
      if (isCachePattern(pattern)) matchesCachePattern(pattern, "main");
    }
    permissionsFor(claims, "main");
  } catch (error) {
    if (!isCacheError(error)) throw error;
  }
}

export const tokenTarget: FuzzTarget = {
  name: "token",
  summary: "text as an Authorization header, a token or claims: never valid unless it was signed",
  seeds: async () => {
    const tokens = await createTokens(HMAC);
    return [
      ...tokens.flatMap((token) => [token, `Bearer ${token}`]),
      `Basic ${Buffer.from(`user:${tokens[0]}`).toString("base64")}`,
      "Bearer {{RSA}}",
      "{{RSA}}",
      JSON.stringify({
        exp: 1_900_000_000,
        sub: "fuzz",
        "https://jwt.attic.rs/v1": { caches: { "main-*": { r: 1, w: 1, d: 0 } } },
        "https://gloriousflywheel.dev/v1": { admin: 1 },
      }),
      `${Buffer.from('{"alg":"none"}').toString("base64url")}.${Buffer.from("{}").toString("base64url")}.`,
    ].map((text) => Buffer.from(text, "latin1"));
  },
  dictionary: [
    ...["Bearer ", "bearer ", "Basic ", ".", "..", "eyJhbGciOiJub25lIn0", "eyJhbGciOiJIUzI1NiJ9"],
    ...['{"r":1}', '"caches"', '"*"', '"exp"', "1e999", "-1", "null", "[]", "{{RSA}}", "\\u0000"],
  ],
  maxBytes: 4096,
  guides: /\/trust\/src\//,
  open,
};
