import { lstat, readdir } from "node:fs/promises";
import { join } from "node:path";

import { CacheError, isCacheError } from "@glorious/core";
import { isStorePathHash, type NarInfo, parseNarInfo } from "@glorious/nix-store";

import type { HttpSession } from "../../doctor/http-session.ts";

/** A store path that the view has. */
export interface FoundPath {
  readonly storePath: string;
  readonly narInfo: NarInfo;
}

const MAX_CANDIDATES = 48;
const AT_A_TIME = 8;

/**
 * Looks among the newest paths of the local store for one that the cache has: the smallest of the newest
 * few it knows.
 *
 * @returns `undefined` when it has none of them.
 * @throws {CacheError} when the cache stops answering, or answers neither 200 nor 404.
 */
export async function findStorePath(
  realStoreDir: string,
  substituter: string,
  session: HttpSession,
  password: string | undefined,
): Promise<FoundPath | undefined> {
  const names = await newestPaths(realStoreDir);
  for (let start = 0; start < names.length; start += AT_A_TIME) {
    const found = await Promise.all(
      names.slice(start, start + AT_A_TIME).map(async (name) => {
        const narInfo = await getNarInfo(name.slice(0, 32), substituter, session, password);
        return narInfo === undefined ? [] : [{ storePath: narInfo.storePath, narInfo }];
      }),
    );
    const [smallest] = found
      .flat()
      .sort((left, right) => left.narInfo.narSize - right.narInfo.narSize);
    if (smallest !== undefined) return smallest;
  }
  return undefined;
}

/**
 * Reads one narinfo as Nix would.
 *
 * @returns `undefined` when the cache does not have it.
 * @throws {CacheError} `CORRUPT` when Nix could not read it, `UNAVAILABLE` for any other answer.
 */
export async function getNarInfo(
  hash: string,
  substituter: string,
  session: HttpSession,
  password: string | undefined,
): Promise<NarInfo | undefined> {
  const answer = await session.get(`${substituter}/${hash}.narinfo`, password);
  if (answer.status === 404 || answer.status === 410) return undefined;
  if (answer.status !== 200) {
    throw new CacheError("UNAVAILABLE", `${hash}.narinfo was answered with ${answer.status}`);
  }
  try {
    return parseNarInfo(answer.body);
  } catch (error) {
    const reason = isCacheError(error) ? error.message : String(error);
    throw new CacheError("CORRUPT", `${hash}.narinfo is malformed: ${reason}`, { cause: error });
  }
}

async function newestPaths(realStoreDir: string): Promise<string[]> {
  const names = await readdir(realStoreDir).catch(() => []);
  const dated = await Promise.all(
    names.filter(isBuilt).map(async (name) => {
      // Nix sets every modification time to 1; the change time is when the path came to be.
      const stats = await lstat(join(realStoreDir, name)).catch(() => undefined);
      return { name, atMs: stats?.ctimeMs ?? 0 };
    }),
  );
  dated.sort((left, right) => right.atMs - left.atMs);
  return dated.slice(0, MAX_CANDIDATES).map(({ name }) => name);
}

function isBuilt(name: string): boolean {
  return (
    isStorePathHash(name.slice(0, 32)) &&
    name[32] === "-" &&
    !/\.(drv|lock|chroot|check)$/.test(name)
  );
}
