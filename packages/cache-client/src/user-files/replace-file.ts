import { randomUUID } from "node:crypto";
import { open, realpath, rename, rm, stat } from "node:fs/promises";

/** Options of {@link replaceFile}. */
export interface ReplaceFileOptions {
  /** Rights of the file, whatever they were; default: those it has, 0644 for a new one. */
  readonly mode?: number;
  /** Whether it is on the disk when this is done; default true. What is over with the machine needs not wait for that. */
  readonly isDurable?: boolean;
}

/**
 * Writes a file so that readers see the old bytes or the new ones, never a part, and a crash leaves
 * one of the two if it is durable. A symbolic link stays, the file it leads to is replaced.
 */
export async function replaceFile(
  path: string,
  contents: Uint8Array | string,
  options: ReplaceFileOptions = {},
): Promise<void> {
  const target = await realpath(path).catch((error: unknown) => {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return path;
    throw error;
  });
  const old = await stat(target).catch(() => undefined);
  const mode = options.mode ?? (old === undefined ? 0o644 : old.mode & 0o7777);
  const temporary = `${target}.${randomUUID()}.tmp`;
  try {
    // Never wider than it will be, not even for a moment: the bytes may be secret.
    const file = await open(temporary, "wx", mode & 0o600);
    try {
      await file.writeFile(contents);
      await file.chmod(mode);
      if (old !== undefined) await file.chown(old.uid, old.gid).catch(() => {});
      if (options.isDurable ?? true) await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, target);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}
