import { CacheError } from "@glorious/core";

/** Where Nix keeps its store unless told otherwise. */
export const DEFAULT_STORE_DIR = "/nix/store";

/** The longest name Nix gives a store path, in characters. */
export const MAX_STORE_PATH_NAME_LENGTH = 211;

/** A store path taken apart. */
export interface StorePath {
  /** The directory, without a trailing slash: `/nix/store`. */
  readonly storeDir: string;
  /** The store path hash, 32 nix32 characters. */
  readonly hash: string;
  /** What follows the hash and its dash. */
  readonly name: string;
  /** `<hash>-<name>` */
  readonly baseName: string;
  /** The whole path. */
  readonly path: string;
}

const HASH = /^[0-9abcdfghijklmnpqrsvwxyz]{32}$/;
const NAME = /^[A-Za-z0-9+\-._?=]{1,211}$/;
/** Newer Nix refuses these because tools mistake `.` and `..` before a dash for directories. */
const DOT_NAME = /^\.\.?(?:-|$)/;
const STORE_DIR = /^(?:\/(?!\.\.?(?:\/|$))[^/\0\n\r]+)+$/;

/** Tells whether `text` is a store path hash: 32 nix32 characters. */
export function isStorePathHash(text: string): boolean {
  return HASH.test(text);
}

/** Tells whether `text` may follow the hash in a store path, by the rules of current Nix. */
export function isStorePathName(text: string): boolean {
  return NAME.test(text) && !DOT_NAME.test(text);
}

/** Tells whether `text` is a store directory: absolute, normalized, without a trailing slash. */
export function isStoreDir(text: string): boolean {
  return STORE_DIR.test(text);
}

/**
 * Parses an absolute store path such as `/nix/store/<hash>-<name>`; a path inside one is refused.
 *
 * @throws {CacheError} `INVALID` when the text is no store path of `storeDir`.
 * @see `src/libstore/path.cc` in NixOS/nix.
 */
export function parseStorePath(path: string, storeDir: string = DEFAULT_STORE_DIR): StorePath {
  if (!path.startsWith(`${storeDir}/`)) throw invalid(path, `it is not in ${storeDir}`);
  return take(path.slice(storeDir.length + 1), storeDir, path);
}

/**
 * Parses `<hash>-<name>`, the form references and derivers take in a narinfo.
 *
 * @throws {CacheError} `INVALID` when the text is no base name of a store path.
 */
export function parseStorePathBaseName(
  baseName: string,
  storeDir: string = DEFAULT_STORE_DIR,
): StorePath {
  return take(baseName, storeDir, baseName);
}

function take(baseName: string, storeDir: string, shown: string): StorePath {
  const hash = baseName.slice(0, 32);
  const name = baseName.slice(33);
  if (!isStorePathHash(hash) || baseName[32] !== "-") {
    throw invalid(shown, "32 nix32 characters and a dash are wanted at its start");
  }
  if (!isStorePathName(name)) {
    throw invalid(
      shown,
      `its name is not 1 to ${MAX_STORE_PATH_NAME_LENGTH} letters, digits and +-._?=, or reads like . or ..`,
    );
  }
  return { storeDir, hash, name, baseName, path: `${storeDir}/${baseName}` };
}

function invalid(text: string, reason: string): CacheError {
  const shown = text.length > 300 ? `${text.slice(0, 300)}…` : text;
  return new CacheError("INVALID", `${JSON.stringify(shown)} is not a store path: ${reason}`);
}
