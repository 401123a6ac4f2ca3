import { createHash } from "node:crypto";
import { readdir, readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { gzipSync } from "node:zlib";

import type { ReleasedTree } from "./commit-tree.ts";
import { gitBytes } from "./git.ts";
import type { Subject } from "./provenance.ts";

/** Writes a tree as `<name>-<version>.tar.gz`, whose bytes the tree alone decides. */
export async function writeTreeArchive(
  { directory, commit }: ReleasedTree,
  name: string,
  target: string,
): Promise<void> {
  const tar = await gitBytes(directory, ["archive", "--format=tar", `--prefix=${name}/`, commit]);
  await writeFile(path.join(target, `${name}.tar.gz`), gzipSync(tar, { level: 9 }));
}

/** The files of a folder by their digests, sorted by name. */
export async function digestFiles(folder: string): Promise<readonly Subject[]> {
  const names = (await readdir(folder)).sort();
  return Promise.all(
    names.map(async (name) => {
      const bytes = await readFile(path.join(folder, name));
      return { name, digest: { sha256: createHash("sha256").update(bytes).digest("hex") } };
    }),
  );
}

/** What `sha256sum --check` reads. */
export function formatChecksums(files: readonly Subject[]): string {
  return files.map(({ name, digest }) => `${digest["sha256"] ?? ""}  ${name}\n`).join("");
}
