import { clockSkewMs } from "../../doctor/clock.ts";
import { describeRefusal } from "../../doctor/describe-refusal.ts";
import { failure, ok, skipped, type Verdict } from "../../doctor/finding.ts";
import { judgeToken } from "../../doctor/judge-token.ts";
import { valueOf } from "../../doctor/probe.ts";
import { readerOf } from "../reader.ts";
import type { Snapshot, Target } from "../snapshot.ts";
import { needsToken, tokenOf } from "./check-netrc.ts";
import { useCommand } from "./check-substituter.ts";

/** What Nix's token says of itself: dates and permissions. Only the server can judge the rest. */
export function checkToken(snapshot: Snapshot): Verdict {
  const { target, nowMs } = snapshot;
  const token = tokenOf(snapshot);
  if (token === undefined) return skipped("Nix has no token for this host");
  if (!needsToken(snapshot)) return ok("the view is public: no token is needed");
  return judgeToken({
    token,
    place: "the token in the netrc file",
    view: target.view,
    nowMs,
    skewMs: clockSkewMs(valueOf(snapshot.server.cacheInfo)),
    consequence: "From then on Nix treats every path as absent, without a word.",
    remedy: renewCommand(target),
  });
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
