import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";

import { CacheError } from "@glorious/core";

import type { NixSettings } from "../nix-settings.ts";
import type { NarInfoMemory } from "../snapshot.ts";
import { normalizeSubstituter } from "../substituter-url.ts";

/** What {@link readNarInfoMemory} looks for. */
export interface MemoryQuestion {
  /** The cache folder of whoever substitutes, such as `~/.cache`. */
  readonly cacheHome: string;
  readonly substituter: string;
  readonly storePathHash: string | undefined;
  readonly settings: Pick<NixSettings, "negativeTtlSeconds" | "positiveTtlSeconds">;
  readonly nowMs: number;
}

/**
 * Reads what Nix remembers of a cache in its `binary-cache-v*.sqlite`, without changing it.
 *
 * @throws {CacheError} `NOT_FOUND` when Nix remembers nothing at all.
 */
export async function readNarInfoMemory(question: MemoryQuestion): Promise<NarInfoMemory> {
  const { storePathHash, nowMs, settings } = question;
  const file = await findFile(join(question.cacheHome, "nix"));
  // Only here: to load it makes older versions of Node warn.
  const { DatabaseSync } = await import("node:sqlite");
  using database = new DatabaseSync(file, { readOnly: true, timeout: 2000 });
  const caches = database
    .prepare("SELECT id, url FROM BinaryCaches")
    .all()
    .filter(({ url }) => typeof url === "string" && isOurs(url, question.substituter));
  let absentPaths = 0;
  let path: NarInfoMemory["path"];
  for (const { id } of caches) {
    if (id === undefined) continue;
    const oldest = Math.floor(nowMs / 1000) - settings.negativeTtlSeconds;
    const row = database
      .prepare("SELECT count(*) AS n FROM NARs WHERE cache = ? AND present = 0 AND timestamp > ?")
      .get(id, oldest);
    absentPaths += Number(row?.["n"] ?? 0);
    if (storePathHash === undefined) continue;
    const found = database
      .prepare(
        "SELECT present, timestamp, narHash, sigs FROM NARs WHERE cache = ? AND hashPart = ?",
      )
      .get(id, storePathHash);
    if (found === undefined) continue;
    const atMs = Number(found["timestamp"]) * 1000;
    const isPresent = found["present"] === 1;
    const ttlSeconds = isPresent ? settings.positiveTtlSeconds : settings.negativeTtlSeconds;
    if (atMs + ttlSeconds * 1000 <= nowMs) continue;
    path = isPresent
      ? {
          isPresent,
          atMs,
          narHash: String(found["narHash"]),
          signatures: String(found["sigs"] ?? "")
            .split(" ")
            .filter((signature) => signature !== ""),
        }
      : { isPresent, atMs };
  }
  return { file, absentPaths, path };
}

function isOurs(url: string, substituter: string): boolean {
  return normalizeSubstituter(url) === normalizeSubstituter(substituter);
}

/** Versions of Nix keep files of their own; the one in use is the one written last. */
async function findFile(folder: string): Promise<string> {
  const names = await readdir(folder).catch(() => []);
  const dated = await Promise.all(
    names
      .filter((name) => /^binary-cache-v\d+\.sqlite$/.test(name))
      .map(async (name) => {
        const file = join(folder, name);
        return { file, atMs: (await stat(file)).mtimeMs };
      }),
  );
  const [newest] = dated.sort((left, right) => right.atMs - left.atMs);
  if (newest !== undefined) return newest.file;
  throw new CacheError("NOT_FOUND", `Nix remembers nothing of any cache in ${folder}`);
}
