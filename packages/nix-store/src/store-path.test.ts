import fc from "fast-check";
import { expect, test } from "vitest";

import {
  isStoreDir,
  isStorePathHash,
  isStorePathName,
  parseStorePath,
  parseStorePathBaseName,
} from "./index.ts";

const HASH = "g4rannyd4nga82vqv7x92hxc00dgx88p";
const INVALID = expect.objectContaining({ code: "INVALID" });

test("a store path comes apart", () => {
  expect(parseStorePath(`/nix/store/${HASH}-hello-2.12`)).toEqual({
    storeDir: "/nix/store",
    hash: HASH,
    name: "hello-2.12",
    baseName: `${HASH}-hello-2.12`,
    path: `/nix/store/${HASH}-hello-2.12`,
  });
});

test("every valid base name survives, in any store directory", () => {
  const hash = fc.string({
    unit: fc.constantFrom(..."0123456789abcdfghijklmnpqrsvwxyz".split("")),
    minLength: 32,
    maxLength: 32,
  });
  const name = fc
    .string({ unit: fc.constantFrom(..."aZ09+-._?=".split("")), minLength: 1, maxLength: 211 })
    .filter(isStorePathName);
  fc.assert(
    fc.property(hash, name, fc.constantFrom("/nix/store", "/gnu/store", "/a"), (h, n, storeDir) => {
      const path = parseStorePathBaseName(`${h}-${n}`, storeDir);
      expect(parseStorePath(path.path, storeDir)).toEqual(path);
      expect([path.hash, path.name]).toEqual([h, n]);
    }),
  );
});

test.each([
  "",
  "/nix/store",
  "/nix/store/",
  `/nix/store/${HASH}`,
  `/nix/store/${HASH}-`,
  `/nix/store/${HASH}_hello`,
  `/nix/store/${HASH.slice(1)}-hello`,
  `/nix/store/${HASH.toUpperCase()}-hello`,
  `/nix/store/e${HASH.slice(1)}-hello`,
  `/nix/store/${HASH}-hello/bin/hello`,
  `/nix/store/${HASH}-hello/`,
  `/nix/store//${HASH}-hello`,
  `/nix/store/../store/${HASH}-hello`,
  `/nix/store/${HASH}-he llo`,
  `/nix/store/${HASH}-hello\n`,
  `/nix/store/${HASH}-hello\0`,
  `/nix/store/${HASH}-h\u00e9llo`,
  `/nix/store/${HASH}-.`,
  `/nix/store/${HASH}-..`,
  `/nix/store/${HASH}-.-a`,
  `/nix/store/${HASH}-..-a`,
  `/nix/store/${HASH}-${"x".repeat(212)}`,
  `/gnu/store/${HASH}-hello`,
  `nix/store/${HASH}-hello`,
  `${HASH}-hello`,
])("%j is no store path and is refused", (text) => {
  expect(() => parseStorePath(text)).toThrow(INVALID);
});

test.each([".profile", "..a", "a..b", "?=+_", "x".repeat(211)])("%j is a name", (name) => {
  expect(isStorePathName(name)).toBe(true);
});

test("a store path hash is exactly 32 characters of nix32", () => {
  expect(isStorePathHash(HASH)).toBe(true);
  for (const text of [`${HASH}0`, `${HASH}\n`, HASH.slice(1), `u${HASH.slice(1)}`]) {
    expect(isStorePathHash(text)).toBe(false);
  }
});

test.each(["", "/", "nix/store", "/nix/store/", "/nix//store", "/nix/../store", "/nix/.", "/a\nb"])(
  "%j is no store directory",
  (text) => {
    expect(isStoreDir(text)).toBe(false);
  },
);
