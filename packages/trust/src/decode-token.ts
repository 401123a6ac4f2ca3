import { decodeJwt, decodeProtectedHeader } from "jose";

/** A token's two readable parts. Nothing in them is proven. */
export interface DecodedToken {
  readonly header: Readonly<Record<string, unknown>>;
  readonly payload: Readonly<Record<string, unknown>>;
}

/**
 * Reads a token without verifying it: for showing it to its holder, never for a decision.
 *
 * A client must treat a token as opaque, so one that cannot be read is `undefined` and no error.
 */
export function decodeTokenUnverified(token: string): DecodedToken | undefined {
  try {
    return { header: { ...decodeProtectedHeader(token) }, payload: { ...decodeJwt(token) } };
  } catch {
    return undefined;
  }
}
