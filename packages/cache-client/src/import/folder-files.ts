import { createReadStream } from "node:fs";
import { opendir, readFile, stat } from "node:fs/promises";
import { join, normalize } from "node:path";

import { CacheError } from "@glorious/core";

import { systemCodeOf, toFileError } from "../file-error.ts";
import type { CacheFiles } from "./cache-files.ts";
import { hashesOf } from "./find-names.ts";

const READ_BYTES = 256 * 1024;

/** Opens a static cache in a folder of this machine, as `nix copy --to file://…` makes them. */
export function openFolderFiles(folder: string): CacheFiles {
  return {
    name: folder,
    readText: async (file, { maxBytes, signal }) => {
      const path = join(folder, file);
      try {
        const { size } = await stat(path);
        if (size > maxBytes) {
          throw new CacheError("TOO_LARGE", `${path} has more than ${maxBytes} bytes`);
        }
        return await readFile(path, { encoding: "utf8", signal });
      } catch (error) {
        if (systemCodeOf(error) === "ENOENT") return undefined;
        throw toFileError(error, path);
      }
    },
    stream: (location, signal) => readWhole(inside(folder, location), signal),
    async *listHashes() {
      try {
        for await (const { name } of await opendir(folder)) yield* hashesOf([name], "narinfos");
      } catch (error) {
        throw toFileError(error, folder);
      }
    },
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}

/** Reads a file of this machine from its beginning to its end. @throws {CacheError} what the disk says. */
export async function* readWhole(
  path: string,
  signal: AbortSignal | undefined,
): AsyncGenerator<Buffer, void, undefined> {
  try {
    yield* createReadStream(path, { highWaterMark: READ_BYTES, signal });
  } catch (error) {
    if (signal?.aborted === true) {
      throw new CacheError("CANCELLED", `Reading ${path} was cancelled`, { cause: error });
    }
    throw toFileError(error, path);
  }
}

/** A narinfo may name any file; only those of the cache are meant. */
function inside(folder: string, location: string): string {
  const relative = normalize(location);
  if (/^[a-z]+:/i.test(location) || relative.startsWith("..") || relative.startsWith("/")) {
    throw new CacheError("INVALID", `${JSON.stringify(location)} lies outside of ${folder}`);
  }
  return join(folder, relative);
}
