import { isCacheError } from "@glorious/core";
import { parseNarInfo, parseStorePath, parseStorePathBaseName } from "@glorious/nix-store";

/** What the face knows of a store path that the cache has. */
export interface KnownPath {
  readonly storePathHash: string;
  /** The narinfo as the cache sent it. */
  readonly text: string;
  /** Where its NAR is, relative to the cache or absolute. */
  readonly url: string;
  readonly compression: string;
  /** Lowercase hexadecimal SHA-256 of the file, where the cache says it. */
  readonly fileHash: string | undefined;
  readonly fileSize: number | undefined;
  /** Lowercase hexadecimal SHA-256. */
  readonly narHash: string;
  readonly narSize: number;
  /** Store path hashes, itself excepted. */
  readonly references: readonly string[];
  readonly learnedAtMs: number;
}

/** Reads a narinfo that was asked for by a hash; `undefined` when it is malformed or about something else. */
export function readKnownPath(
  storePathHash: string,
  text: string,
  nowMs: number,
): KnownPath | undefined {
  try {
    const info = parseNarInfo(text);
    const { storeDir, hash } = parseStorePath(info.storePath, storeDirOf(info.storePath));
    if (hash !== storePathHash) return undefined;
    const references = info.references
      .map((reference) => parseStorePathBaseName(reference, storeDir).hash)
      .filter((reference) => reference !== hash);
    return {
      storePathHash,
      text,
      url: info.url,
      compression: info.compression,
      fileHash: info.fileHash?.bytes.toString("hex"),
      fileSize: info.fileSize,
      narHash: info.narHash.bytes.toString("hex"),
      narSize: info.narSize,
      references,
      learnedAtMs: nowMs,
    };
  } catch (error) {
    if (isCacheError(error)) return undefined;
    throw error;
  }
}

function storeDirOf(storePath: string): string {
  return storePath.slice(0, Math.max(1, storePath.lastIndexOf("/")));
}

/** Narinfos, and for a moment what the cache said it does not have. Never what went wrong. */
export interface KnownPaths {
  get(storePathHash: string): KnownPath | "absent" | undefined;
  /** The path whose narinfo names this file. */
  ofFile(url: string): KnownPath | undefined;
  put(path: KnownPath): void;
  putAbsent(storePathHash: string): void;
  forget(storePathHash: string): void;
  /** The hashes that were learned last. */
  latest(count: number): readonly string[];
  /** How many levels of references a path has below it, as far as they are known. */
  height(storePathHash: string): number;
}

/** A path may be collected when nobody used it for an hour. */
const PATH_MAX_AGE_MS = 30 * 60_000;
/** Somebody else may push it at any time. */
const ABSENT_MAX_AGE_MS = 10_000;
const MAX_PATHS = 20_000;

/** An empty memory. */
export function createKnownPaths(nowMs: () => number): KnownPaths {
  const paths = new Map<string, KnownPath>();
  const files = new Map<string, string>();
  const absent = new Map<string, number>();
  const heights = new Map<string, number>();

  const forget = (storePathHash: string): void => {
    const path = paths.get(storePathHash);
    if (path === undefined) return;
    paths.delete(storePathHash);
    if (files.get(path.url) === storePathHash) files.delete(path.url);
  };
  const dropOldest = (known: Map<string, unknown>, drop: (key: string) => void): void => {
    if (known.size <= MAX_PATHS) return;
    const oldest = known.keys().next();
    if (oldest.done !== true) drop(oldest.value);
  };

  const height = (storePathHash: string): number => {
    const before = heights.get(storePathHash);
    if (before !== undefined) return before;
    // No two paths refer to each other; should a cache say so, this ends it.
    heights.set(storePathHash, 0);
    let levels = 0;
    for (const reference of paths.get(storePathHash)?.references ?? []) {
      levels = Math.max(levels, height(reference) + 1);
    }
    heights.set(storePathHash, levels);
    return levels;
  };

  return {
    get(storePathHash) {
      const path = paths.get(storePathHash);
      if (path !== undefined) {
        if (nowMs() - path.learnedAtMs < PATH_MAX_AGE_MS) return path;
        forget(storePathHash);
      }
      const absentAtMs = absent.get(storePathHash);
      if (absentAtMs === undefined) return undefined;
      if (nowMs() - absentAtMs < ABSENT_MAX_AGE_MS) return "absent";
      absent.delete(storePathHash);
      return undefined;
    },
    ofFile(url) {
      const storePathHash = files.get(url);
      return storePathHash === undefined ? undefined : paths.get(storePathHash);
    },
    put(path) {
      absent.delete(path.storePathHash);
      paths.delete(path.storePathHash);
      paths.set(path.storePathHash, path);
      files.set(path.url, path.storePathHash);
      heights.clear();
      dropOldest(paths, forget);
    },
    putAbsent(storePathHash) {
      absent.set(storePathHash, nowMs());
      dropOldest(absent, (oldest) => absent.delete(oldest));
    },
    forget,
    latest: (count) => [...paths.keys()].slice(-count),
    height,
  };
}
