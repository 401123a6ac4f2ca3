import { isCacheError } from "@glorious/core";
import {
  type ContentAddress,
  createContentCheck,
  isContentAddressed,
  parseContentAddress,
  parseStorePath,
} from "@glorious/nix-store";

import type { PathRecord } from "../index/cache-index.ts";

/**
 * Tells whether a path's name follows from what is in it, so that nobody need be believed: its content address gives the
 * name, and its content gives the address. What refers to itself is not looked into, and counts as one that does not.
 *
 * @param openNar opens the NAR, whose hash is known to be right.
 */
export async function verifiesItself(
  path: Pick<PathRecord, "storePath" | "storePathHash" | "references" | "ca" | "narHash">,
  storeDir: string,
  openNar: () => AsyncIterable<Buffer>,
): Promise<boolean> {
  const { ca, references, narHash } = path;
  if (ca === undefined || references.some((each) => each.startsWith(path.storePathHash))) {
    return false;
  }
  let address: ContentAddress;
  try {
    if (!isContentAddressed(parseStorePath(path.storePath, storeDir), { ca, references })) {
      return false;
    }
    address = parseContentAddress(ca);
  } catch (error) {
    if (isCacheError(error, "INVALID")) return false;
    throw error;
  }
  const { method, hash } = address;
  if (method === "nar" && hash.algorithm === "sha256") {
    return hash.bytes.toString("hex") === narHash;
  }
  if (method === "git") return false;
  const check = createContentCheck(address);
  for await (const chunk of openNar()) check.write(chunk);
  return check.end();
}
