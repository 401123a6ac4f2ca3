import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";

import { describe, expect, test } from "vitest";

import {
  createNarLister,
  createNarReader,
  decodeNix32,
  encodeNix32,
  formatHash,
  formatNarInfo,
  formatNarListing,
  formatNixCacheInfo,
  formatPublicKey,
  formatRealisation,
  formatSecretKey,
  isContentAddressed,
  type NarEntry,
  narInfoFingerprint,
  parseHash,
  parseNarInfo,
  parseNarListing,
  parseNixCacheInfo,
  parsePublicKey,
  parseRealisation,
  parseSecretKey,
  parseStorePath,
  realisationFingerprint,
  signFingerprint,
  toPublicKey,
  verifySignature,
  writeNar,
} from "./index.ts";

// Files written by real Nix; fixtures/README.md says how.
const FIXTURES = new URL("../fixtures/", import.meta.url);
const VERSIONS = readdirSync(FIXTURES).filter((name) => name.startsWith("nix-"));
const secretKey = parseSecretKey(readText("key.secret"));

describe.each(VERSIONS)("files of %s", (version) => {
  const trusted = [parsePublicKey(readText(`${version}/key.public`))];
  const cache = `${version}/cache`;
  const narInfoNames = readdirSync(new URL(`${cache}/`, FIXTURES)).filter((name) =>
    name.endsWith(".narinfo"),
  );
  const narNames = [
    ...list(`${version}/nars`).map((name) => `nars/${name}`),
    ...list(`${cache}/nar`).map((name) => `cache/nar/${name}`),
  ];

  test("there is something to compare with", () => {
    expect(narInfoNames).toHaveLength(8);
    expect(narNames.length).toBeGreaterThan(8);
  });

  test.each(narInfoNames)("%s is read and written back byte for byte", (name) => {
    const text = readText(`${cache}/${name}`);
    expect(formatNarInfo(parseNarInfo(text))).toBe(text);
  });

  test.each(narInfoNames)("%s names its path, its file and its size truly", (name) => {
    const info = parseNarInfo(readText(`${cache}/${name}`));
    const file = readBytes(`${cache}/${info.url}`);
    expect(`${parseStorePath(info.storePath).hash}.narinfo`).toBe(name);
    expect(createHash("sha256").update(file).digest()).toEqual(info.narHash.bytes);
    expect([info.narSize, info.fileSize]).toEqual([file.length, file.length]);
  });

  test.each(narInfoNames)("the signature of %s verifies and is the one we would make", (name) => {
    const info = parseNarInfo(readText(`${cache}/${name}`));
    const fingerprint = narInfoFingerprint({ ...info, references: info.references.toReversed() });
    expect(verifySignature(trusted, fingerprint, info.signatures[0] ?? "")).toBe(true);
    expect(info.signatures).toEqual([signFingerprint(secretKey, fingerprint)]);
  });

  test.each(narInfoNames)("%s is content-addressed exactly if it says so", (name) => {
    const { ca, storePath, references } = parseNarInfo(readText(`${cache}/${name}`));
    const path = parseStorePath(storePath);
    const isAddressed = (pathName: string): boolean =>
      ca !== undefined && isContentAddressed({ ...path, name: pathName }, { ca, references });
    expect(isAddressed(path.name)).toBe(path.name !== "plain");
    expect(isAddressed("another-name")).toBe(false);
  });

  test.each(narInfoNames)("the listing of the NAR of %s is Nix's own", (name) => {
    const narInfo = parseNarInfo(readText(`${cache}/${name}`));
    const text = readText(`${cache}/${name.replace("narinfo", "ls")}`);
    const lister = createNarLister();
    lister.write(readBytes(`${cache}/${narInfo.url}`));
    const listing = lister.end();
    expect(parseNarListing(text)).toEqual(listing);
    // Nix 2.8 orders keys as it likes; every later one sorts them.
    const sorted = version === "nix-2.8.0" ? formatNarListing(parseNarListing(text)) : text;
    expect(formatNarListing(listing)).toBe(sorted);
  });

  test.each(narNames)("%s is read and written back byte for byte", async (name) => {
    const nar = readBytes(`${version}/${name}`);
    const written = await Array.fromAsync(writeNar(readEntries(nar)));
    expect(Buffer.concat(written).equals(nar)).toBe(true);
  });

  test.each(list(`${cache}/realisations`))("realisation %s is read and written back", (name) => {
    const text = readText(`${cache}/realisations/${name}`);
    const realisation = parseRealisation(text);
    expect(formatRealisation(realisation)).toBe(text);
    const fingerprint = realisationFingerprint(realisation);
    expect(verifySignature(trusted, fingerprint, realisation.signatures[0] ?? "")).toBe(true);
    expect(realisation.signatures).toEqual([signFingerprint(secretKey, fingerprint)]);
  });

  test("nix-cache-info is read and written back", () => {
    const text = readText(`${cache}/nix-cache-info`);
    expect(formatNixCacheInfo(parseNixCacheInfo(text))).toBe(text);
  });

  test("the public key is derived from the secret one as Nix derives it", () => {
    const text = readText(`${version}/key.public`).trim();
    expect(formatPublicKey(toPublicKey(secretKey))).toBe(text);
    expect(formatSecretKey(secretKey)).toBe(readText("key.secret").trim());
  });

  const hashes = readText(`${version}/hashes.tsv`).trim().split("\n");
  test.each(hashes.map((line) => line.split("\t")))(
    "%s %s has Nix's other notations",
    (algorithm, base16, nix32, base64, sri) => {
      const hash = parseHash(sri ?? "");
      expect(hash.algorithm).toBe(algorithm);
      expect(formatHash(hash, "base16")).toBe(`${algorithm}:${base16}`);
      expect(formatHash(hash, "nix32")).toBe(`${algorithm}:${nix32}`);
      expect(formatHash(hash, "sri")).toBe(sri);
      expect(encodeNix32(hash.bytes)).toBe(nix32);
      expect(decodeNix32(nix32 ?? "")).toEqual(hash.bytes);
      for (const value of [base16, nix32, base64]) {
        expect(parseHash(`${algorithm}:${value}`)).toEqual(hash);
        expect(parseHash(value ?? "", hash.algorithm)).toEqual(hash);
      }
    },
  );
});

function readEntries(nar: Buffer): NarEntry[] {
  const entries: NarEntry[] = [];
  let contents: Buffer[] = [];
  const reader = createNarReader({
    directory: (path) => entries.push({ type: "directory", path }),
    symlink: (path, target) => entries.push({ type: "symlink", path, target }),
    regular(path, { executable, sizeBytes }) {
      contents = [];
      entries.push({ type: "regular", path, executable, sizeBytes, contents });
    },
    contents: (chunk) => contents.push(Buffer.from(chunk)),
  });
  reader.write(nar);
  reader.end();
  return entries;
}

function list(directory: string): string[] {
  return readdirSync(new URL(`${directory}/`, FIXTURES));
}

function readBytes(name: string): Buffer {
  return readFileSync(new URL(name, FIXTURES));
}

function readText(name: string): string {
  return readBytes(name).toString();
}
