import { toHttpUrl } from "@glorious/cache-client";

import { clockSkewMs } from "../../doctor/clock.ts";
import { failure, ok, skipped, type Verdict, warning } from "../../doctor/finding.ts";
import { judgeToken } from "../../doctor/judge-token.ts";
import { matchNetrc } from "../../doctor/netrc-match.ts";
import { reasonOf, valueOf } from "../../doctor/probe.ts";
import { authorizationOf, renewCommand, tokenOf, useCommand } from "../facts.ts";
import type { Snapshot } from "../snapshot.ts";

/** Bazel finds a token for the cache's address. */
export function checkCredential(snapshot: Snapshot): Verdict {
  const { credential, target } = snapshot;
  const { host } = toHttpUrl(target.remoteCache);
  if (credential.kind === "option") {
    return ok(`${credential.file} line ${credential.line} gives a token as a header`);
  }
  if (credential.kind === "helper") {
    const { command, header } = credential;
    if (header.state !== "known") {
      return failure(
        `the credential helper ${command} fails: ${reasonOf(header)}`,
        "Bazel ends a build whose helper fails.",
        useCommand(target),
      );
    }
    if (header.value !== undefined) return ok(`${command} gives a token for ${host}`);
    if (isPublic(snapshot))
      return ok("the helper gives no token; the view is public and needs none");
    return failure(
      `the credential helper ${command} gives no token for ${host}`,
      "There is no token for that very address, or it has expired.",
      renewCommand(target),
    );
  }
  const { netrc, host: name } = credential;
  if (authorizationOf(credential) === undefined) {
    if (isPublic(snapshot)) return ok("there is no token; the view is public and needs none");
    return failure(
      netrc.entries.state === "failed"
        ? `the netrc file cannot be read: ${netrc.entries.problem}`
        : `Bazel finds no token for ${name}`,
      netrc.entries.state === "known"
        ? `${netrc.path ?? ""} has no entry for it, and no credential helper is named for it.`
        : `${reasonOf(netrc.entries)}, and no credential helper is named for it.`,
      useCommand(target),
    );
  }
  const { hidden } = matchNetrc(valueOf(netrc.entries) ?? [], name);
  if (hidden.length > 0) {
    return warning(
      `${netrc.path ?? ""} has several tokens for ${name}`,
      "netrc knows no ports, so two servers on one host share one entry.",
      useCommand(target),
    );
  }
  if (((netrc.mode ?? 0) & 0o077) !== 0) {
    return warning(
      `other users of this machine can read the tokens in ${netrc.path ?? ""}`,
      `Its rights are ${(netrc.mode ?? 0).toString(8)}.`,
      `chmod go-rwx ${netrc.path ?? ""}`,
    );
  }
  return ok(`${netrc.path ?? ""} has a token for ${name}`);
}

/** What the token says of itself. */
export function checkToken(snapshot: Snapshot): Verdict {
  const { credential, target, nowMs, faces } = snapshot;
  const token = tokenOf(credential);
  if (token === undefined) return skipped("Bazel has no token for this address");
  if (isPublic(snapshot)) return ok("the view is public: no token is needed to read");
  return judgeToken({
    token,
    place: "Bazel's token",
    view: target.view,
    nowMs,
    skewMs: clockSkewMs(valueOf(faces.http)),
    consequence: "From then on Bazel builds without the cache, with a warning.",
    remedy: renewCommand(target),
  });
}

function isPublic({ view }: Snapshot): boolean {
  return valueOf(view)?.isPublic === true;
}
