import {
  checkConnection,
  checkLookup,
  checkProxy,
  checkTls,
  type Way,
} from "../doctor/check-network.ts";
import { checkClock } from "../doctor/clock.ts";
import type { Finding, Verdict } from "../doctor/finding.ts";
import { valueOf } from "../doctor/probe.ts";
import { checkHealth } from "./checks/check-health.ts";
import { checkPublicKey, checkRequireSignatures, checkSignature } from "./checks/check-keys.ts";
import { checkMemory } from "./checks/check-memory.ts";
import { checkNetrcEntry, checkNetrcFile } from "./checks/check-netrc.ts";
import { checkNix, checkSettings, checkTrust } from "./checks/check-nix.ts";
import { checkNar, checkNarInfo, checkStoreDir, checkVerify } from "./checks/check-path.ts";
import { checkPriority, checkSubstituter } from "./checks/check-substituter.ts";
import { checkAccess, checkToken } from "./checks/check-token.ts";
import {
  checkOneSubstituter,
  checkUpstreamKeys,
  checkUpstreams,
} from "./checks/check-upstreams.ts";
import type { Snapshot } from "./snapshot.ts";

/** Looks at one thing. Pure: everything it may know is in the snapshot. */
export type Check = (snapshot: Snapshot) => Verdict;

/** Every check by its name, in the order of the report: this machine, the way, the server, a path. */
export const CHECKS: ReadonlyArray<readonly [name: string, check: Check]> = [
  ["nix", checkNix],
  ["settings", checkSettings],
  ["trust", checkTrust],
  ["substituter", checkSubstituter],
  ["public-key", checkPublicKey],
  ["require-sigs", checkRequireSignatures],
  ["netrc-file", checkNetrcFile],
  ["netrc-entry", checkNetrcEntry],
  ["token", checkToken],
  ["name", (it) => checkLookup(wayOf(it))],
  ["connection", (it) => checkConnection(wayOf(it))],
  ["tls", (it) => checkTls(wayOf(it))],
  ["proxy", (it) => checkProxy(wayOf(it))],
  ["access", checkAccess],
  ["clock", ({ server }) => checkClock(valueOf(server.cacheInfo))],
  ["health", checkHealth],
  ["store-dir", checkStoreDir],
  ["priority", checkPriority],
  ["upstreams", checkUpstreams],
  ["upstream-keys", checkUpstreamKeys],
  ["one-substituter", checkOneSubstituter],
  ["narinfo", checkNarInfo],
  ["signature", checkSignature],
  ["nar", checkNar],
  ["memory", checkMemory],
  ["nix-verify", checkVerify],
];

/** Runs every check on a snapshot. */
export function examine(snapshot: Snapshot): Finding[] {
  return CHECKS.map(([check, look]) => ({ check, ...look(snapshot) }));
}

function wayOf({ network, target, nowMs }: Snapshot): Way {
  return {
    network,
    url: new URL(target.server),
    client: "Nix",
    trusts:
      "Nix trusts the authorities in NIX_SSL_CERT_FILE, else in /etc/ssl/certs/ca-certificates.crt.",
    consequence: "Nix stops using the cache then.",
    remedy: `curl -v -m 10 ${target.server}healthz`,
    nowMs,
  };
}
