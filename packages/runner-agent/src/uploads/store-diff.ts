import { readdir, readFile } from "node:fs/promises";

import { writeSessionFile } from "../session/session-state.ts";
import { openLocalStore } from "./local-store.ts";
import { isWorthPushing } from "./store-names.ts";

/** How long Nix may take to tell which paths are valid. */
const NIX_TIMEOUT_MS = 60_000;

/** Keeps the names that are in the store directory now, valid or not. */
export async function takeSnapshot(storeDir: string, file: string): Promise<void> {
  const names = await readdir(storeDir).catch(() => []);
  await writeSessionFile(file, names.map((name) => `${name}\n`).join(""));
}

/**
 * The store paths that became valid since the snapshot, whoever made them.
 *
 * @throws {CacheError} when Nix does not tell; an error of the file system when there is no snapshot.
 */
export async function findNewPaths(options: {
  readonly storeDir: string;
  readonly snapshotFile: string;
  readonly nix: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly signal: AbortSignal;
}): Promise<readonly string[]> {
  const { storeDir, env, signal } = options;
  const old = new Set((await readFile(options.snapshotFile, "utf8")).split("\n"));
  const names = await readdir(storeDir);
  const fresh = names.filter(
    (name) => !old.has(name) && isWorthPushing(name, { skipSources: false }),
  );
  const store = openLocalStore(options.nix, storeDir, { env, signal, timeoutMs: NIX_TIMEOUT_MS });
  const valid = await store.keepValid(fresh);
  return valid.map((name) => `${storeDir}/${name}`);
}
