import { CacheError } from "@glorious/core";
import {
  DEFAULT_STORE_DIR,
  parseNixCacheInfo,
  parsePublicKey,
  type PublicKey,
} from "@glorious/nix-store";

import type { CacheFiles } from "./cache-files.ts";
import type { CacheSource } from "./cache-source.ts";
import { checkNarInfo } from "./check-nar-info.ts";

const MAX_TEXT_BYTES = 2 ** 20;

/**
 * A binary cache that is read like Nix reads it.
 *
 * @param keys - Whose signatures count, as in `trusted-public-keys`; `undefined` believes the source.
 * @throws {CacheError} `UNSUPPORTED` when it is no binary cache; `INVALID` for a key that is none.
 */
export async function openBinaryCache(
  files: CacheFiles,
  keys: readonly string[] | undefined,
  signal?: AbortSignal,
): Promise<CacheSource> {
  const publicKeys: readonly PublicKey[] | undefined = keys?.map((key) => parsePublicKey(key));
  const about = await files.readText("nix-cache-info", { maxBytes: MAX_TEXT_BYTES, signal });
  const storeDir = about === undefined ? DEFAULT_STORE_DIR : readStoreDir(about, files.name);
  const rules = { storeDir, keys: publicKeys };
  return {
    name: files.name,
    storeDir,
    find: async (storePathHash, findSignal) => {
      const file = `${storePathHash}.narinfo`;
      const options = { maxBytes: MAX_TEXT_BYTES, signal: findSignal };
      const text = await files.readText(file, options);
      return text === undefined
        ? undefined
        : checkNarInfo(text, storePathHash, `${file} of ${files.name}`, rules);
    },
    read: ({ location }, readSignal) => files.stream(location, readSignal),
    list: (listSignal) => files.listHashes(listSignal),
    [Symbol.asyncDispose]: () => files[Symbol.asyncDispose](),
  };
}

function readStoreDir(text: string, name: string): string {
  try {
    if (/^\s*</.test(text)) throw new Error("It is a web page");
    return parseNixCacheInfo(text).storeDir;
  } catch (error) {
    throw new CacheError("UNSUPPORTED", `${name} is no binary cache: its nix-cache-info is none`, {
      cause: error,
      hint: "Name the address below which Nix finds nix-cache-info.",
    });
  }
}
