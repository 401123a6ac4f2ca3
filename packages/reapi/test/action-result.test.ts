import { type MessageInitShape, create, fromBinary, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, test } from "vitest";

import {
  type ActionResult,
  ActionResultNeeds,
  ActionResultSchema,
  type Digest,
  DigestList,
  type Directory,
  DirectorySchema,
  TreeSchema,
  inlineActionResult,
  listInlineCandidates,
  readActionResult,
  readDirectory,
  readTree,
} from "../src/index.ts";
import { accepted, actionResults, damaged, directories, encoded } from "./arbitraries.ts";

const results = encoded(ActionResultSchema, actionResults);
const trees = encoded(
  TreeSchema,
  fc
    .record({ root: directories, children: fc.array(directories, { maxLength: 4 }) })
    .map((parts) => create(TreeSchema, parts)),
);
const needs = new ActionResultNeeds();

function names(digests: DigestList): string[] {
  return Array.from(
    { length: digests.length },
    (_, index) => `${digests.hash(index)}/${digests.sizeBytes(index)}`,
  );
}

function nameAll(digests: readonly (Digest | undefined)[]): string[] {
  return digests
    .filter((each) => each !== undefined)
    .map((each) => `${each.hash}/${each.sizeBytes}`);
}

/** What a result needs, worked out from the generated codec's objects. */
function needsOf(result: ActionResult): {
  blobs: string[];
  trees: string[];
  directories: string[];
} {
  const treeDigests = nameAll(result.outputDirectories.map((each) => each.treeDigest));
  const rootDigests = nameAll(result.outputDirectories.map((each) => each.rootDirectoryDigest));
  const others = nameAll([
    ...result.outputFiles.map((each) => each.digest),
    result.stdoutDigest,
    result.stderrDigest,
  ]);
  return {
    blobs: [...others, ...treeDigests, ...rootDigests].toSorted(),
    trees: treeDigests.toSorted(),
    directories: rootDigests.toSorted(),
  };
}

function fileDigests(all: readonly (Directory | undefined)[]): string[] {
  return all.flatMap((each) => nameAll(each?.files.map((file) => file.digest) ?? []));
}

test("a result needs what the generated codec finds in it, however it was encoded", () => {
  fc.assert(
    fc.property(results, ({ message, bytes }) => {
      const summary = readActionResult(bytes, needs);

      expect({
        blobs: names(needs.blobs).toSorted(),
        trees: names(needs.trees).toSorted(),
        directories: names(needs.directories).toSorted(),
      }).toEqual(needsOf(message));
      expect(summary).toEqual({
        exitCode: message.exitCode,
        outputFiles: message.outputFiles.length,
        outputDirectories: message.outputDirectories.length,
        outputSymlinks: Math.max(
          message.outputSymlinks.length,
          message.outputFileSymlinks.length + message.outputDirectorySymlinks.length,
        ),
        inlinedFiles: message.outputFiles.filter(({ contents }) => contents.length > 0).length,
      });
    }),
    { numRuns: 300 },
  );
});

test("a damaged result is refused as INVALID, or the generated codec reads the same from it", () => {
  fc.assert(
    fc.property(damaged(results), (bytes) => {
      fc.pre(accepted(() => readActionResult(bytes, needs)));
      const expected = needsOf(fromBinary(ActionResultSchema, bytes));
      expect(names(needs.trees).toSorted()).toEqual(
        expected.trees.filter((each) => each !== "/0").toSorted(),
      );
      expect(names(needs.blobs).toSorted()).toEqual(
        expected.blobs.filter((each) => each !== "/0").toSorted(),
      );
    }),
    { numRuns: 500 },
  );
});

test("a tree needs the files of all its directories, a directory also its subdirectories", () => {
  fc.assert(
    fc.property(trees, encoded(DirectorySchema, directories), (tree, directory) => {
      const files = new DigestList();
      const walked = readTree(tree.bytes, files);
      const all = [tree.message.root, ...tree.message.children];
      expect(names(files).toSorted()).toEqual(fileDigests(all).toSorted());
      expect(walked.directories).toBeGreaterThanOrEqual(all.length);

      const own = new DigestList();
      const below = new DigestList();
      readDirectory(directory.bytes, own, below);
      expect(names(own)).toEqual(fileDigests([directory.message]));
      expect(names(below)).toEqual(
        nameAll(directory.message.directories.map((each) => each.digest)),
      );
    }),
  );
});

test("a damaged tree is refused as INVALID, or the generated codec reads the same from it", () => {
  fc.assert(
    fc.property(damaged(trees), (bytes) => {
      const files = new DigestList();
      fc.pre(accepted(() => readTree(bytes, files)));
      const { root, children } = fromBinary(TreeSchema, bytes);
      expect(names(files).toSorted()).toEqual(fileDigests([root, ...children]).toSorted());
    }),
    { numRuns: 300 },
  );
});

test("a tree of 50 000 files is walked", () => {
  const hash = "ab".repeat(32);
  const files = Array.from({ length: 1000 }, (_, index) => ({
    name: `file-${index}`,
    digest: { hash, sizeBytes: BigInt(index) },
  }));
  const children = Array.from({ length: 50 }, () => ({ files }));
  const digests = new DigestList();

  const walked = readTree(toBinary(TreeSchema, create(TreeSchema, { children })), digests);

  expect([walked.directories, digests.length]).toEqual([50, 50_000]);
  expect(digests.sizeBytes(49_999)).toBe(999);
});

describe("what no client could use is refused, and the text says where and why", () => {
  const digest = { hash: "ab".repeat(32), sizeBytes: 3n };
  const refused = (init: MessageInitShape<typeof ActionResultSchema>): (() => void) => {
    const bytes = toBinary(ActionResultSchema, create(ActionResultSchema, init));
    return () => readActionResult(bytes, needs);
  };

  test.each([
    ["/etc/passwd", "is absolute"],
    ["C:\\x", "is absolute"],
    ["c:/x", "is absolute"],
    ["\\\\server\\share", "is absolute"],
    ["", "is empty"],
    ["a//b", "has an empty part"],
    ["a/", "has an empty part"],
    ["./a", 'has a part "\\."'],
    ["a/../b", 'has a part "\\.\\." after another'],
    ["..", "names no file"],
    ["a\0b", "has a zero byte in it"],
    ["x".repeat(4097), "has 4097 bytes, more than 4096"],
  ])("the path %j", (path, text) => {
    const init = {
      outputFiles: [
        { path: "ok", digest },
        { path, digest },
      ],
    };

    if (path === "") expect(refused(init)).toThrow(/output_files\[1\]: the path is missing/);
    else
      expect(refused(init)).toThrow(
        new RegExp(`^ActionResult\\.output_files\\[1\\]\\.path: .*${text}`),
      );
  });

  test("files without a digest, links without a target, directories without either digest", () => {
    expect(refused({ outputFiles: [{ path: "a" }] })).toThrow(
      "ActionResult.output_files[0].digest: the hash is missing",
    );
    expect(refused({ outputSymlinks: [{ path: "a" }] })).toThrow(
      "ActionResult.output_symlinks[0]: the target is missing",
    );
    expect(refused({ outputDirectories: [{ path: "a" }] })).toThrow(
      "ActionResult.output_directories[0].tree_digest: the hash is missing",
    );
    expect(refused({ stdoutDigest: { hash: "ab", sizeBytes: 1n } })).toThrow(
      "ActionResult.stdout_digest: the hash has 2 characters, a SHA-256 has 64",
    );
  });

  test("text that is not UTF-8, also where nothing is made of it", () => {
    const worker = Buffer.from([0x4a, 0x03, 0x0a, 0x01, 0xff]);

    expect(() => readActionResult(worker, needs)).toThrow(/a text is not UTF-8/);
  });

  test("a field with a wire type that is not its own", () => {
    expect(() => readActionResult(Buffer.from([0x25, 1, 2, 3, 4]), needs)).toThrow(
      /field 4 is encoded with wire type 5/,
    );
  });

  test.each(["..", ".", "a/b", "a\0"])("the entry %j of a tree", (name) => {
    const tree = create(TreeSchema, { root: { files: [{ name, digest }] } });

    expect(() => readTree(toBinary(TreeSchema, tree), new DigestList())).toThrow(
      /Tree\.files\.name/,
    );
  });
});

test("an empty result is one: no outputs, exit code 0", () => {
  expect(readActionResult(new Uint8Array(), needs)).toMatchObject({ exitCode: 0, outputFiles: 0 });
  expect(needs.blobs.length).toBe(0);
});

test("a digest without hash and size means that there is no standard output", () => {
  const result = create(ActionResultSchema, { stdoutDigest: {}, stderrDigest: {} });

  readActionResult(toBinary(ActionResultSchema, result), needs);

  expect(needs.blobs.length).toBe(0);
});

test("what a caller wishes inlined is found, and put in without touching the rest", () => {
  fc.assert(
    fc.property(results, fc.boolean(), fc.boolean(), ({ message, bytes }, wantsOut, wantsErr) => {
      const wished = message.outputFiles.map((file) => file.path);
      const digests = new DigestList();

      const found = listInlineCandidates(
        bytes,
        { inlineStdout: wantsOut, inlineStderr: wantsErr, inlineOutputFiles: wished },
        digests,
      );
      const content = (index: number): Buffer => Buffer.from(`content of ${names(digests)[index]}`);
      const inlined = inlineActionResult(bytes, {
        stdout: found.stdout === undefined ? undefined : content(found.stdout),
        stderr: found.stderr === undefined ? undefined : content(found.stderr),
        files: new Map(found.files.map(([path, index]) => [path, content(index)])),
      });

      const before = fromBinary(ActionResultSchema, bytes);
      const after = fromBinary(ActionResultSchema, inlined);
      const expectContent = (held: Uint8Array, was: Uint8Array, digest: Digest): void => {
        const expected = `content of ${digest.hash}/${digest.sizeBytes}`;
        expect(Buffer.from(held).toString()).toBe(
          was.length > 0 ? Buffer.from(was).toString() : expected,
        );
      };
      if (new Set(wished).size === wished.length) {
        for (const [index, file] of after.outputFiles.entries()) {
          expectContent(file.contents, before.outputFiles[index]!.contents, file.digest!);
        }
      }
      if (wantsOut && after.stdoutDigest !== undefined) {
        expectContent(after.stdoutRaw, before.stdoutRaw, after.stdoutDigest);
      } else expect(after.stdoutRaw).toEqual(before.stdoutRaw);
      const rest = { outputFiles: [], stdoutRaw: new Uint8Array(), stderrRaw: new Uint8Array() };
      expect({ ...after, ...rest }).toEqual({ ...before, ...rest });
      expect(after.outputFiles.length).toBe(before.outputFiles.length);
    }),
  );
});
