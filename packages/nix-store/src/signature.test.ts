import { inspect } from "node:util";

import fc from "fast-check";
import { describe, expect, test } from "vitest";

import {
  formatPublicKey,
  formatSecretKey,
  generateSecretKey,
  narInfoFingerprint,
  parseHash,
  parsePublicKey,
  parseSecretKey,
  parseSignature,
  signFingerprint,
  toPublicKey,
  verifySignature,
} from "./index.ts";

const key = generateSecretKey("cache.example.org-1");
const publicKey = toPublicKey(key);
const INVALID = expect.objectContaining({ code: "INVALID" });
const HASH = parseHash("sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");

test("keys survive their text, with the newline of a key file", () => {
  const again = parseSecretKey(`${formatSecretKey(key)}\n`);
  expect(formatSecretKey(again)).toBe(formatSecretKey(key));
  expect(parsePublicKey(` ${formatPublicKey(publicKey)}\n`)).toEqual(publicKey);
});

test("any text signed verifies, and nothing else does", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary" }), fc.string(), (text, other) => {
      const signature = signFingerprint(key, text);
      expect(verifySignature([publicKey], text, signature)).toBe(true);
      expect(verifySignature([publicKey], `${text}${other}.`, signature)).toBe(false);
    }),
    { numRuns: 30 },
  );
});

test("a signature counts only under its own name and key", () => {
  const signature = signFingerprint(key, "x");
  const namesake = toPublicKey(generateSecretKey(key.name));
  expect(verifySignature([], "x", signature)).toBe(false);
  expect(verifySignature([{ ...publicKey, name: "other" }], "x", signature)).toBe(false);
  expect(verifySignature([namesake], "x", signature)).toBe(false);
  expect(verifySignature([namesake, publicKey], "x", signature)).toBe(true);
});

describe.each([
  ["", "nothing"],
  ["name", "no colon"],
  [":AAAA", "no name"],
  ["name:", "no value"],
  ["name:AAAA", "a short value"],
  ["name:!!!!", "no base64"],
  [`name:${"A".repeat(86)}`, "no padding"],
  [`name:${"A".repeat(88)}`, "too many bytes"],
])("the text %j", (text, title) => {
  test(`is no key, no signature and never verifies: ${title}`, () => {
    expect(() => parseSecretKey(text)).toThrow(INVALID);
    expect(() => parsePublicKey(text)).toThrow(INVALID);
    expect(() => parseSignature(text)).toThrow(INVALID);
    expect(verifySignature([{ ...publicKey, name: "name" }], "x", text)).toBe(false);
  });
});

test.each(["", "a:b", "a b", "a\nb", "\u00a0"])("%j is no key name", (name) => {
  expect(() => generateSecretKey(name)).toThrow(INVALID);
});

test("a secret key whose halves do not belong together is refused, without showing it", () => {
  const [name, value] = formatSecretKey(key).split(":");
  const bytes = Buffer.from(value ?? "", "base64");
  bytes[40] = (bytes[40] ?? 0) ^ 1;
  const text = `${name}:${bytes.toString("base64")}`;
  expect(() => parseSecretKey(text)).toThrow(INVALID);
  expect(() => parseSecretKey(text)).not.toThrow(text.slice(-20));
});

test("a secret key does not show when printed or serialized", () => {
  const seed = formatSecretKey(key).slice(key.name.length + 1, key.name.length + 20);
  expect(inspect(key, { depth: 9, showHidden: true }) + JSON.stringify(key)).not.toContain(seed);
});

test("a signature comes apart", () => {
  const { keyName, bytes } = parseSignature(signFingerprint(key, "x"));
  expect([keyName, bytes.length]).toEqual([key.name, 64]);
});

test("the fingerprint sorts references, names each once, and writes nix32", () => {
  const info = {
    storePath: "/nix/store/g4rannyd4nga82vqv7x92hxc00dgx88p-tree",
    narHash: HASH,
    narSize: 12,
    references: ["z", "a", "z"],
  };
  expect(narInfoFingerprint(info)).toBe(
    "1;/nix/store/g4rannyd4nga82vqv7x92hxc00dgx88p-tree;" +
      "sha256:1b8m03r63zqhnjf7l5wnldhh7c134ap5vpj0850ymkq1iyzicy5s;12;/nix/store/a,/nix/store/z",
  );
  expect(narInfoFingerprint({ ...info, references: [], storeDir: "/s" })).toMatch(/;12;$/);
});
