import { DuplicateKeyError, parseStrictJson } from "./strict-json.ts";

/** Longer than any forge's token; GitLab's grow with the groups of a user. In characters. */
export const MAX_IDENTITY_TOKEN_LENGTH: number = 16 * 1024;

/** An identity token's readable parts. Nothing in them is proven. */
export interface DecodedIdentityToken {
  readonly header: Readonly<Record<string, unknown>>;
  readonly payload: Readonly<Record<string, unknown>>;
}

/** Why a token could not be read. */
export type DecodeFailure = "too-large" | "malformed" | "duplicate-key";

/**
 * Reads header and payload, and refuses what two readers might understand differently: keys that stand
 * there twice, a base64url that is not the shortest, bytes that are no UTF-8.
 */
export function decodeIdentityToken(token: string): DecodedIdentityToken | DecodeFailure {
  if (token.length > MAX_IDENTITY_TOKEN_LENGTH) return "too-large";
  const [header, payload, signature, ...rest] = token.split(".");
  if (header === undefined || payload === undefined || !signature || rest.length > 0) {
    return "malformed";
  }
  try {
    return { header: decodePart(header), payload: decodePart(payload) };
  } catch (error) {
    return error instanceof DuplicateKeyError ? "duplicate-key" : "malformed";
  }
}

/**
 * The issuer that a token names: good for choosing whose keys to try, and for nothing else.
 *
 * @returns `undefined` when the token cannot be read or names none.
 */
export function readUnverifiedIssuer(token: string): string | undefined {
  const decoded = decodeIdentityToken(token);
  if (typeof decoded === "string" || !Object.hasOwn(decoded.payload, "iss")) return undefined;
  const { iss } = decoded.payload;
  return typeof iss === "string" ? iss : undefined;
}

function decodePart(part: string): Readonly<Record<string, unknown>> {
  const bytes = Buffer.from(part, "base64url");
  if (bytes.toString("base64url") !== part) throw new SyntaxError("No canonical base64url");
  const value = parseStrictJson(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new SyntaxError("No JSON object");
  }
  return value as Record<string, unknown>;
}
