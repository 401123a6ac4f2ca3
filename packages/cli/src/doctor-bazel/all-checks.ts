import { isGrpc, toHttpUrl } from "@glorious/cache-client";

import { checkConnection, checkLookup, checkTls, type Way } from "../doctor/check-network.ts";
import { checkClock } from "../doctor/clock.ts";
import type { Finding, Verdict } from "../doctor/finding.ts";
import { valueOf } from "../doctor/probe.ts";
import { checkBazel, checkImport, checkRcFile } from "./checks/check-config.ts";
import { checkCredential, checkToken } from "./checks/check-credential.ts";
import { checkCapabilities, checkGrpc, checkHttp } from "./checks/check-faces.ts";
import { checkOptions, checkRemoteCache } from "./checks/check-options.ts";
import { checkOutage, checkTimeout } from "./checks/check-outage.ts";
import { checkActionResult, checkBlob, checkMiss } from "./checks/check-trip.ts";
import type { Snapshot } from "./snapshot.ts";

/** Looks at one thing. Pure: everything it may know is in the snapshot. */
export type Check = (snapshot: Snapshot) => Verdict;

/** Every check by its name, in the order of the report: this machine, the way, the server, what comes when it is down. */
export const CHECKS: ReadonlyArray<readonly [name: string, check: Check]> = [
  ["bazel", checkBazel],
  ["import", checkImport],
  ["rc-file", checkRcFile],
  ["remote-cache", checkRemoteCache],
  ["options", checkOptions],
  ["credential", checkCredential],
  ["token", checkToken],
  ["name", (it) => checkLookup(wayOf(it))],
  ["connection", (it) => checkConnection(wayOf(it))],
  ["tls", (it) => checkTls(wayOf(it))],
  ["clock", ({ faces }) => checkClock(valueOf(faces.http))],
  ["grpc", checkGrpc],
  ["http", checkHttp],
  ["capabilities", checkCapabilities],
  ["miss", checkMiss],
  ["blob", checkBlob],
  ["action-result", checkActionResult],
  ["outage", checkOutage],
  ["timeout", checkTimeout],
];

/** Runs every check on a snapshot. */
export function examine(snapshot: Snapshot): Finding[] {
  return CHECKS.map(([check, look]) => ({ check, ...look(snapshot) }));
}

function wayOf({ network, target, nowMs }: Snapshot): Way {
  const url = toHttpUrl(target.remoteCache);
  const scheme = isGrpc(target.remoteCache) ? "--http2-prior-knowledge " : "";
  return {
    network,
    url,
    client: "Bazel",
    trusts: "Bazel trusts the authorities of its Java, or those of --tls_certificate.",
    consequence: "Bazel stops using the cache then.",
    remedy: `curl -v -m 10 ${scheme}${url.origin}`,
    nowMs,
  };
}
