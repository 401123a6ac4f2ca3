import { describe, test } from "vitest";

import { findMissingNixVersions, findNixVersions, type NixVersion } from "./find-nix-versions.ts";

/**
 * Runs a group of tests once for each Nix version on this machine.
 *
 * A wanted version that is missing shows up as one skipped test with the reason, so that a run without
 * it never looks complete.
 */
export function describeEachNix(title: string, body: (nix: NixVersion) => void): void {
  for (const nix of findNixVersions()) {
    describe(`${title} (Nix ${nix.version})`, () => {
      body(nix);
    });
  }
  for (const { version, reason } of findMissingNixVersions()) {
    // oxlint-disable-next-line vitest/expect-expect -- it exists to be skipped
    test(`${title} (Nix ${version})`, ({ skip }) => skip(reason));
  }
}
