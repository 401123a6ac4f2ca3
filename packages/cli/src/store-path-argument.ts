import { isCacheError } from "@glorious/core";
import { isStorePathHash, parseStorePath } from "@glorious/nix-store";

import { UsageError } from "./usage-error.ts";

/** The hash of a store path that was given in full or by its hash. @throws {UsageError} when it is neither. */
export function readStorePathHash(path: string): string {
  if (isStorePathHash(path)) return path;
  if (!path.startsWith("/")) {
    throw new UsageError(
      `${JSON.stringify(path)} is neither a store path nor its hash of 32 characters`,
      "Give a full store path, or its hash.",
    );
  }
  try {
    return parseStorePath(path, path.slice(0, Math.max(0, path.lastIndexOf("/")))).hash;
  } catch (error) {
    if (isCacheError(error))
      throw new UsageError(error.message, "Give a full store path, or its hash.");
    throw error;
  }
}
