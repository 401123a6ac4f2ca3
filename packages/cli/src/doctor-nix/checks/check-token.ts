import { isCacheError } from "@glorious/core";
import { decodeTokenUnverified, parseTokenClaims, permissionsFor } from "@glorious/trust";

import { describeRefusal } from "../describe-refusal.ts";
import { failure, ok, skipped, type Verdict, warning } from "../finding.ts";
import { readerOf } from "../reader.ts";
import type { Snapshot, Target } from "../snapshot.ts";
import { clockSkewMs } from "./check-clock.ts";
import { needsToken, tokenOf } from "./check-netrc.ts";
import { useCommand } from "./check-substituter.ts";

const DAY_MS = 24 * 3600 * 1000;

/** What Nix's token says of itself: dates and permissions. Only the server can judge the rest. */
export function checkToken(snapshot: Snapshot): Verdict {
  const { target, nowMs } = snapshot;
  const token = tokenOf(snapshot);
  if (token === undefined) return skipped("Nix has no token for this host");
  if (!needsToken(snapshot)) return ok("the view is public: no token is needed");
  const decoded = decodeTokenUnverified(token);
  if (decoded === undefined) {
    return warning(
      "the token in the netrc file cannot be read: it is no JSON Web Token",
      "It may be cut off or of another service; only the server can tell.",
      renewCommand(target),
    );
  }
  let claims: ReturnType<typeof parseTokenClaims>;
  try {
    claims = parseTokenClaims(decoded.payload);
  } catch (error) {
    const reason = isCacheError(error) ? error.message : "its claims are malformed";
    return failure("the token in the netrc file is of no use", `${reason}.`, renewCommand(target));
  }
  // The server judges by its own clock.
  const skewMs = clockSkewMs(snapshot) ?? 0;
  const serverNowMs = nowMs + skewMs;
  const { expiresAtMs, notBeforeMs } = claims;
  if (expiresAtMs !== undefined && expiresAtMs <= serverNowMs) {
    return failure(
      `the token in the netrc file expired at ${showTime(expiresAtMs)}`,
      expiresAtMs > nowMs
        ? "By this machine's clock it is still good, but the server's is ahead."
        : "The server takes it as no token at all.",
      renewCommand(target),
    );
  }
  if (notBeforeMs !== undefined && notBeforeMs > serverNowMs) {
    return failure(
      `the token in the netrc file is not valid before ${showTime(notBeforeMs)}`,
      `The server's clock says ${showTime(serverNowMs)}.`,
      notBeforeMs > nowMs ? renewCommand(target) : "sudo timedatectl set-ntp true",
    );
  }
  if (!permissionsFor(claims, target.view).has("pull")) {
    const named = claims.caches.map(([pattern]) => pattern).join(" ");
    return failure(
      `the token in the netrc file gives no pull permission on ${target.view}`,
      named === "" ? "It names no view at all." : `It is for ${named}.`,
      renewCommand(target),
    );
  }
  if (expiresAtMs !== undefined && expiresAtMs - serverNowMs < DAY_MS) {
    return warning(
      `the token in the netrc file expires soon, at ${showTime(expiresAtMs)}`,
      "From then on Nix treats every path as absent, without a word.",
      renewCommand(target),
    );
  }
  const until = expiresAtMs === undefined ? "for ever" : `until ${showTime(expiresAtMs)}`;
  return ok(`the token allows to pull from ${target.view}, ${until}`);
}

/** The server lets Nix in with the credentials that Nix sends. */
export function checkAccess(snapshot: Snapshot): Verdict {
  const { server, target, nix, user, network } = snapshot;
  const { cacheInfo } = server;
  if (cacheInfo.state === "skipped") return skipped(cacheInfo.reason);
  if (cacheInfo.state === "failed") {
    return failure(
      `${target.substituter} does not answer: ${cacheInfo.problem}`,
      network.tls.state === "known" || network.connection.state === "known"
        ? "Something accepts the connection, but it does not speak as a cache does."
        : "The connection broke.",
      `curl -v -m 10 ${target.substituter}/nix-cache-info`,
    );
  }
  const { status, body } = cacheInfo.value;
  if (server.askedAs === "user") {
    const answered = `${target.substituter} answers ${status} to you`;
    return skipped(`${answered}; the daemon's token only root can try: run this with sudo`);
  }
  if (status === 200) return ok(`${target.substituter} answers and lets Nix in`);
  const said = describeRefusal(body);
  const cause = said === undefined ? `It answered ${status}.` : `It says: ${said}.`;
  const hasToken = tokenOf(snapshot) !== undefined;
  switch (status) {
    case 401:
    case 407:
      return failure(
        hasToken
          ? `the server refuses Nix's token (${status})`
          : `the server wants a token, and Nix sends none (${status})`,
        cause,
        hasToken ? renewCommand(target) : useCommand(target, readerOf(nix, user)),
      );
    case 403:
      return failure(
        `Nix's token is good, but not for pulling from ${target.view} (403)`,
        cause,
        renewCommand(target),
      );
    case 404:
    case 410:
      return failure(
        `there is no view ${target.view} on the server (${status})`,
        cause,
        "flywheel view list",
      );
    default:
      return failure(
        `${target.substituter} answers ${status}`,
        cause,
        `curl -v -m 10 ${target.substituter}/nix-cache-info`,
      );
  }
}

/** Makes a token that may only pull, and gives it to Nix. */
function renewCommand({ view, serverFlag }: Target): string {
  const create = `flywheel token create --pull ${view} --out nix.token${serverFlag}`;
  return `${create} && flywheel use ${view} --token-file nix.token${serverFlag}`;
}

function showTime(timeMs: number): string {
  return new Date(timeMs).toISOString();
}
