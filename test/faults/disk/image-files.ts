import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import path from "node:path";

import type { DiskModel, ImageDirectory } from "./disk-model.ts";

/** Writes what a crash left into an empty directory, readable by its owner only, as the server makes its files. */
export async function writeImage(image: ImageDirectory, directory: string): Promise<void> {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  for (const [name, node] of image) {
    const file = path.join(directory, name);
    if (node instanceof Map) await writeImage(node as ImageDirectory, file);
    else await writeFile(file, node as Buffer, { mode: 0o600 });
  }
}

/** Puts what a directory holds into the model, as durable. */
export async function loadDirectory(model: DiskModel, directory: string, at = ""): Promise<void> {
  for (const entry of await readdir(path.join(directory, at), { withFileTypes: true })) {
    const name = path.join(at, entry.name);
    if (isVolatile(name)) continue;
    if (entry.isDirectory()) {
      model.place(name, "directory");
      await loadDirectory(model, directory, name);
    } else {
      model.place(name, await readFile(path.join(directory, name)));
    }
  }
}

/** Where a directory differs from an image; none when the record told everything. */
export async function compareImage(image: ImageDirectory, directory: string): Promise<string[]> {
  const differences: string[] = [];
  const compare = async (expected: ImageDirectory, at: string): Promise<void> => {
    const names = await readdir(path.join(directory, at));
    for (const name of new Set([...names, ...expected.keys()])) {
      const file = path.join(at, name);
      if (isVolatile(file)) continue;
      const node = expected.get(name);
      if (!names.includes(name)) differences.push(`${file} is missing`);
      else if (node === undefined) differences.push(`${file} is unknown`);
      else if (node instanceof Map) await compare(node as ImageDirectory, file);
      else if (!(node as Buffer).equals(await readFile(path.join(directory, file)))) {
        differences.push(`${file} has other bytes`);
      }
    }
  };
  await compare(image, "");
  return differences;
}

/** SQLite's index of its log lies in memory that a machine's crash takes away. */
function isVolatile(file: string): boolean {
  return file.endsWith("-shm");
}
