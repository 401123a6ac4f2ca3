import {
  formatNarInfo,
  narInfoFingerprint,
  parseHash,
  parseNarInfo,
  parseSecretKey,
  type SecretKey,
  sha256HexToNix32,
  signFingerprint,
} from "@glorious/nix-store";

import type { ObjectCompression, SigningKeyRecord } from "../index/cache-index.ts";
import { extensionOf } from "../ingest/nar-decoder.ts";
import type { PathManifest } from "./path-manifest.ts";

/** What a narinfo says of the object behind it. */
export interface NamedObject {
  readonly fileHash: string;
  readonly fileSize: number;
  /** Default `zstd`, as all are that views hold. */
  readonly compression?: ObjectCompression;
}

/** Where a stored object is read, relative to its view. */
function objectUrl(fileHash: string, compression: ObjectCompression): string {
  const extension = extensionOf(compression);
  return `nar/${sha256HexToNix32(fileHash)}.nar${extension === "" ? "" : `.${extension}`}`;
}

/** Keys parsed once: making a key object costs more than signing with it. */
const parsedKeys = new Map<string, SecretKey>();
const MAX_PARSED_KEYS = 10_000;

/**
 * The text of a path's narinfo, signed with every key of its view; clients' own signatures follow,
 * except those that claim to be by one of our keys.
 */
export function formatSignedNarInfo(
  path: PathManifest,
  object: NamedObject,
  view: { readonly storeDir: string; readonly keys: readonly SigningKeyRecord[] },
): string {
  const { compression = "zstd" } = object;
  const narHash = parseHash(path.narHash, "sha256");
  const fingerprint = narInfoFingerprint({
    storePath: path.storePath,
    narHash,
    narSize: path.narSize,
    references: path.references,
    storeDir: view.storeDir,
  });
  const ourNames = new Set(view.keys.map((key) => key.name));
  const foreign = path.signatures.filter(
    (signature) => !ourNames.has(signature.slice(0, signature.indexOf(":"))),
  );
  return formatNarInfo({
    storePath: path.storePath,
    url: objectUrl(object.fileHash, compression),
    compression,
    fileHash: parseHash(object.fileHash, "sha256"),
    fileSize: object.fileSize,
    narHash,
    narSize: path.narSize,
    references: path.references,
    ...(path.deriver === undefined ? {} : { deriver: path.deriver }),
    ...(path.system === undefined ? {} : { system: path.system }),
    ...(path.ca === undefined ? {} : { ca: path.ca }),
    signatures: [
      ...view.keys.map((key) => signFingerprint(secretKeyOf(key), fingerprint)),
      ...foreign,
    ],
  });
}

/** Adds the signatures of a view's keys to a narinfo that somebody else has signed. */
export function addSignatures(
  narInfo: string,
  view: { readonly storeDir: string; readonly keys: readonly SigningKeyRecord[] },
): string {
  const info = parseNarInfo(narInfo);
  const fingerprint = narInfoFingerprint({ ...info, storeDir: view.storeDir });
  const ours = view.keys.map((key) => signFingerprint(secretKeyOf(key), fingerprint));
  return formatNarInfo({ ...info, signatures: [...ours, ...info.signatures] });
}

function secretKeyOf(record: SigningKeyRecord): SecretKey {
  const known = parsedKeys.get(record.secretKey);
  if (known !== undefined) return known;
  const key = parseSecretKey(record.secretKey);
  if (parsedKeys.size >= MAX_PARSED_KEYS) parsedKeys.clear();
  parsedKeys.set(record.secretKey, key);
  return key;
}
