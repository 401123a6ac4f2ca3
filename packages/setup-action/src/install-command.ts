import { createHash } from "node:crypto";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import path from "node:path";

/**
 * Keeps the `flywheel` command in the runner's tool cache and returns the folder to put on PATH. The version is the
 * content's, so that each version of the action finds its own.
 *
 * @throws {Error} when the runner has no tool cache or it cannot be written.
 */
export async function installCommand(bundle: string, temporaryDirectory: string): Promise<string> {
  const { cacheDir, find } = await import("./toolkit.ts");
  const files: CommandFiles = {
    "flywheel.mjs": await readFile(bundle),
    flywheel: Buffer.from(launcher(process.execPath)),
  };
  const hash = createHash("sha256").update(files["flywheel.mjs"]).update(process.execPath);
  const version = `0.0.0-h${hash.digest("hex").slice(0, 16)}`;
  const found = find("flywheel", version);
  if (found !== "" && (await holdsJust(found, files))) return found;
  const folder = await mkdtemp(path.join(temporaryDirectory, "flywheel-command-"));
  try {
    for (const [name, bytes] of Object.entries(files)) {
      await writeFile(path.join(folder, name), bytes, { mode: 0o755 });
    }
    return await cacheDir(folder, "flywheel", version);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

type CommandFiles = Readonly<Record<"flywheel" | "flywheel.mjs", Buffer>>;

/** Any job before could write there, and what is in this folder comes first in PATH. */
async function holdsJust(folder: string, files: CommandFiles): Promise<boolean> {
  const entries = await readdir(folder, { withFileTypes: true });
  if (entries.length !== Object.keys(files).length) return false;
  for (const [name, bytes] of Object.entries(files)) {
    if (!entries.some((entry) => entry.name === name && entry.isFile())) return false;
    if (!bytes.equals(await readFile(path.join(folder, name)))) return false;
  }
  return true;
}

/** Runners bring a Node of their own that is often not on PATH; after an update of the runner the other way round. */
function launcher(node: string): string {
  return `#!/bin/sh
node='${node.replaceAll("'", String.raw`'\''`)}'
[ -x "$node" ] || node=node
exec "$node" "$(dirname "$(readlink -f "$0")")/flywheel.mjs" "$@"
`;
}
