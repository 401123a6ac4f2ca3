import { formatCount, formatDurationMs } from "@glorious/core";
import { formatHash, parseHash } from "@glorious/nix-store";

import { failure, ok, skipped, type Verdict, warning } from "../../doctor/finding.ts";
import { reasonOf, valueOf } from "../../doctor/probe.ts";
import { readerOf } from "../reader.ts";
import type { NarInfoMemory, Snapshot } from "../snapshot.ts";
import { findSigner, withRemembered } from "./check-keys.ts";
import { readTrustedKeys } from "./trusted-keys.ts";

/** Nix does not remember something that is no longer so. */
export function checkMemory(snapshot: Snapshot): Verdict {
  const { path, nix, nowMs } = snapshot;
  const settings = valueOf(nix.settings);
  if (settings === undefined) return skipped("Nix's settings are unknown");
  const { memory } = path;
  if (memory.state !== "known") return skipped(reasonOf(memory));
  const { path: remembered, absentPaths, file } = memory.value;
  const narInfo = valueOf(path.narInfo);
  if (narInfo !== undefined && remembered?.isPresent === false) {
    const untilMs = remembered.atMs + settings.negativeTtlSeconds * 1000;
    // A path that is here already Nix has no need to fetch.
    const say = path.isNamed ? failure : warning;
    return say(
      `Nix takes ${narInfo.storePath} as absent for another ${formatDurationMs(untilMs - nowMs)}`,
      "It asked before the path was pushed, or with a token that was refused, and remembers that for narinfo-cache-negative-ttl.",
      "nix-build --option narinfo-cache-negative-ttl 0",
    );
  }
  if (narInfo !== undefined && remembered?.isPresent === true) {
    const problem = describeStale(snapshot, remembered);
    if (problem !== undefined) {
      return failure(
        `Nix remembers another narinfo of ${narInfo.storePath}: ${problem}`,
        `It believes that for narinfo-cache-positive-ttl, ${formatDurationMs(settings.positiveTtlSeconds * 1000)}; \`nix copy --to\` writes down its own unsigned one.`,
        `rm ${file}`,
      );
    }
  }
  if (absentPaths > 0) {
    return warning(
      `Nix takes ${formatCount(absentPaths, "path")} as absent from this cache`,
      `What is pushed meanwhile it sees only after narinfo-cache-negative-ttl, ${formatDurationMs(settings.negativeTtlSeconds * 1000)}.`,
      "nix-build --option narinfo-cache-negative-ttl 0",
    );
  }
  return ok("Nix remembers nothing that is not so");
}

function describeStale(
  { path, nix, user }: Snapshot,
  remembered: Extract<NarInfoMemory["path"], { readonly isPresent: true }>,
): string | undefined {
  const narInfo = valueOf(path.narInfo);
  const reader = readerOf(nix, user);
  if (narInfo === undefined || reader === undefined) return undefined;
  if (
    formatHash(parseHash(remembered.narHash), "base16") !== formatHash(narInfo.narHash, "base16")
  ) {
    return "its NAR hash is another";
  }
  const trusted = readTrustedKeys(reader.trustedPublicKeys);
  const isSigned = findSigner(narInfo, trusted, nix.storeDir) !== undefined;
  const wasSigned =
    findSigner(withRemembered(narInfo, remembered), trusted, nix.storeDir) !== undefined;
  return reader.requireSignatures && isSigned && !wasSigned ? "it lacks the signature" : undefined;
}
