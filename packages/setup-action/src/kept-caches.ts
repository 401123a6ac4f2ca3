import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";

import type { SetupKind } from "@glorious/runner-agent";

/** What the forge's own cache keeps for one kind of build, because our protocols do not carry it. */
export interface KeptCache {
  readonly kind: SetupKind;
  readonly paths: readonly string[];
  readonly key: string;
  /** The beginning of keys whose content is better than nothing. */
  readonly restoreKey: string;
  /** The key that was found, when one was. */
  readonly found?: string;
}

const LOCK_FILES: Readonly<Record<SetupKind, readonly string[]>> = {
  nix: ["flake.lock", "flake.nix"],
  bazel: ["MODULE.bazel.lock", "MODULE.bazel", "WORKSPACE"],
};

/** Says what is kept, and under which key: the lock files of the work tree decide. */
export async function planKeptCache(
  kind: SetupKind,
  env: Readonly<Record<string, string | undefined>>,
): Promise<KeptCache> {
  const hash = createHash("sha256");
  for (const name of LOCK_FILES[kind]) {
    const file = path.join(env["GITHUB_WORKSPACE"] ?? ".", name);
    hash.update(`${name}\n`).update(await readFile(file).catch(() => ""));
  }
  const restoreKey = `flywheel-${kind}-${process.platform}-${process.arch}-`;
  const key = `${restoreKey}${hash.digest("hex").slice(0, 32)}`;
  return { kind, paths: keptPaths(kind, env), key, restoreKey };
}

/** Nix's answers about narinfos are not among them: what was absent once may be there now. */
function keptPaths(kind: SetupKind, env: Readonly<Record<string, string | undefined>>): string[] {
  const home = env["HOME"] ?? os.homedir();
  const caches = env["XDG_CACHE_HOME"] ?? path.join(home, ".cache");
  if (kind === "bazel") {
    // As Bazel names it: containers set the one and have no name for the other.
    const user = env["USER"] || os.userInfo().username;
    return [path.join(home, ".cache/bazel", `_bazel_${user}`, "cache/repos/v1")];
  }
  return ["eval-cache-v*", "fetcher-cache-v*", "gitv3", "tarball-cache*"].map((name) =>
    path.join(caches, "nix", name),
  );
}

/** Restores what is kept; `found` says under which key. */
export async function restoreKept(cache: KeptCache): Promise<KeptCache> {
  const { isFeatureAvailable, restoreCache } = await import("./toolkit.ts");
  if (!isFeatureAvailable()) throw new Error("this forge has no cache service for its jobs");
  const found = await restoreCache([...cache.paths], cache.key, [cache.restoreKey]);
  return found === undefined ? cache : { ...cache, found };
}

/** Saves what is kept, unless it is there under the very same key; tells whether it did. */
export async function saveKept(cache: KeptCache): Promise<boolean> {
  if (cache.found === cache.key) return false;
  const { saveCache } = await import("./toolkit.ts");
  return (await saveCache([...cache.paths], cache.key)) >= 0;
}
