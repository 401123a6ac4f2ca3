import { isCacheError, parseDurationMs, parseSizeBytes } from "@glorious/core";
import {
  formatBuildTraceEntry,
  formatContentAddress,
  formatHash,
  formatNarListing,
  formatNixCacheInfo,
  formatPublicKey,
  formatRealisation,
  parseBuildTraceEntry,
  parseBuildTraceKey,
  parseContentAddress,
  parseHash,
  parseNarListing,
  parseNixCacheInfo,
  parsePublicKey,
  parseRealisation,
  parseRealisationId,
  parseSecretKey,
  parseSignature,
  parseStorePath,
  parseStorePathBaseName,
} from "@glorious/nix-store";
import { formatViewName, parseViewName } from "@glorious/trust";

import { Finding, type FuzzTarget, openPlain } from "../fuzz-target.ts";
import { readFixtures } from "./fixtures.ts";

/** Each reads a text and, where there is one, writes it back. */
const FORMATS: ReadonlyArray<
  readonly [name: string, rewrite: (text: string) => string | undefined]
> = [
  ["a listing", (text) => formatNarListing(parseNarListing(text))],
  ["a realisation", (text) => formatRealisation(parseRealisation(text))],
  ["a build trace entry", (text) => formatBuildTraceEntry(parseBuildTraceEntry(text))],
  ["nix-cache-info", (text) => formatNixCacheInfo(parseNixCacheInfo(text))],
  ["a hash", (text) => formatHash(parseHash(text), "nix32")],
  ["a content address", (text) => formatContentAddress(parseContentAddress(text))],
  ["a public key", (text) => formatPublicKey(parsePublicKey(text))],
  ["a store path", (text) => parseStorePath(text).path],
  ["a base name", (text) => parseStorePathBaseName(text).baseName],
  ["a view name", (text) => formatViewName(parseViewName(text))],
  ["a realisation id", (text) => void parseRealisationId(text)],
  ["a build trace key", (text) => void parseBuildTraceKey(...splitKey(text))],
  ["a secret key", (text) => void parseSecretKey(text)],
  ["a signature", (text) => void parseSignature(text)],
  ["a size", (text) => requireWhole(parseSizeBytes(text))],
  ["a duration", (text) => requireWhole(parseDurationMs(text))],
];

function check(input: Buffer): string {
  const text = input.toString("utf8");
  const accepted: string[] = [];
  for (const [name, rewrite] of FORMATS) {
    let again: string | undefined;
    try {
      again = rewrite(text);
    } catch (error) {
      if (isCacheError(error)) continue;
      throw error;
    }
    accepted.push(name);
    if (again !== undefined && rewrite(again) !== again) {
      throw new Finding(`${name} is not written the same again`);
    }
  }
  return accepted.length === 0 ? "refused" : accepted.join(" and ");
}

function requireWhole(value: number): undefined {
  if (!Number.isSafeInteger(value) || value < 0) throw new Finding("It reads as no number");
}

function splitKey(text: string): [string, string] {
  const slash = text.indexOf("/");
  return [text.slice(0, Math.max(slash, 0)), text.slice(slash + 1)];
}

export const formatsTarget: FuzzTarget = {
  name: "formats",
  summary: "text as each of the small formats: refused with a code, or written the same again",
  seeds: async () => [
    ...(await readFixtures(/\.ls$|realisations\/|nix-cache-info$|key\.(public|secret)$/)),
    ...[
      "/nix/store/g5a9c7ws15zh0c59c0q2iy5m9xh9j44c-tree",
      "g5a9c7ws15zh0c59c0q2iy5m9xh9j44c-tree",
      "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
      "sha256:0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73",
      "fixed:r:sha256:0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73",
      "text:sha256:0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73",
      "cache.example.org-1:9RQVDJI2m8VPxDxhMjSVB5qIvYQf3Yk5wGuqB2mDSyY=",
      "acme+main",
      "1.5 GiB",
      "90 d",
    ].map((text) => Buffer.from(text)),
  ],
  dictionary: [
    ...['{"version":1,"root":{"type":"regular","size":1}}', '"entries":{', '"narOffset":', "1e400"],
    ...["__proto__", "constructor", "\\ud800", "null", "sha256:", "sha1-", "md5:", "fixed:", "r:"],
    ...["StoreDir: ", "WantMassQuery: 1\n", "Priority: ", "/nix/store/", "KiB", "ms", "+", "-1"],
  ],
  maxBytes: 4096,
  guides: /\/(nix-store|trust|core)\/src\//,
  open: openPlain(check),
};
