import { decodeTokenUnverified, parseTokenClaims, permissionsFor } from "@glorious/trust";

/** Whether a token says that it may push to a view; the server decides. */
export function mayPush(token: string | undefined, view: string): boolean {
  if (token === undefined) return false;
  const decoded = decodeTokenUnverified(token);
  // Tokens are opaque to a client: one that cannot be read may still be good.
  if (decoded === undefined) return true;
  try {
    return permissionsFor(parseTokenClaims(decoded.payload), view).has("push");
  } catch {
    return true;
  }
}
