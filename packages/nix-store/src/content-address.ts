import { createHash } from "node:crypto";

import { CacheError } from "@glorious/core";

import { formatHash, type NixHash, parseHash } from "./hash.ts";
import { encodeNix32 } from "./nix32.ts";
import { DEFAULT_STORE_DIR, type StorePath } from "./store-path.ts";

/** How content became a hash: its text, the file's bytes, its NAR, or its Git tree. */
export type ContentAddressMethod = "text" | "flat" | "nar" | "git";

/** Where a store path's name comes from when it follows from its content. */
export interface ContentAddress {
  readonly method: ContentAddressMethod;
  readonly hash: NixHash;
}

const PREFIXES: readonly (readonly [prefix: string, method: ContentAddressMethod])[] = [
  ["text:", "text"],
  ["fixed:r:", "nar"],
  ["fixed:git:", "git"],
  ["fixed:", "flat"],
];

/**
 * Parses the `CA` field of a narinfo: `text:sha256:…`, `fixed:sha256:…`, `fixed:r:sha256:…` or `fixed:git:sha1:…`.
 *
 * @throws {CacheError} `INVALID` when the text is no content address.
 * @see `src/libstore/content-address.cc` in NixOS/nix.
 */
export function parseContentAddress(text: string): ContentAddress {
  const [prefix, method] = PREFIXES.find(([start]) => text.startsWith(start)) ?? [];
  const rest = prefix === undefined ? "" : text.slice(prefix.length);
  if (method === undefined || !/^[a-z0-9]+:/.test(rest)) {
    throw invalid(text, "text:sha256:, fixed:<algorithm>: or fixed:r:<algorithm>: is wanted");
  }
  const hash = parseHash(rest);
  if (method === "text" && hash.algorithm !== "sha256") throw invalid(text, "text is sha256 only");
  return { method, hash };
}

/** Formats a content address as Nix does, its hash in nix32. */
export function formatContentAddress(address: ContentAddress): string {
  const [prefix] = PREFIXES.find(([, method]) => method === address.method) ?? [""];
  return `${prefix}${formatHash(address.hash, "nix32")}`;
}

/**
 * The store path that Nix gives content with this address, name and references.
 *
 * @param path.references base names, with the path itself when it refers to itself.
 * @returns `undefined` where Nix knows no such path: references on content whose method cannot have any.
 * @see `makeFixedOutputPathFromCA` in `src/libstore/store-api.cc` of NixOS/nix.
 */
export function contentAddressedPath(
  address: ContentAddress,
  path: { name: string; references: readonly string[]; isSelfReferring?: boolean },
  storeDir: string = DEFAULT_STORE_DIR,
): string | undefined {
  const { name, isSelfReferring = false } = path;
  const references = [...new Set(path.references)].sort().map((base) => `${storeDir}/${base}`);
  const { method, hash } = address;
  if (method === "text") {
    if (isSelfReferring) return undefined;
    return storePathOf(["text", ...references].join(":"), hash, name, storeDir);
  }
  if (method === "nar" && hash.algorithm === "sha256") {
    const type = ["source", ...references, ...(isSelfReferring ? ["self"] : [])].join(":");
    return storePathOf(type, hash, name, storeDir);
  }
  if (references.length > 0 || isSelfReferring) return undefined;
  const marker = { nar: "r:", git: "git:", flat: "" }[method];
  const inner = sha256(`fixed:out:${marker}${formatHash(hash, "base16")}:`);
  return storePathOf("output:out", { algorithm: "sha256", bytes: inner }, name, storeDir);
}

/**
 * Tells whether a store path is the one its content address gives: such a path needs no signature.
 *
 * The content itself is not looked at; only its hash, as the address states it.
 */
export function isContentAddressed(
  storePath: StorePath,
  info: { ca: string; references: readonly string[] },
): boolean {
  const references = info.references.filter((reference) => reference !== storePath.baseName);
  const path = contentAddressedPath(
    parseContentAddress(info.ca),
    {
      name: storePath.name,
      references,
      isSelfReferring: references.length < info.references.length,
    },
    storePath.storeDir,
  );
  return path === storePath.path;
}

function storePathOf(type: string, hash: NixHash, name: string, storeDir: string): string {
  const digest = sha256(`${type}:${formatHash(hash, "base16")}:${storeDir}:${name}`);
  return `${storeDir}/${encodeNix32(foldTo20(digest))}-${name}`;
}

/** Nix shortens a hash by XORing its bytes around, not by cutting it. */
function foldTo20(digest: Buffer): Buffer {
  const folded = Buffer.alloc(20);
  for (const [index, byte] of digest.entries()) {
    folded[index % 20] = (folded[index % 20] ?? 0) ^ byte;
  }
  return folded;
}

function sha256(text: string): Buffer {
  return createHash("sha256").update(text).digest();
}

function invalid(text: string, reason: string): CacheError {
  const shown = text.length > 160 ? `${text.slice(0, 160)}…` : text;
  return new CacheError("INVALID", `${JSON.stringify(shown)} is not a content address: ${reason}`);
}
