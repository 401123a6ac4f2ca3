import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { encodeNix32, formatNarInfo, type NarInfo, parseNarInfo } from "./index.ts";

const BASE = "g4rannyd4nga82vqv7x92hxc00dgx88p-tree";
const OTHER = "7d2ch0vw00r36i3qh5n06rj7wx8iacj0-manifest.nix";
const HEX = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
const NIX32 = "1b8m03r63zqhnjf7l5wnldhh7c134ap5vpj0850ymkq1iyzicy5s";
const CORRUPT = expect.objectContaining({ code: "CORRUPT" });

const LINES = {
  StorePath: `/nix/store/${BASE}`,
  URL: `nar/${NIX32}.nar.zst`,
  Compression: "zstd",
  FileHash: `sha256:${NIX32}`,
  FileSize: "120",
  NarHash: `sha256:${NIX32}`,
  NarSize: "3168",
  References: `${OTHER} ${BASE}`,
  Deriver: "lf8hriw6023z0lzk66nkinbkl79zrdr0-tree.drv",
  Sig: "key-1:AAAA",
} as const;

function textWith(changes: Partial<Record<keyof typeof LINES, string | undefined>>): string {
  return Object.entries({ ...LINES, ...changes })
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `${name}: ${value}\n`)
    .join("");
}

describe("what Nix reads is read", () => {
  test("every field", () => {
    expect(parseNarInfo(textWith({}))).toMatchObject({
      storePath: `/nix/store/${BASE}`,
      url: `nar/${NIX32}.nar.zst`,
      compression: "zstd",
      fileSize: 120,
      narHash: { algorithm: "sha256", bytes: Buffer.from(HEX, "hex") },
      narSize: 3168,
      references: [OTHER, BASE],
      deriver: "lf8hriw6023z0lzk66nkinbkl79zrdr0-tree.drv",
      signatures: ["key-1:AAAA"],
    });
  });

  test.each([undefined, ""])("Compression %j means bzip2", (Compression) => {
    expect(parseNarInfo(textWith({ Compression })).compression).toBe("bzip2");
  });

  test.each([undefined, ""])("References %j means none", (References) => {
    expect(parseNarInfo(textWith({ References })).references).toEqual([]);
  });

  test.each([undefined, "", "unknown-deriver"])("Deriver %j means none", (Deriver) => {
    expect(parseNarInfo(textWith({ Deriver }))).not.toHaveProperty("deriver");
  });

  test("the hash in any notation", () => {
    const sri = "sha256-ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=";
    for (const NarHash of [`sha256:${HEX}`, `sha256:${NIX32}`, sri]) {
      expect(parseNarInfo(textWith({ NarHash })).narHash.bytes.toString("hex")).toBe(HEX);
    }
  });

  test("unknown fields, even twice, and several signatures in their order", () => {
    const text = `${textWith({})}Future: x\nFuture: y\nSig: key-2:BBBB\n`;
    expect(parseNarInfo(text).signatures).toEqual(["key-1:AAAA", "key-2:BBBB"]);
  });

  test("another store directory, an absolute URL with a query, no FileHash and FileSize", () => {
    const info = parseNarInfo(
      textWith({
        StorePath: `/gnu/store/${BASE}`,
        URL: "https://bucket.example.org/a?b=c:d",
        FileHash: undefined,
        FileSize: undefined,
      }),
    );
    expect(info.url).toBe("https://bucket.example.org/a?b=c:d");
    expect(info).not.toHaveProperty("fileHash");
    expect(info).not.toHaveProperty("fileSize");
  });
});

test.each([
  ["nothing", ""],
  ["one empty line", "\n"],
  ["no newline at the end", textWith({}).slice(0, -1)],
  ["CRLF", textWith({}).replaceAll("\n", "\r\n")],
  ["an empty line", `${textWith({})}\n`],
  ["a line without a colon", `${textWith({})}nonsense\n`],
  [
    "a bare References:, which makes Nix swallow the next line",
    textWith({}).replace(/References:.*/, "References:"),
  ],
  ["no space after the colon", textWith({}).replace("URL: ", "URL:")],
  ["two spaces after the colon", textWith({}).replace("URL: ", "URL:  ")],
  ["no StorePath", textWith({ StorePath: undefined })],
  ["no URL", textWith({ URL: undefined })],
  ["an empty URL", textWith({ URL: "" })],
  ["no NarHash", textWith({ NarHash: undefined })],
  ["no NarSize", textWith({ NarSize: undefined })],
  ["NarSize 0", textWith({ NarSize: "0" })],
  ["a negative NarSize", textWith({ NarSize: "-1" })],
  ["a NarSize in hex", textWith({ NarSize: "0x10" })],
  ["a NarSize that is no safe integer", textWith({ NarSize: "9007199254740993" })],
  ["a NarSize with words", textWith({ NarSize: "12 bytes" })],
  ["a FileSize that is no number", textWith({ FileSize: "1e3" })],
  [
    "a NarHash of another algorithm",
    textWith({ NarHash: "sha1:da39a3ee5e6b4b0d3255bfef95601890afd80709" }),
  ],
  ["a NarHash without algorithm and with a wrong length", textWith({ NarHash: HEX.slice(2) })],
  ["a NarHash that is none", textWith({ NarHash: "sha256:nonsense" })],
  ["a FileHash that is none", textWith({ FileHash: "sha256:nonsense" })],
  ["a relative StorePath", textWith({ StorePath: BASE })],
  ["a StorePath that climbs", textWith({ StorePath: `/nix/store/../store/${BASE}` })],
  ["a StorePath with a path inside", textWith({ StorePath: `/nix/store/${BASE}/bin` })],
  ["a reference with a directory", textWith({ References: `/nix/store/${BASE}` })],
  ["a reference that climbs", textWith({ References: "../../etc/passwd" })],
  ["a Deriver with a directory", textWith({ Deriver: `/nix/store/${BASE}` })],
  ["a CA that is no content address", `${textWith({})}CA: sha256:${HEX}\n`],
  ["an empty Sig", `${textWith({})}Sig: \n`],
  ["References twice", `${textWith({})}References: ${OTHER}\n`],
  ["StorePath twice", `${textWith({})}StorePath: /nix/store/${BASE}\n`],
  ["NarHash twice", `${textWith({})}NarHash: sha256:${NIX32}\n`],
  ["a NUL", textWith({ URL: "nar/a\0b" })],
  ["a carriage return in a value", textWith({ URL: "nar/a\rSig: x" })],
])("a narinfo with %s is CORRUPT", (_title, text) => {
  expect(() => parseNarInfo(text)).toThrow(CORRUPT);
});

const bytes32 = fc.uint8Array({ minLength: 32, maxLength: 32 }).map((bytes) => Buffer.from(bytes));
const sha256 = bytes32.map((bytes) => ({ algorithm: "sha256" as const, bytes }));
const baseName = fc
  .tuple(
    fc.uint8Array({ minLength: 20, maxLength: 20 }),
    fc.constantFrom("a", "b-1.0", "x.drv", "?=+"),
  )
  .map(([hash, name]) => `${encodeNix32(hash)}-${name}`);
const size = fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER });
const word = fc.string({ unit: fc.constantFrom(..."abz09:/.-_+=?%é".split("")), minLength: 1 });
const anyNarInfo: fc.Arbitrary<NarInfo> = fc.record(
  {
    storePath: baseName.map((name) => `/nix/store/${name}`),
    url: word,
    compression: fc.constantFrom("none", "xz", "zstd"),
    fileHash: sha256,
    fileSize: size,
    narHash: sha256,
    narSize: size,
    references: fc.array(baseName, { maxLength: 5 }),
    deriver: baseName,
    system: fc.constant("x86_64-linux"),
    ca: bytes32.map((bytes) => `fixed:r:sha256:${encodeNix32(bytes)}`),
    signatures: fc.array(word, { maxLength: 3 }),
  },
  {
    requiredKeys: [
      "storePath",
      "url",
      "compression",
      "narHash",
      "narSize",
      "references",
      "signatures",
    ],
  },
);

test("any narinfo survives its text", () => {
  fc.assert(
    fc.property(anyNarInfo, (info) => {
      expect(parseNarInfo(formatNarInfo(info))).toEqual(info);
    }),
  );
});

test("any text either is CORRUPT or survives being written again", () => {
  const anyLine = fc.oneof(
    fc.constantFrom(...textWith({}).split("\n"), "", "Sig: ", "URL:", "X: y"),
    fc.string(),
  );
  fc.assert(
    fc.property(fc.array(anyLine, { maxLength: 14 }), (lines) => {
      const text = lines.join("\n");
      let info: NarInfo;
      try {
        info = parseNarInfo(text);
      } catch (error) {
        expect(error).toEqual(CORRUPT);
        return;
      }
      expect(parseNarInfo(formatNarInfo(info))).toEqual(info);
    }),
  );
});

test("a value cannot forge another field", () => {
  const info = parseNarInfo(textWith({}));
  const forged = { ...info, url: "nar/x\nSig: forged:AAAA" };
  expect(() => formatNarInfo(forged)).toThrow(expect.objectContaining({ code: "INVALID" }));
});

test("no references are written with the space Nix needs", () => {
  const text = formatNarInfo({ ...parseNarInfo(textWith({})), references: [] });
  expect(text).toContain("\nReferences: \n");
});
