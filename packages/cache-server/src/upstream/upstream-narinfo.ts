import {
  equalHashes,
  formatHash,
  formatNarInfo,
  type NarInfo,
  narInfoFingerprint,
  parseHash,
  parseNarInfo,
  type PublicKey,
  sha256HexToNix32,
  verifySignature,
} from "@glorious/nix-store";

import { parsePathManifest, type PathManifest } from "../commit/path-manifest.ts";
import type { ObjectCompression } from "../index/cache-index.ts";
import { extensionOf, parseCompression } from "../ingest/nar-decoder.ts";
import { UpstreamFault } from "./upstream-fault.ts";

/** A narinfo of an upstream that is signed by one of its keys. */
export interface UpstreamNarInfo {
  readonly manifest: PathManifest;
  /** Where the file lies: relative to the upstream, or absolute. */
  readonly url: string;
  readonly compression: ObjectCompression;
  /** Hexadecimal SHA-256 of the file, where it is known; nobody signed it. */
  readonly fileHash: string | undefined;
  readonly fileSize: number | undefined;
  /** The text as it came. */
  readonly text: string;
}

/** What a narinfo is held against. */
export interface NarInfoExpectations {
  readonly storePathHash: string;
  readonly storeDir: string;
  readonly publicKeys: readonly PublicKey[];
}

/**
 * Reads a narinfo that nobody has to believe yet.
 *
 * @throws {UpstreamFault} `not-narinfo`, `store-dir`, `wrong-path`, `unsigned`, `other-key`, `wrong-signature`,
 *   `compression`, or `length` when it contradicts itself.
 */
export function verifyUpstreamNarInfo(
  text: string,
  expected: NarInfoExpectations,
): UpstreamNarInfo {
  const parsed = readUpstreamNarInfo(text, expected.storeDir);
  const { manifest } = parsed;
  if (manifest.storePathHash !== expected.storePathHash) {
    throw new UpstreamFault(
      "wrong-path",
      `the narinfo ${expected.storePathHash} is about ${manifest.storePath}`,
    );
  }
  requireSignature(manifest, expected);
  return parsed;
}

/** Reads a narinfo that was verified when it came. @throws {UpstreamFault} as `verifyUpstreamNarInfo`. */
export function readUpstreamNarInfo(text: string, storeDir: string): UpstreamNarInfo {
  const info = parse(text);
  if (!info.storePath.startsWith(`${storeDir}/`)) {
    throw new UpstreamFault("store-dir", `${info.storePath} does not lie in ${storeDir}`);
  }
  const manifest = toManifest(info, storeDir);
  const compression = compressionOf(info);
  if (compression !== "none") {
    const { fileHash, fileSize, url } = info;
    const hex = fileHash && formatHash(fileHash, "base16").replace(/^sha256:/, "");
    return { manifest, url, compression, fileHash: hex, fileSize, text };
  }
  // The file is the NAR, whose hash and size are signed.
  if (info.fileHash !== undefined && !equalHashes(info.fileHash, info.narHash)) {
    throw new UpstreamFault("file-hash", `${info.storePath} says two hashes of the same bytes`);
  }
  if (info.fileSize !== undefined && info.fileSize !== info.narSize) {
    throw new UpstreamFault("length", `${info.storePath} says two sizes of the same bytes`);
  }
  const { narHash: fileHash, narSize: fileSize } = manifest;
  return { manifest, url: info.url, compression, fileHash, fileSize, text };
}

/** What clients get: the upstream's words, but our own address of the NAR. */
export function formatServedNarInfo(narInfo: UpstreamNarInfo): string {
  const { manifest, compression, fileHash, fileSize } = narInfo;
  const { storePath, narSize, references, deriver, ca, system, signatures } = manifest;
  return formatNarInfo({
    storePath,
    url: `nar/${servedFileName(narInfo)}`,
    compression,
    ...(fileHash === undefined ? {} : { fileHash: parseHash(fileHash, "sha256") }),
    ...(fileSize === undefined ? {} : { fileSize }),
    narHash: parseHash(manifest.narHash, "sha256"),
    narSize,
    references,
    ...(deriver === undefined ? {} : { deriver }),
    ...(system === undefined ? {} : { system }),
    ...(ca === undefined ? {} : { ca }),
    signatures,
  });
}

function servedFileName({ manifest, compression, fileHash }: UpstreamNarInfo): string {
  const name = fileHash === undefined ? manifest.storePathHash : sha256HexToNix32(fileHash);
  const extension = extensionOf(compression);
  return extension === "" ? `${name}.nar` : `${name}.nar.${extension}`;
}

function parse(text: string): NarInfo {
  try {
    return parseNarInfo(text);
  } catch (cause) {
    const what = /^\s*</.test(text) ? "a page for people" : "no narinfo";
    throw new UpstreamFault("not-narinfo", `it answered ${what} where a narinfo belongs`, cause);
  }
}

function toManifest(info: NarInfo, storeDir: string): PathManifest {
  try {
    return parsePathManifest({ ...info, narHash: formatHash(info.narHash, "base16") }, storeDir);
  } catch (cause) {
    throw new UpstreamFault("not-narinfo", `the narinfo of ${info.storePath} is unusable`, cause);
  }
}

function compressionOf(info: NarInfo): ObjectCompression {
  try {
    return parseCompression(info.compression);
  } catch (cause) {
    throw new UpstreamFault(
      "compression",
      `${info.storePath} is compressed as ${JSON.stringify(info.compression.slice(0, 20))}, which is not decoded here`,
      cause,
    );
  }
}

function requireSignature(
  manifest: PathManifest,
  { storeDir, publicKeys }: NarInfoExpectations,
): void {
  const { storePath, narSize, references, signatures } = manifest;
  if (signatures.length === 0) throw new UpstreamFault("unsigned", `${storePath} is not signed`);
  const narHash = parseHash(manifest.narHash, "sha256");
  const fingerprint = narInfoFingerprint({ storePath, narHash, narSize, references, storeDir });
  if (signatures.some((signature) => verifySignature(publicKeys, fingerprint, signature))) return;
  const names = signatures.map((signature) => signature.slice(0, signature.indexOf(":")));
  const claimed = names.find((name) => publicKeys.some((key) => key.name === name));
  if (claimed !== undefined) {
    throw new UpstreamFault(
      "wrong-signature",
      `the signature of ${storePath} is not by the key ${claimed} that this upstream was given`,
    );
  }
  throw new UpstreamFault(
    "other-key",
    `${storePath} is signed by ${names.join(", ")}, and not by ${publicKeys.map((key) => key.name).join(", ")}`,
  );
}
