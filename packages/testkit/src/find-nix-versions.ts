import { execFileSync } from "node:child_process";
import { accessSync, constants, readdirSync } from "node:fs";
import path from "node:path";

import { missingToolReason, toolsDirectory } from "./tools-directory.ts";

/** A Nix that is on this machine. */
export interface NixVersion {
  /** As it states it, such as `2.34.8`. */
  readonly version: string;
  /** The folder of `nix`, `nix-build`, `nix-store` and the others. */
  readonly binDirectory: string;
}

/** The versions every test of the Nix protocol is to pass with, by their first two numbers. */
const WANTED = ["2.8", "2.26", "2.34"];

let found: readonly NixVersion[] | undefined;

/**
 * Finds the machine's own Nix and the portable ones that `pnpm tools` brings, oldest first.
 *
 * Looks once per process. Empty when there is none, or when this user may not build into `/nix/store`.
 */
export function findNixVersions(): readonly NixVersion[] {
  found ??= canUseStore() ? listNixVersions() : [];
  return found;
}

/** The wanted versions that are not here, each with the reason. */
export function findMissingNixVersions(): ReadonlyArray<{ version: string; reason: string }> {
  const here = findNixVersions();
  return WANTED.filter((wanted) => !here.some((nix) => nix.version.startsWith(`${wanted}.`))).map(
    (version) => ({ version, reason: `Nix ${version} is not here: ${reasonFor(version)}` }),
  );
}

function listNixVersions(): readonly NixVersion[] {
  const tools = toolsDirectory();
  const portable = readEntries(tools)
    .filter((name) => /^nix-[\d.]+$/.test(name))
    .map((name) => path.join(tools, name, "bin"));
  const own = (process.env["PATH"] ?? "")
    .split(path.delimiter)
    .find((it) => isExecutable(it, "nix"));
  const directories = [...(own === undefined ? [] : [own]), ...portable];
  const versions = new Map<string, NixVersion>();
  for (const binDirectory of directories) {
    const version = readVersion(path.join(binDirectory, "nix"));
    if (version !== undefined && !versions.has(version))
      versions.set(version, { version, binDirectory });
  }
  return [...versions.values()].sort((left, right) =>
    left.version.localeCompare(right.version, "en", { numeric: true }),
  );
}

/** Single-user Nix builds only as the owner of `/nix`, and creates it only as root. */
function canUseStore(): boolean {
  if (process.getuid?.() === 0) return true;
  try {
    accessSync("/nix/store", constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

function reasonFor(version: string): string {
  if (!canUseStore()) return "this user may not write to /nix/store";
  const fallback = version === WANTED[0] ? "it is Debian 12's nix-bin" : "`pnpm tools` brings it";
  return missingToolReason(`Nix ${version}`) ?? missingToolReason("Debian packages") ?? fallback;
}

function readEntries(directory: string): readonly string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}

function isExecutable(directory: string, name: string): boolean {
  try {
    accessSync(path.join(directory, name), constants.X_OK);
    return path.isAbsolute(directory);
  } catch {
    return false;
  }
}

function readVersion(nix: string): string | undefined {
  try {
    const text = execFileSync(nix, ["--version"], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    });
    return /(\d+\.\d+(?:\.\d+)?)/.exec(text)?.[1];
  } catch {
    return undefined;
  }
}
