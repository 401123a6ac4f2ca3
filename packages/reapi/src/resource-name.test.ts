import { isCacheError } from "@glorious/core";
import fc from "fast-check";
import { expect, test } from "vitest";

import { DigestList } from "./digest-list.ts";
import { RESERVED_SEGMENTS, parseInstanceName } from "./instance-name.ts";
import {
  formatReadResourceName,
  formatWriteResourceName,
  parseReadResourceName,
  parseWriteResourceName,
} from "./resource-name.ts";

const HASH = "ab".repeat(32);
const list = new DigestList();

const segments = fc
  .string({
    unit: fc.constantFrom("a", "b", "Z", "0", "9", ".", "_", "+", "-"),
    minLength: 1,
    maxLength: 20,
  })
  .filter((segment) => !RESERVED_SEGMENTS.has(segment) && !/^\.+$/.test(segment));
const instanceNames = fc.array(segments, { maxLength: 9 }).map((parts) => parts.join("/"));
const resources = fc.record({
  instanceName: instanceNames,
  compressor: fc.constantFrom("identity" as const, "zstd" as const),
  hash: fc
    .uint8Array({ minLength: 32, maxLength: 32 })
    .map((bytes) => Buffer.from(bytes).toString("hex")),
  sizeBytes: fc.maxSafeNat(),
  uploadId: fc.uuid(),
});

function refusal(parse: () => unknown): string | undefined {
  try {
    parse();
    return undefined;
  } catch (error) {
    if (!isCacheError(error, "INVALID")) throw error;
    return error.message;
  }
}

test("a name that was written is read back, with whatever stands behind the size", () => {
  const suffixes = fc.constantFrom("", "/", "/metadata", "/uploads/x/blobs/y/1", "/a//b");
  fc.assert(
    fc.property(resources, suffixes, (resource, suffix) => {
      const { instanceName, compressor, hash, sizeBytes, uploadId } = resource;

      const read = parseReadResourceName(formatReadResourceName(resource) + suffix, list);
      expect(read).toEqual({ instanceName, compressor });
      expect([list.length, list.hash(0), list.sizeBytes(0)]).toEqual([1, hash, sizeBytes]);

      const written = parseWriteResourceName(formatWriteResourceName(resource) + suffix, list);
      expect(written).toEqual({ instanceName, compressor, uploadId });
      expect([list.length, list.hash(0), list.sizeBytes(0)]).toEqual([1, hash, sizeBytes]);
    }),
  );
});

test("any other text is refused as INVALID or is a name", () => {
  const parts = fc.constantFrom(
    "blobs",
    "compressed-blobs",
    "zstd",
    "uploads",
    "u",
    HASH,
    "7",
    "x",
    "",
    "sha256",
  );
  const texts = fc.oneof(
    fc.string(),
    fc.array(parts, { maxLength: 8 }).map((each) => each.join("/")),
  );
  fc.assert(
    fc.property(texts, (text) => {
      const size = list.length;
      if (refusal(() => parseReadResourceName(text, list)) === undefined) {
        expect(text).toMatch(/blobs\/(zstd\/)?(sha256\/)?[0-9a-f]{64}\/[0-9]+/);
      } else expect(list.length).toBe(size);
      if (refusal(() => parseWriteResourceName(text, list)) === undefined) {
        expect(text).toMatch(/uploads\/[^/]+\/.*blobs\//);
      }
    }),
  );
});

test("names as real clients write them are read", () => {
  expect(parseReadResourceName(`blobs/${HASH}/0`, list).instanceName).toBe("");
  expect(parseReadResourceName(`acme/main/blobs/sha256/${HASH}/12`, list).instanceName).toBe(
    "acme/main",
  );
  expect(
    parseWriteResourceName(`a/uploads/8f3b/compressed-blobs/zstd/${HASH}/12/x.cc`, list),
  ).toEqual({ instanceName: "a", compressor: "zstd", uploadId: "8f3b" });
});

test.each([
  [`acme/blobs/${HASH}`, "no size in bytes"],
  [`acme/blobs/${HASH}/-1`, "no size in bytes"],
  [`acme/blobs/${HASH}/01`, "no size in bytes"],
  [`acme/blobs/${HASH}/9999999999999999`, "no size in bytes"],
  [`acme/blobs/${HASH.toUpperCase()}/1`, "not lowercase hexadecimal"],
  [`acme/blobs/${HASH.slice(2)}/1`, "62 characters"],
  [`acme/blobs/blake3/${HASH}/1`, "the digest function blake3"],
  [`acme/compressed-blobs/deflate/${HASH}/1`, "another compressor than zstd"],
  [`acme/uploads/u/blobs/${HASH}/1`, "is one to write to"],
  [`acme/${HASH}/1`, "neither"],
  ["", "neither"],
  ["/".repeat(100_000), "is too long"],
])("to read, %s is refused: %s", (name, text) => {
  expect(refusal(() => parseReadResourceName(name, list))).toContain(text);
});

test.each([
  [`acme/blobs/${HASH}/1`, 'has no "uploads"'],
  [`acme/uploads//blobs/${HASH}/1`, "no upload id"],
  [`acme/uploads/u/${HASH}/1`, "neither"],
  ["acme/uploads", "no upload id"],
])("to write, %s is refused: %s", (name, text) => {
  expect(refusal(() => parseWriteResourceName(name, list))).toContain(text);
});

test("the first segment of an instance name is the view, the rest is the client's own", () => {
  fc.assert(
    fc.property(fc.array(segments, { minLength: 1, maxLength: 9 }), (parts) => {
      expect(parseInstanceName(parts.join("/"))).toEqual({
        view: parts[0],
        subInstance: parts.slice(1).join("/"),
      });
    }),
  );
  expect(parseInstanceName("")).toEqual({ view: undefined, subInstance: "" });
});

test.each([
  ["acme/blobs", 'the reserved word "blobs"'],
  ["uploads", 'the reserved word "uploads"'],
  ["acme/cas/x", 'the reserved word "cas"'],
  ["/acme", "an empty segment"],
  ["acme/", "an empty segment"],
  ["acme/../other", 'the segment ".."'],
  ["acme/a b", 'the segment "a b"'],
  ["a/1/2/3/4/5/6/7/8/9", "more than 8 segments"],
  [`acme/${"x".repeat(65)}`, "the segment"],
  ["x/".repeat(1000), "is too long"],
])("the instance name %s is refused", (name, text) => {
  expect(refusal(() => parseInstanceName(name))).toContain(text);
});
