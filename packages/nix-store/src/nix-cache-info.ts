import { CacheError } from "@glorious/core";

import { DEFAULT_STORE_DIR, isStoreDir } from "./store-path.ts";

/** What a binary cache says about itself in `nix-cache-info`. */
export interface NixCacheInfo {
  /** A reader whose store lies elsewhere refuses the cache. */
  readonly storeDir: string;
  /** Whether the cache likes to be asked for many narinfos at once. */
  readonly wantMassQuery: boolean;
  /** Lower is asked first; cache.nixos.org says 40. `undefined` leaves Nix its own default. */
  readonly priority: number | undefined;
}

/**
 * Parses the text of `nix-cache-info`; unknown keys and lines without a colon are ignored, as Nix does.
 *
 * @throws {CacheError} `CORRUPT` when a known key has a value that makes no sense.
 * @see `BinaryCacheStore::init` in NixOS/nix.
 */
export function parseNixCacheInfo(text: string): NixCacheInfo {
  const fields = new Map<string, string>();
  for (const line of text.split("\n")) {
    const colon = line.indexOf(":");
    if (colon > 0) fields.set(line.slice(0, colon), line.slice(colon + 1).trim());
  }
  const storeDir = fields.get("StoreDir") ?? DEFAULT_STORE_DIR;
  if (!isStoreDir(storeDir)) throw corrupt("StoreDir", storeDir);
  const priority = fields.get("Priority");
  if (priority !== undefined && !/^-?\d{1,9}$/.test(priority)) throw corrupt("Priority", priority);
  return {
    storeDir,
    wantMassQuery: fields.get("WantMassQuery") === "1",
    // `-0` and `0` are one priority.
    priority: priority === undefined ? undefined : Number(priority) + 0,
  };
}

/** Formats `nix-cache-info`; what is absent or false is left out, as Nix itself does. */
export function formatNixCacheInfo(info: NixCacheInfo): string {
  const massQuery = info.wantMassQuery ? "WantMassQuery: 1\n" : "";
  const priority = info.priority === undefined ? "" : `Priority: ${info.priority}\n`;
  return `StoreDir: ${info.storeDir}\n${massQuery}${priority}`;
}

function corrupt(key: string, value: string): CacheError {
  return new CacheError(
    "CORRUPT",
    `nix-cache-info is corrupt: ${key} is ${JSON.stringify(value.slice(0, 160))}`,
  );
}
