import { createHash } from "node:crypto";
import { chmod, copyFile, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import path from "node:path";

/**
 * Keeps the `flywheel` command in the runner's tool cache and returns the folder to put on PATH. The version is the
 * content's, so that each version of the action finds its own.
 *
 * @throws {Error} when the runner has no tool cache or it cannot be written.
 */
export async function installCommand(bundle: string, temporaryDirectory: string): Promise<string> {
  const { cacheDir, find } = await import("./toolkit.ts");
  const hash = createHash("sha256")
    .update(await readFile(bundle))
    .update(process.execPath);
  const version = `0.0.0-h${hash.digest("hex").slice(0, 16)}`;
  const found = find("flywheel", version);
  if (found !== "") return found;
  const folder = await mkdtemp(path.join(temporaryDirectory, "flywheel-command-"));
  try {
    await copyFile(bundle, path.join(folder, "flywheel.mjs"));
    await writeFile(path.join(folder, "flywheel"), launcher(process.execPath));
    await chmod(path.join(folder, "flywheel"), 0o755);
    return await cacheDir(folder, "flywheel", version);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Runners bring a Node of their own that is often not on PATH; after an update of the runner the other way round. */
function launcher(node: string): string {
  return `#!/bin/sh
node='${node.replaceAll("'", String.raw`'\''`)}'
[ -x "$node" ] || node=node
exec "$node" "$(dirname "$(readlink -f "$0")")/flywheel.mjs" "$@"
`;
}
