import { chmod, mkdtemp, readdir, realpath, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";

/** A folder that is removed, with all it holds, when it goes out of scope. */
export interface TemporaryDirectory extends AsyncDisposable {
  /** Its full path, without symbolic links. */
  readonly path: string;
}

/** Creates an empty folder under the system's temporary folder; use it with `await using`. */
export async function createTemporaryDirectory(
  prefix: string = "flywheel-test-",
): Promise<TemporaryDirectory> {
  const directory = await realpath(await mkdtemp(path.join(tmpdir(), prefix)));
  return {
    path: directory,
    async [Symbol.asyncDispose]() {
      await makeWritable(directory);
      await rm(directory, { recursive: true, force: true });
    },
  };
}

/** Store paths are read-only folders, which only root can empty as they are. */
async function makeWritable(directory: string): Promise<void> {
  if (process.getuid?.() === 0) return;
  await chmod(directory, 0o700);
  const entries = await readdir(directory, { withFileTypes: true });
  for (const entry of entries) {
    if (entry.isDirectory()) await makeWritable(path.join(directory, entry.name));
  }
}
