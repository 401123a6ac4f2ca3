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
  /** What it says, in the order of ours and without what nobody knows: an upstream may add anything to what is signed. */
  readonly text: string;
}

/** Longer than any address of a file. */
const MAX_URL_CHARS = 4096;

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
  if (info.url.length > MAX_URL_CHARS) {
    throw new UpstreamFault("not-narinfo", `the narinfo of ${info.storePath} has no usable URL`);
  }
  const manifest = toManifest(info, storeDir);
  const facts = { manifest, compression: compressionOf(info), ...readFile(info, manifest) };
  return { ...facts, url: info.url, text: format(facts, info.url) };
}

type FileFacts = Pick<UpstreamNarInfo, "fileHash" | "fileSize">;

/** What is said of the file. @throws {UpstreamFault} `file-hash` or `length` when that contradicts what is signed. */
function readFile(info: NarInfo, manifest: PathManifest): FileFacts {
  const { fileHash, fileSize, narHash, narSize, storePath } = info;
  if (info.compression !== "none") {
    const hex = fileHash && formatHash(fileHash, "base16").replace(/^sha256:/, "");
    return { fileHash: hex, fileSize };
  }
  // The file is the NAR, whose hash and size are signed.
  if (fileHash !== undefined && !equalHashes(fileHash, narHash)) {
    throw new UpstreamFault("file-hash", `${storePath} says two hashes of the same bytes`);
  }
  if (fileSize !== undefined && fileSize !== narSize) {
    throw new UpstreamFault("length", `${storePath} says two sizes of the same bytes`);
  }
  return { fileHash: manifest.narHash, fileSize: narSize };
}

/** What clients get: the upstream's words, but our own address of the NAR. */
export function formatServedNarInfo(narInfo: UpstreamNarInfo): string {
  return format(narInfo, `nar/${servedFileName(narInfo)}`);
}

function format(
  { manifest, compression, fileHash, fileSize }: Omit<UpstreamNarInfo, "url" | "text">,
  url: string,
): string {
  const { storePath, narSize, references, deriver, ca, system, signatures } = manifest;
  return formatNarInfo({
    storePath,
    url,
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
  const file = fileHash === undefined ? "" : `-${sha256HexToNix32(fileHash)}`;
  const name = `${manifest.storePathHash}${file}`;
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
