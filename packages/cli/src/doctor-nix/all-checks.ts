import { checkClock } from "./checks/check-clock.ts";
import { checkHealth } from "./checks/check-health.ts";
import { checkPublicKey, checkRequireSignatures, checkSignature } from "./checks/check-keys.ts";
import { checkMemory } from "./checks/check-memory.ts";
import { checkNetrcEntry, checkNetrcFile } from "./checks/check-netrc.ts";
import { checkConnection, checkLookup, checkProxy, checkTls } from "./checks/check-network.ts";
import { checkNix, checkSettings, checkTrust } from "./checks/check-nix.ts";
import { checkNar, checkNarInfo, checkStoreDir, checkVerify } from "./checks/check-path.ts";
import { checkPriority, checkSubstituter } from "./checks/check-substituter.ts";
import { checkAccess, checkToken } from "./checks/check-token.ts";
import type { Finding, Verdict } from "./finding.ts";
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
  ["name", checkLookup],
  ["connection", checkConnection],
  ["tls", checkTls],
  ["proxy", checkProxy],
  ["access", checkAccess],
  ["clock", checkClock],
  ["health", checkHealth],
  ["store-dir", checkStoreDir],
  ["priority", checkPriority],
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
