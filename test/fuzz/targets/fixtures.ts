import { readdir, readFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";

const FIXTURES = fileURLToPath(new URL("../../../packages/nix-store/fixtures/", import.meta.url));

/** Files that real Nix versions wrote, whose names match. */
export async function readFixtures(pattern: RegExp): Promise<Buffer[]> {
  const entries = await readdir(FIXTURES, { recursive: true, withFileTypes: true });
  const files = entries
    .filter((entry) => entry.isFile() && pattern.test(path.join(entry.parentPath, entry.name)))
    .map((entry) => path.join(entry.parentPath, entry.name));
  return Promise.all(files.sort().map((file) => readFile(file)));
}
