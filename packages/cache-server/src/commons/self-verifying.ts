import { createHash } from "node:crypto";

import { isCacheError } from "@glorious/core";
import {
  type ContentAddress,
  createNarReader,
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
  // Git's trees are hashed in a way of their own, which nobody has asked for yet.
  if (method === "git") return false;
  if (method === "nar" && hash.algorithm === "sha256")
    return hash.bytes.toString("hex") === narHash;
  const found =
    method === "nar"
      ? await hashAll(openNar(), hash.algorithm)
      : await hashOnlyFile(openNar(), hash.algorithm);
  return found !== undefined && found.equals(hash.bytes);
}

async function hashAll(nar: AsyncIterable<Buffer>, algorithm: string): Promise<Buffer> {
  const hash = createHash(algorithm);
  for await (const chunk of nar) hash.update(chunk);
  return hash.digest();
}

/** The hash of the one file that a NAR is; `undefined` for one that is anything else. */
async function hashOnlyFile(
  nar: AsyncIterable<Buffer>,
  algorithm: string,
): Promise<Buffer | undefined> {
  const hash = createHash(algorithm);
  let isFile = false;
  const reader = createNarReader({
    regular(names, { executable }) {
      isFile = names.length === 0 && !executable;
    },
    contents(chunk) {
      if (isFile) hash.update(chunk);
    },
  });
  for await (const chunk of nar) reader.write(chunk);
  reader.end();
  return isFile ? hash.digest() : undefined;
}
