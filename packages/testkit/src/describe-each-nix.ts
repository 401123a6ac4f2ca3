import { describe, test } from "vitest";

import { findMissingNixVersions, findNixVersions, type NixVersion } from "./find-nix-versions.ts";

/**
 * Runs a group of tests once for each Nix version on this machine.
 *
 * A wanted version that is missing shows up as one skipped test with the reason, so that a run without
 * it never looks complete.
 *
 * @param which `newest` where the server's doing is looked at, which one version shows as well as any
 */
export function describeEachNix(
  title: string,
  body: (nix: NixVersion) => void,
  which: "all" | "newest" = "all",
): void {
  const found = findNixVersions();
  for (const nix of which === "all" ? found : found.slice(-1)) {
    describe(`${title} (Nix ${nix.version})`, () => {
      body(nix);
    });
  }
  if (which === "newest" && found.length > 0) return;
  for (const { version, reason } of findMissingNixVersions()) {
    // oxlint-disable-next-line vitest/expect-expect -- it exists to be skipped
    test(`${title} (Nix ${version})`, ({ skip }) => skip(reason));
  }
}
