import { describe, test } from "vitest";

import { type DebianRoot, type DebianSuite, findDebianRoot } from "./debian-root.ts";

/** A Bazel that can be run on this machine. */
export interface BazelVersion {
  /** As its package states it, such as `7.7.1`. */
  readonly version: string;
  readonly root: DebianRoot;
  /** Where its Java lies, inside the root. */
  readonly javaHome: string;
}

/** The versions every test of the Bazel protocol is to pass with, and the suites that carry them. */
const WANTED: ReadonlyArray<{
  readonly version: string;
  readonly suite: DebianSuite;
  readonly javaHome: string;
}> = [
  { version: "4.2", suite: "bookworm", javaHome: "/usr/lib/jvm/default-java" },
  { version: "7.7", suite: "sid", javaHome: "/usr/lib/jvm/default-java" },
];

/** The Bazel versions that are here, oldest first. */
export function findBazelVersions(): readonly BazelVersion[] {
  return WANTED.flatMap(({ suite, javaHome }) => {
    const root = findDebianRoot(suite);
    if (typeof root === "string") return [];
    return [{ version: root.versions["bazel-bootstrap"] ?? "unknown", root, javaHome }];
  });
}

/**
 * Runs a group of tests once for each Bazel on this machine: the tests of a version one after the other, the
 * versions side by side, because a Bazel waits for its cache and its disk as much as it computes. `expect.poll` does
 * not know then which test it is in: `vi.waitUntil` waits as well.
 *
 * A wanted version that is missing shows up as one skipped test with the reason, so that a run without
 * it never looks complete.
 *
 * @param which `newest` where the server's doing is looked at, which one version shows as well as any
 */
export function describeEachBazel(
  title: string,
  body: (bazel: BazelVersion) => void,
  which: "all" | "newest" = "all",
): void {
  const found = findBazelVersions();
  for (const bazel of which === "all" ? found : found.slice(-1)) {
    describe.concurrent(`Bazel ${bazel.version}`, () => {
      // oxlint-disable-next-line vitest/valid-title -- each caller's own
      describe(title, { concurrent: false }, () => {
        body(bazel);
      });
    });
  }
  if (which === "newest" && found.length > 0) return;
  for (const { version, suite } of WANTED) {
    const root = findDebianRoot(suite);
    if (typeof root !== "string") continue;
    // oxlint-disable-next-line vitest/expect-expect -- it exists to be skipped
    test(`${title} (Bazel ${version})`, ({ skip }) =>
      skip(`Bazel ${version} is not here: ${root}`));
  }
}
