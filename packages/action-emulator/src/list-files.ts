import { readdir } from "node:fs/promises";
import path from "node:path";

/** Every file, socket and link below a folder, relative to it and sorted; what vanishes meanwhile is left out. */
export async function listFiles(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => []);
  return entries
    .filter((entry) => !entry.isDirectory())
    .map((entry) => path.relative(folder, path.join(entry.parentPath, entry.name)))
    .sort();
}
