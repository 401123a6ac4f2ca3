import { CacheError } from "@glorious/core";
import { isStorePathHash, nix32ToSha256Hex } from "@glorious/nix-store";

import { AtticError } from "../http/attic-error.ts";

/** What a file name under `nar/` asks for. */
export type NarFileName =
  | {
      readonly kind: "path";
      readonly storePathHash: string;
      /** What follows `.nar`, without its dot; empty for whatever the NAR is stored as. */
      readonly extension: string;
    }
  | {
      readonly kind: "file";
      readonly fileHash: string;
      /** Of a path whose NAR it is, where the name says that too. */
      readonly storePathHash?: string;
      /** What follows `.nar`, without its dot; empty for none. */
      readonly extension: string;
    };

/**
 * Reads `<file hash>.nar[.<extension>]`, as our narinfos and Nix's uploads name it, or Attic's
 * `<store path hash>.nar`; with an extension that is a file of an upstream whose hash nobody knows beforehand.
 * A file that is still upstream is called `<store path hash>-<file hash>.nar[.<extension>]`: clients keep narinfos for
 * a month, and whoever does not know the file any more finds it again by its path.
 *
 * @throws {CacheError} `NOT_FOUND` for any other name.
 */
export function parseNarFileName(name: string): NarFileName {
  const parsed = findNarFileName(name);
  if (parsed !== undefined) return parsed;
  throw new AtticError("NotFound", "NOT_FOUND", `There is no file nar/${name} in a Nix cache`);
}

/** The same, with `undefined` for any other name. */
export function findNarFileName(name: string): NarFileName | undefined {
  const dot = name.indexOf(".");
  const hash = dot < 0 ? name : name.slice(0, dot);
  const suffix = dot < 0 ? "" : name.slice(dot);
  const matched = /^\.nar(?:\.([a-z0-9]{1,8}))?$/.exec(suffix);
  if (matched === null) return undefined;
  const extension = matched[1] ?? "";
  if (isStorePathHash(hash)) return { kind: "path", storePathHash: hash, extension };
  const [, storePathHash, file = hash] = /^([^-]+)-(.+)$/.exec(hash) ?? [];
  if (storePathHash !== undefined && !isStorePathHash(storePathHash)) return undefined;
  const fileHash = parseFileHash(file);
  if (fileHash === undefined) return undefined;
  return {
    kind: "file",
    fileHash,
    ...(storePathHash === undefined ? {} : { storePathHash }),
    extension,
  };
}

function parseFileHash(text: string): string | undefined {
  if (!/^[0-9a-z]{52}$/.test(text)) return undefined;
  try {
    return nix32ToSha256Hex(text);
  } catch {
    return undefined;
  }
}

/**
 * Takes the store path hash from `<hash>.narinfo` or `<hash>.ls`.
 *
 * @throws {CacheError} `NOT_FOUND` when it is none; Attic answers 500 there.
 */
export function requireStorePathHash(hash: string): string {
  if (isStorePathHash(hash)) return hash;
  throw new AtticError("NotFound", "NOT_FOUND", `${JSON.stringify(hash)} is no store path hash`);
}

/** @throws {CacheError} `INVALID` for a name that is no plain file name. */
export function requireDocumentName(name: string): string {
  if (/^[A-Za-z0-9+\-._?=:!^]{1,255}$/.test(name) && name !== "." && name !== "..") return name;
  throw new CacheError(
    "INVALID",
    `${JSON.stringify(name.slice(0, 100))} is no name of a Nix document`,
  );
}
