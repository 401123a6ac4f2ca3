import { CacheError, describeError } from "@glorious/core";

import { formatContentAddress, parseContentAddress } from "./content-address.ts";
import { formatHash, type NixHash, parseHash } from "./hash.ts";
import { isStoreDir, parseStorePath, parseStorePathBaseName } from "./store-path.ts";

/** What a cache says about one store path: the content of its `<hash>.narinfo`. */
export interface NarInfo {
  /** The absolute store path. */
  readonly storePath: string;
  /** Where the file lies: relative to the cache, or absolute. */
  readonly url: string;
  /** `none`, `xz`, `zstd` … A narinfo that does not say means `bzip2`. */
  readonly compression: string;
  /** SHA-256 of the file as stored. */
  readonly fileHash?: NixHash;
  /** Bytes of the file as stored. */
  readonly fileSize?: number;
  /** SHA-256 of the NAR, uncompressed. */
  readonly narHash: NixHash;
  /** Bytes of the NAR, uncompressed. */
  readonly narSize: number;
  /** Base names of the store paths it refers to; it may name itself. */
  readonly references: readonly string[];
  /** Base name of the derivation that built it. */
  readonly deriver?: string;
  /** The platform, such as `x86_64-linux`; current Nix neither reads nor writes it. */
  readonly system?: string;
  /** The content address, such as `fixed:r:sha256:…`. */
  readonly ca?: string;
  /** `<key name>:<base64>`, in the order of the file. */
  readonly signatures: readonly string[];
}

const KNOWN_FIELDS: ReadonlySet<string> = new Set([
  "StorePath",
  "URL",
  "Compression",
  "FileHash",
  "FileSize",
  "NarHash",
  "NarSize",
  "References",
  "Deriver",
  "System",
  "Sig",
  "CA",
]);

/**
 * Parses the text of a `<hash>.narinfo` file.
 *
 * Unknown fields are ignored, as Nix does, so files from newer caches stay readable. Stricter than
 * Nix where Nix would misread: only `Sig` may appear twice, every key is followed by exactly one space
 * (Nix takes the next line for the value of a bare `References:`), no value holds a control character,
 * both hashes are SHA-256, and `CA` is a content address.
 *
 * @throws {CacheError} `CORRUPT` when a line is malformed or a required field is missing.
 * @see `src/libstore/nar-info.cc` in NixOS/nix, the reference parser.
 */
export function parseNarInfo(text: string): NarInfo {
  const { fields, signatures } = readFields(text);
  const required = (name: string): string => {
    const value = fields.get(name);
    if (value === undefined || value === "") throw corrupt(`${name} is missing`);
    return value;
  };
  const optional = <T>(name: string, parse: (value: string) => T): T | undefined => {
    const value = fields.get(name);
    return value === undefined || value === "" ? undefined : within(name, () => parse(value));
  };
  const narHash = required("NarHash");
  const narSize = required("NarSize");
  const fileHash = optional("FileHash", (value) => parseHash(value, "sha256"));
  const fileSize = optional("FileSize", parseSize);
  const deriver = optional("Deriver", parseDeriver);
  const system = optional("System", (value) => value);
  const ca = optional("CA", (value) => formatContentAddress(parseContentAddress(value)));
  const info = {
    storePath: within("StorePath", () => parseAnyStorePath(required("StorePath"))),
    url: required("URL"),
    compression: fields.get("Compression") || "bzip2",
    ...(fileHash === undefined ? {} : { fileHash }),
    ...(fileSize === undefined ? {} : { fileSize }),
    narHash: within("NarHash", () => parseHash(narHash, "sha256")),
    narSize: within("NarSize", () => parseSize(narSize)),
    references: within("References", () => parseReferences(fields.get("References") ?? "")),
    ...(deriver === undefined ? {} : { deriver }),
    ...(system === undefined ? {} : { system }),
    ...(ca === undefined ? {} : { ca }),
    signatures,
  };
  if (info.narSize === 0) throw corrupt("NarSize is 0");
  return info;
}

/**
 * Formats a narinfo byte for byte as Nix writes it: Nix's field order, hashes in nix32, one space after
 * each colon (also after `References:` when there are none), a final newline.
 *
 * References are written in the order given; Nix sorts them.
 *
 * @throws {CacheError} `INVALID` when a value holds a line break and would forge another field.
 */
export function formatNarInfo(info: NarInfo): string {
  const lines = [
    `StorePath: ${info.storePath}`,
    `URL: ${info.url}`,
    `Compression: ${info.compression}`,
    ...(info.fileHash === undefined ? [] : [`FileHash: ${formatHash(info.fileHash, "nix32")}`]),
    ...(info.fileSize === undefined ? [] : [`FileSize: ${info.fileSize}`]),
    `NarHash: ${formatHash(info.narHash, "nix32")}`,
    `NarSize: ${info.narSize}`,
    `References: ${info.references.join(" ")}`,
    ...(info.deriver === undefined ? [] : [`Deriver: ${info.deriver}`]),
    ...(info.system === undefined ? [] : [`System: ${info.system}`]),
    ...info.signatures.map((signature) => `Sig: ${signature}`),
    ...(info.ca === undefined ? [] : [`CA: ${info.ca}`]),
  ];
  for (const line of lines) {
    if (hasControlCharacter(line)) {
      throw new CacheError("INVALID", `A narinfo value holds a control character: ${quote(line)}`);
    }
  }
  return `${lines.join("\n")}\n`;
}

function readFields(text: string): {
  fields: ReadonlyMap<string, string>;
  signatures: string[];
} {
  const fields = new Map<string, string>();
  const signatures: string[] = [];
  if (!text.endsWith("\n")) throw corrupt("the last line has no newline");
  for (const [index, line] of text.slice(0, -1).split("\n").entries()) {
    const colon = line.indexOf(":");
    if (colon < 1 || line[colon + 1] !== " ") {
      throw corrupt(`line ${index + 1} is not "Key: value": ${quote(line)}`);
    }
    const name = line.slice(0, colon);
    if (!KNOWN_FIELDS.has(name)) continue;
    const value = line.slice(colon + 2);
    if (hasControlCharacter(value)) {
      throw corrupt(`line ${index + 1} holds a control character: ${quote(line)}`);
    }
    // Nix keeps the second space as part of the value; only a list survives that.
    if (name !== "References" && value !== value.trim()) {
      throw corrupt(`line ${index + 1} has stray spaces: ${quote(line)}`);
    }
    if (name === "Sig") {
      if (value === "") throw corrupt(`line ${index + 1} is an empty Sig`);
      signatures.push(value);
    } else if (fields.has(name)) {
      throw corrupt(`${name} appears twice`);
    } else {
      fields.set(name, value);
    }
  }
  return { fields, signatures };
}

function parseAnyStorePath(value: string): string {
  const storeDir = value.slice(0, value.lastIndexOf("/"));
  if (!isStoreDir(storeDir)) throw new Error("it is not a normalized absolute path");
  return parseStorePath(value, storeDir).path;
}

function parseReferences(value: string): string[] {
  return value
    .split(" ")
    .filter((reference) => reference !== "")
    .map((reference) => parseStorePathBaseName(reference).baseName);
}

function parseDeriver(value: string): string | undefined {
  return value === "unknown-deriver" ? undefined : parseStorePathBaseName(value).baseName;
}

function parseSize(value: string): number {
  const size = /^\d{1,16}$/.test(value) ? Number(value) : Number.NaN;
  if (!Number.isSafeInteger(size)) throw new Error("it is not a number of bytes");
  return size;
}

function within<T>(name: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (error instanceof CacheError && error.code === "CORRUPT") throw error;
    throw corrupt(`${name}: ${describeError(error)}`, error);
  }
}

/** Code units below U+0020, and U+007F. */
function hasControlCharacter(text: string): boolean {
  for (let index = 0; index < text.length; index += 1) {
    const unit = text.charCodeAt(index);
    if (unit < 32 || unit === 127) return true;
  }
  return false;
}

function quote(line: string): string {
  return JSON.stringify(line.length > 160 ? `${line.slice(0, 160)}…` : line);
}

function corrupt(reason: string, cause?: unknown): CacheError {
  const options = cause === undefined ? {} : { cause };
  return new CacheError("CORRUPT", `The narinfo is corrupt: ${reason}`, options);
}
