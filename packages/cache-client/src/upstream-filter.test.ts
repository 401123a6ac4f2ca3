import { parseStorePathBaseName } from "@glorious/nix-store";
import { expect, test } from "vitest";

import type { PathInfo } from "./path-info.ts";
import { filterUpstream } from "./upstream-filter.ts";

function createPath(name: string, signatures: readonly string[]): PathInfo {
  const storePath = parseStorePathBaseName(`${"0".repeat(32)}-${name}`);
  return {
    storePath,
    narHash: "0".repeat(64),
    narSize: 112,
    references: [],
    signatures,
    realPath: storePath.path,
  };
}

test("paths signed by an upstream's key are skipped, and the reason names the key", () => {
  const glibc = createPath("glibc", ["cache.nixos.org-1:AAAA"]);
  const bash = createPath("bash", ["ci-1:BBBB", "cache.nixos.org-1:CCCC"]);
  const ours = createPath("ours", ["ci-1:DDDD"]);
  const unsigned = createPath("unsigned", []);

  const { kept, skipped } = filterUpstream([glibc, bash, ours, unsigned], ["cache.nixos.org-1"]);

  expect(kept).toEqual([ours, unsigned]);
  expect(skipped).toEqual([
    {
      keyName: "cache.nixos.org-1",
      reason: "2 paths skipped: signed by cache.nixos.org-1",
      storePaths: [glibc.storePath.path, bash.storePath.path],
    },
  ]);
});

test("a path signed by several upstreams is counted once, for the first of the view's names", () => {
  const path = createPath("both", ["b-1:AAAA", "a-1:BBBB"]);
  expect(filterUpstream([path], ["a-1", "b-1"]).skipped.map(({ reason }) => reason)).toEqual([
    "1 path skipped: signed by a-1",
  ]);
});

test("a key name is compared whole", () => {
  const path = createPath("near", ["cache.nixos.org-10:AAAA", "nonsense"]);
  expect(filterUpstream([path], ["cache.nixos.org-1", "", "nonsense"]).kept).toEqual([path]);
});

test("no names filter nothing", () => {
  const path = createPath("any", ["cache.nixos.org-1:AAAA"]);
  expect(filterUpstream([path], []).kept).toEqual([path]);
});
