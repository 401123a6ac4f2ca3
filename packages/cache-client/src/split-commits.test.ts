import { encodeNix32, parseStorePathBaseName } from "@glorious/nix-store";
import fc from "fast-check";
import { expect, test } from "vitest";

import type { PathInfo } from "./path-info.ts";
import { sortByReferences, splitCommits } from "./split-commits.ts";

function baseNameOf(index: number): string {
  const bytes = Buffer.alloc(20);
  bytes.writeUInt32LE(index);
  return `${encodeNix32(bytes)}-p${index}`;
}

function createPath(index: number, references: readonly number[]): PathInfo {
  const storePath = parseStorePathBaseName(baseNameOf(index));
  return {
    storePath,
    narHash: "0".repeat(64),
    narSize: 112,
    references: references.map(baseNameOf),
    signatures: [],
    realPath: storePath.path,
  };
}

/** A closure in any order: each path refers to later ones, itself, and paths outside. */
const closures = fc
  .array(fc.array(fc.nat(60), { maxLength: 4 }), { maxLength: 40 })
  .map((rows) =>
    rows.map((row, index) => createPath(index, [...new Set(row.map((offset) => index + offset))])),
  )
  .chain((paths) => fc.shuffledSubarray(paths, { minLength: paths.length }));

test("every path comes once, after all it refers to", () => {
  fc.assert(
    fc.property(closures, (paths) => {
      const sorted = sortByReferences(paths);
      expect(new Set(sorted)).toEqual(new Set(paths));
      expect(sorted).toHaveLength(paths.length);
      const places = new Map(sorted.map((path, place) => [path.storePath.baseName, place]));
      for (const path of sorted) {
        for (const reference of path.references) {
          if (reference === path.storePath.baseName) continue;
          expect(places.get(reference) ?? -1).toBeLessThan(
            places.get(path.storePath.baseName) ?? 0,
          );
        }
      }
    }),
  );
});

test("a chain of 50 000 paths is sorted without exhausting the stack, and cut at 20 000", () => {
  const paths = Array.from({ length: 50_000 }, (_, index) => createPath(index, [index + 1]));
  const batches = splitCommits(paths);
  expect(batches.map((batch) => batch.length)).toEqual([20_000, 20_000, 10_000]);
  expect(batches[0]?.[0]?.storePath.name).toBe("p49999");
});

test("a closure of common size is one commit, and nothing is none", () => {
  expect(
    splitCommits(Array.from({ length: 2000 }, (_, index) => createPath(index, []))),
  ).toHaveLength(1);
  expect(splitCommits([])).toEqual([]);
});
