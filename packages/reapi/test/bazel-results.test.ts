import { readFileSync, readdirSync } from "node:fs";

import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { expect, test } from "vitest";

import {
  ActionResultNeeds,
  ActionResultSchema,
  DigestList,
  TreeSchema,
  digestOf,
  readActionResult,
  readTree,
} from "../src/index.ts";

// Entries of the disk cache (`--disk_cache`) of Debian's Bazel 7.7.1 after a build of a cc_binary, an
// sh_test, and a rule of our own that declares a directory and an unresolved symbolic link.
const cache = new URL("fixtures/bazel-7.7.1/", import.meta.url);
const entries = readdirSync(new URL("ac/", cache));
const entry = (name: string): Buffer => readFileSync(new URL(`ac/${name}`, cache));

test("the results that Bazel stores are accepted, every output in them counted", () => {
  const needs = new ActionResultNeeds();
  const counts = entries.map((name) => {
    const { outputFiles, outputDirectories, outputSymlinks } = readActionResult(entry(name), needs);
    return `${outputFiles} ${outputDirectories} ${outputSymlinks} ${needs.blobs.length}`;
  });

  // Each also names its standard output and error.
  expect(counts.toSorted()).toEqual(["0 0 1 2", "0 1 0 3", "1 0 0 3", "2 0 0 4"]);
});

test("a directory's tree is found by its digest, and its files in it", () => {
  const needs = new ActionResultNeeds();
  const trees = entries.flatMap((name) => {
    readActionResult(entry(name), needs);
    return needs.trees.length === 0 ? [] : [needs.trees.hash(0)];
  });
  const tree = readFileSync(new URL(`cas/${trees[0]}`, cache));
  const files = new DigestList();

  const { directories } = readTree(tree, files);

  expect(digestOf(tree).hash).toBe(trees[0]);
  expect([directories, files.length, files.isEmptyBlob(2)]).toEqual([3, 3, true]);
});

test("our interface files know every field that Bazel writes", () => {
  const again = entries.map((name) =>
    toBinary(ActionResultSchema, fromBinary(ActionResultSchema, entry(name)), {
      writeUnknownFields: false,
    }),
  );
  const tree = readFileSync(new URL(`cas/${readdirSync(new URL("cas/", cache))[0]}`, cache));

  expect(again.map((bytes) => bytes.length)).toEqual(entries.map((name) => entry(name).length));
  expect(toBinary(TreeSchema, fromBinary(TreeSchema, tree), { writeUnknownFields: false })).toEqual(
    new Uint8Array(tree),
  );
});
