import { readlink } from "node:fs/promises";
import { dirname, resolve } from "node:path";

import { CacheError } from "@glorious/core";

import { systemCodeOf } from "./file-error.ts";
import type { StoreLocation } from "./store-location.ts";

const MAX_LINKS = 64;

/**
 * Finds the store path that `path` is, lies in, or leads to through symbolic links (`./result`, a
 * profile). Links into a store below another root are followed by that store's own names.
 *
 * @returns The store path's text, `<store dir>/<hash>-<name>`; whether it is valid is not looked at.
 * @throws {CacheError} `NOT_FOUND` when it does not exist, `INVALID` when it leads elsewhere.
 */
export async function resolveStorePath(path: string, location: StoreLocation): Promise<string> {
  let current = resolve(path);
  for (let links = 0; links <= MAX_LINKS; links += 1) {
    const found = cutToStorePath(current, location);
    if (found !== undefined) return found;
    const next = await followFirstLink(current, path, location);
    if (next === undefined) {
      throw new CacheError("INVALID", `${path} is not in the store ${location.storeDir}`, {
        hint: "Name a store path, something inside one, or a link to one such as ./result.",
      });
    }
    current = next;
  }
  throw new CacheError("INVALID", `${path} is a circle of symbolic links`);
}

function cutToStorePath(
  path: string,
  { storeDir, realStoreDir }: StoreLocation,
): string | undefined {
  for (const directory of [storeDir, realStoreDir]) {
    if (!path.startsWith(`${directory}/`)) continue;
    const [baseName] = path.slice(directory.length + 1).split("/", 1);
    if (baseName !== undefined && baseName !== "") return `${storeDir}/${baseName}`;
  }
  return undefined;
}

/** Replaces the first component that is a link; `undefined` when none is. */
async function followFirstLink(
  path: string,
  asked: string,
  location: StoreLocation,
): Promise<string | undefined> {
  const components = path.split("/").slice(1);
  for (let count = 1; count <= components.length; count += 1) {
    const prefix = `/${components.slice(0, count).join("/")}`;
    // The store's parents may be links of their own (/nix on some machines); its names stay as they are.
    if (`${location.storeDir}/`.startsWith(`${prefix}/`)) continue;
    const target = await readLink(prefix, asked);
    if (target !== undefined) {
      return resolve(dirname(prefix), target, ...components.slice(count));
    }
  }
  return undefined;
}

async function readLink(path: string, asked: string): Promise<string | undefined> {
  try {
    return await readlink(path);
  } catch (error) {
    const code = systemCodeOf(error);
    if (code === "EINVAL") return undefined;
    if (code === "ENOENT" || code === "ENOTDIR") {
      throw new CacheError("NOT_FOUND", `${asked} does not exist`, { cause: error });
    }
    throw new CacheError("INVALID", `${asked} cannot be followed at ${path}: ${code}`, {
      cause: error,
    });
  }
}
