import { isCacheError } from "@glorious/core";
import { decodeTokenUnverified, parseTokenClaims, permissionsFor } from "@glorious/trust";

import { failure, ok, type Verdict, warning } from "./finding.ts";

const DAY_MS = 24 * 3600 * 1000;

/** A token, and what it is for. */
export interface TokenCase {
  /** Secret. */
  readonly token: string;
  /** Where it was found, such as `the token in the netrc file`. */
  readonly place: string;
  readonly view: string;
  readonly nowMs: number;
  /** How far the server's clock is ahead of ours, as far as it is known. */
  readonly skewMs: number | undefined;
  /** What happens when it has expired, in a sentence. */
  readonly consequence: string;
  /** The command that brings a good one. */
  readonly remedy: string;
}

/** What a token says of itself: dates and permissions. Only the server can judge the rest. */
export function judgeToken(examined: TokenCase): Verdict {
  const { token, place, view, nowMs, consequence, remedy } = examined;
  const decoded = decodeTokenUnverified(token);
  if (decoded === undefined) {
    return warning(
      `${place} cannot be read: it is no JSON Web Token`,
      "It may be cut off or of another service; only the server can tell.",
      remedy,
    );
  }
  let claims: ReturnType<typeof parseTokenClaims>;
  try {
    claims = parseTokenClaims(decoded.payload);
  } catch (error) {
    const reason = isCacheError(error) ? error.message : "its claims are malformed";
    return failure(`${place} is of no use`, `${reason}.`, remedy);
  }
  // The server judges by its own clock.
  const skewMs = examined.skewMs ?? 0;
  const serverNowMs = nowMs + skewMs;
  const { expiresAtMs, notBeforeMs } = claims;
  if (expiresAtMs !== undefined && expiresAtMs <= serverNowMs) {
    return failure(
      `${place} expired at ${showTime(expiresAtMs)}`,
      expiresAtMs > nowMs
        ? "By this machine's clock it is still good, but the server's is ahead."
        : "The server takes it as no token at all.",
      remedy,
    );
  }
  if (notBeforeMs !== undefined && notBeforeMs > serverNowMs) {
    return failure(
      `${place} is not valid before ${showTime(notBeforeMs)}`,
      `The server's clock says ${showTime(serverNowMs)}.`,
      notBeforeMs > nowMs ? remedy : "sudo timedatectl set-ntp true",
    );
  }
  if (!permissionsFor(claims, view).has("pull")) {
    const named = claims.caches.map(([pattern]) => pattern).join(" ");
    return failure(
      `${place} gives no pull permission on ${view}`,
      named === "" ? "It names no view at all." : `It is for ${named}.`,
      remedy,
    );
  }
  if (expiresAtMs !== undefined && expiresAtMs - serverNowMs < DAY_MS) {
    return warning(`${place} expires soon, at ${showTime(expiresAtMs)}`, consequence, remedy);
  }
  const until = expiresAtMs === undefined ? "for ever" : `until ${showTime(expiresAtMs)}`;
  return ok(`${place} allows to pull from ${view}, ${until}`);
}

function showTime(timeMs: number): string {
  return new Date(timeMs).toISOString();
}
