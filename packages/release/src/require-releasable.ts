import { readdir, readFile } from "node:fs/promises";
import path from "node:path";

import { CacheError } from "@glorious/core";

import { git } from "./git.ts";
import type { ReleaseVersion } from "./release-version.ts";
import { runCommand } from "./run-command.ts";

/** A package that is published. */
export interface PublicPackage {
  readonly name: string;
  readonly directory: string;
}

/**
 * Makes sure that the work tree is what was committed, to the last file.
 *
 * @throws {CacheError} `CONFLICT` that names what differs.
 */
export async function requireCleanTree(root: string): Promise<void> {
  const status = await git(root, ["status", "--porcelain"]);
  if (status === "") return;
  const lines = status.split("\n");
  const shown = lines.slice(0, 5).map((line) => line.slice(3));
  const more = lines.length > shown.length ? ` and ${lines.length - shown.length} more` : "";
  throw new CacheError("CONFLICT", `Not as it was committed: ${shown.join(", ")}${more}`, {
    hint: "A release is made of a commit: commit or remove them",
  });
}

/**
 * Makes sure that the actions' bundles are what the sources make.
 *
 * @throws {CacheError} `CONFLICT` that names those which are not.
 */
export async function requireCurrentBundles(root: string): Promise<void> {
  const script = path.join(root, "scripts", "bundle-actions", "main.ts");
  try {
    await runCommand(process.execPath, [script, "--check"], { cwd: root });
  } catch (error) {
    throw new CacheError("CONFLICT", "The actions' bundles are not what the sources make", {
      hint: "Run `pnpm build:actions` and commit what it makes",
      cause: error,
    });
  }
}

/**
 * The packages that are published, all of which have the release's version.
 *
 * @throws {CacheError} `CONFLICT` that names one which has another.
 */
export async function requirePublicPackages(
  root: string,
  version: ReleaseVersion,
): Promise<readonly PublicPackage[]> {
  const found: PublicPackage[] = [];
  for (const name of (await readdir(path.join(root, "packages"))).sort()) {
    const directory = path.join(root, "packages", name);
    const manifest = JSON.parse(await readFile(path.join(directory, "package.json"), "utf8")) as {
      readonly name: string;
      readonly version: string;
      readonly private?: boolean;
    };
    if (manifest.private === true) continue;
    if (manifest.version !== version.text) {
      throw new CacheError(
        "CONFLICT",
        `${manifest.name} is ${manifest.version}, the release is ${version.text}`,
        { hint: "Run `pnpm release:version` and commit what it makes" },
      );
    }
    found.push({ name: manifest.name, directory });
  }
  return found;
}
