import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { brotliCompress, gzip, zstdCompress } from "node:zlib";

import {
  encodeNix32,
  formatNarInfo,
  formatPublicKey,
  narInfoFingerprint,
  parseHash,
  secretKeyFromSeed,
  sha256HexToNix32,
  signFingerprint,
  toPublicKey,
  writeNar,
} from "@glorious/nix-store";

import { sha256Hex } from "./wire.ts";

const SECRET = secretKeyFromSeed("source-1", Buffer.alloc(32, 1));
export const SOURCE_KEY: string = formatPublicKey(toPublicKey(SECRET));
export const OTHER_KEY: string = formatPublicKey(
  toPublicKey(secretKeyFromSeed("other-1", Buffer.alloc(32, 2))),
);

type Encoding = "none" | "gzip" | "br" | "zstd";

/** A path of a made-up static cache. */
export interface StaticPath {
  readonly hash: string;
  readonly storePath: string;
  readonly baseName: string;
  readonly nar: Buffer;
  readonly narHash: string;
  /** The narinfo's text. */
  readonly narInfo: string;
  /** Where its file lies. */
  readonly url: string;
}

/** What may be wrong with a path. */
export interface StaticPathOptions {
  readonly contents?: Uint8Array;
  readonly references?: readonly StaticPath[];
  readonly compression?: Encoding;
  /** Changes the narinfo, which is signed as it was before. */
  readonly forge?: (text: string) => string;
  /** Replaces the file, which its narinfo knows nothing of. */
  readonly file?: Uint8Array;
  /** Replaces the NAR before it is compressed; the narinfo tells the hash of the right one. */
  readonly wrongNar?: Uint8Array;
}

const ENCODERS: Readonly<Record<Encoding, (bytes: Uint8Array) => Promise<Buffer>>> = {
  none: (bytes: Uint8Array) => Promise.resolve(Buffer.from(bytes)),
  gzip: promisify(gzip),
  br: promisify(brotliCompress),
  zstd: promisify(zstdCompress),
};
const EXTENSIONS = { none: "", gzip: ".gz", br: ".br", zstd: ".zst" };

/** Adds one file as a store path to a static cache in a folder. */
export async function addStaticPath(
  folder: string,
  name: string,
  options: StaticPathOptions = {},
): Promise<StaticPath> {
  const { contents = Buffer.from(name), references = [], compression = "zstd" } = options;
  const file = {
    type: "regular" as const,
    path: [],
    executable: false,
    sizeBytes: contents.length,
    contents: [contents],
  };
  const nar = Buffer.concat(await Array.fromAsync(writeNar([file])));
  const hash = encodeNix32(Buffer.from(sha256Hex(Buffer.from(name)), "hex").subarray(0, 20));
  const baseName = `${hash}-${name}`;
  const storePath = `/nix/store/${baseName}`;
  const encoded = await ENCODERS[compression](options.wrongNar ?? nar);
  const narHash = sha256Hex(nar);
  const url = `nar/${sha256HexToNix32(sha256Hex(encoded))}.nar${EXTENSIONS[compression]}`;
  const facts = {
    storePath,
    narHash: parseHash(narHash, "sha256"),
    narSize: nar.length,
    references: references.map((path) => path.baseName).sort(),
  };
  const text = formatNarInfo({
    ...facts,
    url,
    compression,
    fileHash: parseHash(sha256Hex(encoded), "sha256"),
    fileSize: encoded.length,
    deriver: `${hash}-${name}.drv`,
    signatures: [signFingerprint(SECRET, narInfoFingerprint(facts))],
  });
  const narInfo = options.forge?.(text) ?? text;
  await mkdir(join(folder, "nar"), { recursive: true });
  await writeFile(join(folder, "nix-cache-info"), "StoreDir: /nix/store\nWantMassQuery: 1\n");
  await writeFile(join(folder, url), options.file ?? encoded);
  await writeFile(join(folder, `${hash}.narinfo`), narInfo);
  return { hash, storePath, baseName, nar, narHash, narInfo, url };
}
