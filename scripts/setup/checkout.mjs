import { homedir } from "node:os";
import path from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";

/** The folder of this checkout. */
export const rootDirectory = path.dirname(
  path.dirname(path.dirname(fileURLToPath(import.meta.url))),
);

/** Where the packages' commands are linked. */
export const binDirectory = path.join(rootDirectory, "node_modules", ".bin");

/** Where the set-up leaves what `bin/flywheel` and the next set-up look at. */
export const stampDirectory = path.join(rootDirectory, "node_modules", ".flywheel");

/** The folder in the user's cache that holds the tools all checkouts share. */
export function cacheDirectory() {
  const base = process.env.XDG_CACHE_HOME;
  // The XDG specification: a relative path is invalid and ignored.
  const parent = base && path.isAbsolute(base) ? base : path.join(homedir(), ".cache");
  return path.join(parent, "gloriousflywheel");
}
