import { fromBinary } from "@bufbuild/protobuf";
import { CacheError } from "@glorious/core";
import { type Directory, DirectorySchema, formatHash, parseHash } from "@glorious/reapi";

import type { BazelScope, BlobName } from "../store/bazel-store.ts";
import { readContent } from "./blob-content.ts";

/** A page ends at so many bytes of directories. */
const PAGE_BYTES = 2 ** 20;
const MAX_DIRECTORY_BYTES = 4 * 2 ** 20;
const MAX_DIRECTORIES = 1_000_000;

/**
 * A directory and all below it, in pages, the root first and each directory once. Those that are missing are left
 * out, as the contract says.
 *
 * @throws {CacheError} `NOT_FOUND` when the root is missing, `INVALID` when a blob is no directory.
 */
export async function* walkTree(scope: BazelScope, root: BlobName): AsyncGenerator<Directory[]> {
  const seen = new Set<string>([formatHash(root.key)]);
  const waiting: BlobName[] = [root];
  let page: Directory[] = [];
  let pageBytes = 0;
  for (let name = waiting.shift(); name !== undefined; name = waiting.shift()) {
    if (name.sizeBytes > MAX_DIRECTORY_BYTES) throw noDirectory(name);
    const blob = await scope.findBlob(name);
    if (blob === undefined) {
      if (name === root) {
        throw new CacheError("NOT_FOUND", `There is no directory ${formatHash(root.key)}`);
      }
      continue;
    }
    const directory = parseDirectory(name, await readContent(blob, "identity"));
    for (const { digest } of directory.directories) {
      if (digest === undefined || seen.has(digest.hash)) continue;
      if (seen.size >= MAX_DIRECTORIES) throw noDirectory(root);
      seen.add(digest.hash);
      waiting.push({ key: parseHash(digest.hash), sizeBytes: Number(digest.sizeBytes) });
    }
    page.push(directory);
    pageBytes += name.sizeBytes;
    if (pageBytes < PAGE_BYTES) continue;
    yield page;
    page = [];
    pageBytes = 0;
  }
  if (page.length > 0) yield page;
}

function parseDirectory(name: BlobName, content: Uint8Array): Directory {
  try {
    return fromBinary(DirectorySchema, content);
  } catch {
    throw noDirectory(name);
  }
}

function noDirectory({ key }: BlobName): CacheError {
  return new CacheError(
    "INVALID",
    `The blob ${formatHash(key)} is no directory, or too large a one`,
  );
}
