import { createHash, randomUUID } from "node:crypto";
import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";

import type { Logger } from "@glorious/core";

/** The bundles of our client that jobs may fetch, by the SHA-256 of their bytes in hexadecimal. */
export interface ClientBundles {
  /** The very bytes of that hash; `undefined` when they are not here. */
  find(sha256: string): Promise<Buffer | undefined>;
}

/** Jobs pin a bundle by its hash, so the ones of servers before this one are kept for them. */
const KEPT = 16;
/** What is read is kept in memory, as a pipeline of many jobs asks at once. */
const REMEMBERED = 2;

/**
 * Opens the folder of bundles and puts the one of this version into it.
 *
 * @param own - The file that belongs to this version, where there is one.
 */
export async function openClientBundles(
  directory: string,
  { own, logger }: { readonly own: string | undefined; readonly logger: Logger },
): Promise<ClientBundles> {
  try {
    await keepOwn(directory, own);
    await removeOldest(directory);
  } catch (error) {
    // Jobs that have the command in their image need none of it.
    logger.warn("the client's bundle for jobs cannot be kept", { directory, error });
  }
  const read = new Map<string, Promise<Buffer | undefined>>();
  return {
    find(sha256) {
      if (!/^[0-9a-f]{64}$/.test(sha256)) return Promise.resolve(undefined);
      const known = read.get(sha256);
      if (known !== undefined) return known;
      const reading = readVerified(join(directory, `${sha256}.mjs`), sha256);
      read.set(sha256, reading);
      for (const name of [...read.keys()].slice(0, -REMEMBERED)) read.delete(name);
      reading.then(
        (bytes) => bytes ?? read.delete(sha256),
        () => read.delete(sha256),
      );
      return reading;
    },
  };
}

async function keepOwn(directory: string, own: string | undefined): Promise<void> {
  if (own === undefined) return;
  const bytes = await readFile(own);
  await mkdir(directory, { recursive: true });
  const file = join(directory, `${hashOf(bytes)}.mjs`);
  const temporary = join(directory, `${randomUUID()}.tmp`);
  try {
    await writeFile(temporary, bytes);
    await rename(temporary, file);
  } finally {
    await rm(temporary, { force: true });
  }
}

async function removeOldest(directory: string): Promise<void> {
  const names = await readdir(directory).catch(() => []);
  const files = await Promise.all(
    names.map(async (name) => {
      const file = join(directory, name);
      return { file, usedMs: (await stat(file)).mtimeMs };
    }),
  );
  const oldest = files.toSorted((a, b) => b.usedMs - a.usedMs).slice(KEPT);
  for (const { file } of oldest) await rm(file, { force: true });
}

/** A file that was damaged is as good as none. */
async function readVerified(file: string, sha256: string): Promise<Buffer | undefined> {
  let bytes: Buffer;
  try {
    bytes = await readFile(file);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
  return hashOf(bytes) === sha256 ? bytes : undefined;
}

function hashOf(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}
