import fc from "fast-check";
import { expect, test } from "vitest";

import {
  decodeNix32,
  encodeNix32,
  equalHashes,
  formatHash,
  type HashAlgorithm,
  nix32ToSha256Hex,
  parseHash,
  parseSha256Hex,
  sha256HexToNix32,
} from "./index.ts";

const ABC_HEX = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
const ABC_NIX32 = "1b8m03r63zqhnjf7l5wnldhh7c134ap5vpj0850ymkq1iyzicy5s";
const ABC_BASE64 = "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=";
const INVALID = expect.objectContaining({ code: "INVALID" });

const anyHash = fc
  .constantFrom<[HashAlgorithm, number]>(["md5", 16], ["sha1", 20], ["sha256", 32], ["sha512", 64])
  .chain(([algorithm, length]) =>
    fc
      .uint8Array({ minLength: length, maxLength: length })
      .map((bytes) => ({ algorithm, bytes: Buffer.from(bytes) })),
  );

test("nix32 text is decoded to the bytes it was made of, whatever their number", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 70 }), (bytes) => {
      expect(new Uint8Array(decodeNix32(encodeNix32(bytes)))).toEqual(bytes);
    }),
  );
});

test("nix32 has one text for each value: what is decoded is encoded to the same text", () => {
  const digits = fc.string({
    unit: fc.constantFrom(..."0123456789abcdfghijklmnpqrsvwxyz".split("")),
  });
  fc.assert(
    fc.property(digits, (text) => {
      let bytes: Buffer;
      try {
        bytes = decodeNix32(text);
      } catch (error) {
        expect(error).toEqual(INVALID);
        return;
      }
      expect(encodeNix32(bytes)).toBe(text);
    }),
  );
});

test.each([
  ["a character it lacks", `e${ABC_NIX32.slice(1)}`],
  ["upper case", ABC_NIX32.toUpperCase()],
  ["a length no value has", ABC_NIX32.slice(1)],
  ["a first digit with bits to spare", `2${ABC_NIX32.slice(1)}`],
  ["a letter outside ASCII", `\u0161${ABC_NIX32.slice(1)}`],
  ["a newline", `${ABC_NIX32}\n`],
])("nix32 with %s is refused", (_title, text) => {
  expect(() => decodeNix32(text)).toThrow(INVALID);
});

test.each(["nix32", "base16", "sri"] as const)("a hash survives its %s form", (format) => {
  fc.assert(
    fc.property(anyHash, (hash) => {
      expect(equalHashes(parseHash(formatHash(hash, format)), hash)).toBe(true);
      expect(equalHashes(parseHash(formatHash(hash, format), hash.algorithm), hash)).toBe(true);
    }),
  );
});

test.each([
  ["nothing", ""],
  ["a bare value with no algorithm", ABC_HEX],
  ["an unknown algorithm", `sha3:${ABC_HEX}`],
  ["a name of Object's", `constructor:${ABC_HEX}`],
  ["upper case in the algorithm", `SHA256:${ABC_HEX}`],
  ["a value too short", `sha256:${ABC_HEX.slice(2)}`],
  ["a value of another algorithm", `sha512:${ABC_HEX}`],
  ["hex after SRI's dash", `sha256-${ABC_HEX}`],
  ["base64 without padding", `sha256-${ABC_BASE64.slice(0, -1)}`],
  ["URL-safe base64", `sha256-${ABC_BASE64.replace("+", "-").replace("/", "_")}`],
  ["base64 with stray bits", `sha256-${ABC_BASE64.replace("0=", "1=")}`],
  ["white space", ` sha256:${ABC_HEX}`],
  ["a newline", `sha256:${ABC_HEX}\n`],
  ["a second prefix", `sha256:sha256:${ABC_HEX}`],
])("a hash with %s is refused", (_title, text) => {
  expect(() => parseHash(text)).toThrow(INVALID);
});

test("a hash of another algorithm than asked for is refused", () => {
  expect(() => parseHash("sha1:da39a3ee5e6b4b0d3255bfef95601890afd80709", "sha256")).toThrow(
    INVALID,
  );
});

test.each([
  ABC_HEX,
  ABC_HEX.toUpperCase(),
  ABC_NIX32,
  ABC_BASE64,
  `sha256:${ABC_HEX}`,
  `sha256:${ABC_NIX32}`,
  `sha256:${ABC_BASE64}`,
  `sha256-${ABC_BASE64}`,
])("%s is one SHA-256 in many notations", (text) => {
  expect(parseSha256Hex(text)).toBe(ABC_HEX);
});

test("hex and nix32 turn into each other", () => {
  expect(sha256HexToNix32(ABC_HEX)).toBe(ABC_NIX32);
  expect(nix32ToSha256Hex(ABC_NIX32)).toBe(ABC_HEX);
});

test.each([ABC_HEX.toUpperCase(), ABC_HEX.slice(1), `sha256:${ABC_HEX}`, ""])(
  "%j is no bare hex and is refused",
  (text) => {
    expect(() => sha256HexToNix32(text)).toThrow(INVALID);
  },
);

test.each([ABC_NIX32.slice(1), `${ABC_NIX32}0`, `sha256:${ABC_NIX32}`, ""])(
  "%j is no bare nix32 and is refused",
  (text) => {
    expect(() => nix32ToSha256Hex(text)).toThrow(INVALID);
  },
);
