import { type BazelRelease, isGrpc } from "@glorious/cache-client";

import { ok, skipped, type Verdict, warning } from "../../doctor/finding.ts";
import { valueOf } from "../../doctor/probe.ts";
import { optionOf, patienceOf, useCommand } from "../facts.ts";
import type { Snapshot } from "../snapshot.ts";

/** What a build may be held up by, in seconds. */
const TOLERATED_SECONDS = 30;
/** A slow link, in megabytes a second: 10 Mbit/s. */
const SLOW_MEGABYTES = 1.25;

/** What this Bazel does when the cache is down, silent, or refuses it. */
export function checkOutage(snapshot: Snapshot): Verdict {
  const { bazel, target } = snapshot;
  const release = valueOf(bazel.release);
  if (release === undefined) return skipped("Bazel's version is unknown");
  const hasFallback = optionOf(snapshot, "remote_local_fallback")?.value === "true";
  const { totalSeconds } = patienceOf(snapshot);
  const refused =
    !hasFallback && release.major < 7 && isGrpc(target.remoteCache)
      ? "the build ends with 34"
      : "the build goes on at once";
  const silent = isGrpc(target.remoteCache)
    ? `it goes on without the cache after ${totalSeconds} s`
    : `each request waits ${totalSeconds} s, so it may take minutes longer`;
  return ok(
    [
      `nothing listens: ${refused}`,
      `the server is silent: ${silent}${breaker(snapshot, release)}`,
      "it answers 401: the build goes on without the cache",
      ...(isTried(release) ? [] : ["other releases than 4.2 and 7.7 were not tried"]),
    ].join("; "),
  );
}

/** Whether one time limit serves a server that is silent and a link that is slow. */
export function checkTimeout(snapshot: Snapshot): Verdict {
  const { target } = snapshot;
  const { timeoutSeconds, retries, totalSeconds } = patienceOf(snapshot);
  const limit = `${timeoutSeconds} s, ${retries + 1} times`;
  const slow = `${Math.floor(timeoutSeconds * SLOW_MEGABYTES)} MB at 10 Mbit/s`;
  if (!isGrpc(target.remoteCache)) {
    return warning(
      `one time limit cannot serve all: ${limit}`,
      `Over HTTP/1.1 every request waits that long for a silent server, and a transfer that is cut begins anew: what is larger than ${slow} may not get through.`,
      useCommand({ ...target, remoteCache: "grpc:" }),
    );
  }
  if (totalSeconds > TOLERATED_SECONDS) {
    return warning(
      `a silent server holds a build up for ${totalSeconds} s: ${limit}`,
      "That is --remote_timeout times one more than --remote_retries.",
      useCommand(target),
    );
  }
  const isCompressed = optionOf(snapshot, "remote_cache_compression")?.value === "true";
  return ok(
    isCompressed
      ? `${limit}; on a slow link a compressed upload begins anew each time, and one larger than ${slow} may be given up; a longer --remote_timeout lets it through, and a silent server holds builds up for longer`
      : `${limit}; a transfer that takes longer goes on where it was`,
  );
}

function breaker(snapshot: Snapshot, { major }: BazelRelease): string {
  if (major < 7) return " (this Bazel has no circuit breaker)";
  const strategy = optionOf(snapshot, "experimental_circuit_breaker_strategy");
  return strategy?.value === "failure" ? ", and stops asking when many requests fail" : "";
}

function isTried({ major, minor }: BazelRelease): boolean {
  return (major === 4 && minor === 2) || (major === 7 && minor === 7);
}
