import { isCacheError } from "@glorious/core";
import { formatNarInfo, type NarInfo, parseNarInfo } from "@glorious/nix-store";

import type { Random } from "../../random.ts";
import { Finding, type FuzzTarget, openPlain } from "../fuzz-target.ts";
import { readFixtures } from "./fixtures.ts";

export const NARINFO_WORDS: readonly string[] = [
  ...["StorePath: ", "URL: ", "Compression: ", "FileHash: ", "FileSize: ", "NarHash: "],
  ...["NarSize: ", "References: ", "Deriver: ", "System: ", "Sig: ", "CA: ", "Sig: k:AAAA\n"],
  ...["/nix/store/", "sha256:", "sha256-", "sha512:", "unknown-deriver", ".drv", "fixed:r:sha256:"],
  ...["text:sha256:", "\n", "\r\n", ": ", "\0", "zstd", "none", "../", "\u{ff}", "é"],
];

/** Whether our parser takes the text; checks every rule about that. */
function readNarInfo(input: Buffer): NarInfo | undefined {
  let info: NarInfo;
  try {
    info = parseNarInfo(input.toString("utf8"));
  } catch (error) {
    if (isCacheError(error, "CORRUPT")) return undefined;
    throw error;
  }
  const text = formatNarInfo(info);
  const again = parseNarInfo(text);
  if (formatNarInfo(again) !== text) throw new Finding("A narinfo is not formatted the same again");
  if (JSON.stringify(again) !== JSON.stringify(info)) {
    throw new Finding("A narinfo that was formatted says something else");
  }
  return info;
}

export function generateNarInfo(random: Random): Buffer {
  const digits = "0123456789abcdfghijklmnpqrsvwxyz".split("");
  const nix32 = (length: number): string =>
    Array.from({ length }, () => random.pick(digits)).join("");
  // 52 digits hold 260 bits; the first has only one of its own.
  const sha256 = (): string => `sha256:${random.below(2)}${nix32(51)}`;
  const name = (): string => `${nix32(32)}-${random.pick(["a", "lib-1.0", "x.drv", "+-._?="])}`;
  const lines = [
    `StorePath: /nix/store/${name()}`,
    `URL: nar/${nix32(52)}.nar.zst`,
    ...(random.chance(0.8) ? ["Compression: zstd"] : []),
    ...(random.chance(0.8) ? [`FileHash: ${sha256()}`, `FileSize: ${random.below(1e9)}`] : []),
    `NarHash: ${sha256()}`,
    `NarSize: ${1 + random.below(1e9)}`,
    `References: ${Array.from({ length: random.below(4) }, name).join(" ")}`,
    ...(random.chance(0.5) ? [`Deriver: ${name()}`] : []),
    ...(random.chance(0.3) ? ["System: x86_64-linux"] : []),
    `Sig: key-1:${random.bytes(64).toString("base64")}`,
    ...(random.chance(0.2) ? [`CA: fixed:r:${sha256()}`] : []),
  ];
  return Buffer.from(`${lines.join("\n")}\n`);
}

export const narInfoTarget: FuzzTarget = {
  name: "narinfo",
  summary: "text as a narinfo: refused as CORRUPT, or formatted the same again",
  seeds: () => readFixtures(/\.narinfo$/),
  dictionary: NARINFO_WORDS,
  maxBytes: 4096,
  guides: /\/nix-store\/src\/(nar-info|hash|store-path|content-address|nix32)/,
  generate: generateNarInfo,
  open: openPlain((input) => (readNarInfo(input) === undefined ? "CORRUPT" : "accepted")),
};
