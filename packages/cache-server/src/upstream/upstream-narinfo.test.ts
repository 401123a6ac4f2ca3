import { formatNarInfo, parseHash, parseNarInfo } from "@glorious/nix-store";
import { expect, test } from "vitest";

import { formatServedNarInfo, readUpstreamNarInfo } from "./upstream-narinfo.ts";

const HEX = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
const NIX32 = "1b8m03r63zqhnjf7l5wnldhh7c134ap5vpj0850ymkq1iyzicy5s";
const HASH = "g4rannyd4nga82vqv7x92hxc00dgx88p";
const OTHER_HEX = "0".repeat(64);
const OTHER32 = "0".repeat(52);

function served(compression: string, fileHash: string | undefined): string {
  const text = formatNarInfo({
    storePath: `/nix/store/${HASH}-tree`,
    url: "https://far.example.org/some/where?x=y",
    compression,
    ...(fileHash === undefined ? {} : { fileHash: parseHash(fileHash, "sha256"), fileSize: 100 }),
    narHash: parseHash(HEX, "sha256"),
    narSize: 3168,
    references: [`${HASH}-tree`],
    deriver: "lf8hriw6023z0lzk66nkinbkl79zrdr0-tree.drv",
    signatures: [`key-1:${Buffer.alloc(64).toString("base64")}`],
  });
  return formatServedNarInfo(readUpstreamNarInfo(text, "/nix/store"));
}

test.each([
  ["zstd", OTHER_HEX, `nar/${HASH}-${OTHER32}.nar.zst`],
  ["xz", OTHER_HEX, `nar/${HASH}-${OTHER32}.nar.xz`],
  ["br", OTHER_HEX, `nar/${HASH}-${OTHER32}.nar.br`],
  ["gzip", OTHER_HEX, `nar/${HASH}-${OTHER32}.nar.gz`],
  ["xz", undefined, `nar/${HASH}.nar.xz`],
  // What is not compressed has the NAR's own hash, whether that is said or not.
  ["none", undefined, `nar/${HASH}-${NIX32}.nar`],
])("a NAR in %s, with the file hash %s, is to be had as %s", (compression, fileHash, url) => {
  expect(parseNarInfo(served(compression, fileHash)).url).toBe(url);
});

test("all the rest is what the upstream said", () => {
  expect(parseNarInfo(served("xz", OTHER_HEX))).toMatchObject({
    storePath: `/nix/store/${HASH}-tree`,
    compression: "xz",
    fileSize: 100,
    narSize: 3168,
    references: [`${HASH}-tree`],
    deriver: "lf8hriw6023z0lzk66nkinbkl79zrdr0-tree.drv",
    signatures: [`key-1:${Buffer.alloc(64).toString("base64")}`],
  });
});
