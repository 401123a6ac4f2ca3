import fc from "fast-check";
import { expect, test } from "vitest";

import { findOption, readRcFiles, readRcText, splitRcFile } from "./rc-file.ts";

const read = (
  paths: readonly string[],
  files: Readonly<Record<string, string>>,
  workspace?: string,
): ReturnType<typeof readRcFiles> =>
  readRcFiles(paths, { read: async (path) => files[path], workspace });

test.for([
  ["build --a=b c", ["build", "--a=b", "c"]],
  ["  build\t--a  # why", ["build", "--a"]],
  [`build "--a=b c" 'd e'`, ["build", "--a=b c", "d e"]],
  ["build --a=b\\ c", ["build", "--a=b c"]],
  ["build \\\n  --a", ["build", "--a"]],
  ["build --a=b#c", ["build", "--a=b#c"]],
] as const)("%j is %j", ([text, words]) => {
  expect(splitRcFile(text)).toEqual([{ line: 1, words }]);
});

test("a line is numbered where it begins", () => {
  expect(splitRcFile("\n# x\nbuild \\\n --a\nbuild --b").map(({ line }) => line)).toEqual([3, 5]);
});

test("whatever the text, it is read to its end", () => {
  fc.assert(
    fc.property(
      fc.string({ unit: fc.constantFrom("build ", "--a=", '"', "'", "\\", "\n", "#", " ", "x") }),
      (text) => {
        for (const { line, words } of splitRcFile(text)) {
          expect(line).toBeGreaterThan(0);
          expect(words.length).toBeGreaterThan(0);
        }
      },
    ),
  );
});

test.for([
  ["--remote_cache=x", "remote_cache", "x"],
  ["--remote_cache x", "remote_cache", "x"],
  ["--remote_cache=", "remote_cache", ""],
  ["--noremote_accept_cached", "remote_accept_cached", "false"],
  ["--remote_accept_cached=no", "remote_accept_cached", "false"],
  ["--remote_accept_cached=1", "remote_accept_cached", "true"],
  ["--remote_local_fallback", "remote_local_fallback", "true"],
] as const)("build %s sets %s to %j", ([word, name, value]) => {
  expect(readRcText(`build ${word}`, "f")).toEqual([{ file: "f", line: 1, name, value }]);
});

test("later files win, and lines for build over those for common", async () => {
  const { options, files } = await read(["/a", "/b", "/none"], {
    "/a": "build --remote_cache=a\ncommon --remote_timeout=1\n",
    "/b": "common --remote_cache=b\nbuild:ci --remote_cache=c\ntest --remote_cache=d\nalways --remote_timeout=2\n",
  });
  expect(files).toEqual(["/a", "/b"]);
  expect(findOption(options, "remote_cache")).toMatchObject({ file: "/a", value: "a" });
  expect(findOption(options, "remote_timeout")).toMatchObject({ file: "/a", value: "1" });
});

test("what is imported stands in place of the line", async () => {
  const { options, files, problem } = await read(
    ["/w/.bazelrc"],
    {
      "/w/.bazelrc":
        "build --remote_cache=1\nimport %workspace%/tools/rc\ntry-import /none\nbuild --remote_timeout=3\n",
      "/w/tools/rc": "build --remote_cache=2 --remote_timeout=2\n",
    },
    "/w",
  );
  expect(problem).toBeUndefined();
  expect(files).toEqual(["/w/.bazelrc", "/w/tools/rc"]);
  expect(findOption(options, "remote_cache")?.value).toBe("2");
  expect(findOption(options, "remote_timeout")?.value).toBe("3");
});

test.for([
  ["of a file that is not there", { "/a": "import /none" }, "/a line 1 imports /none"],
  [
    "in a circle",
    { "/a": "import /b", "/b": "\ntry-import /a" },
    "/b line 2 imports /a, which imports it",
  ],
] as const)("an import %s is told of", async ([, files, problem]) => {
  expect((await read(["/a"], files)).problem).toBe(problem);
});
