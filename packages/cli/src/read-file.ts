import { readFile } from "node:fs/promises";

/**
 * Reads a file; `undefined` when there is none. An error names the file, which Node's own does not when
 * it fails after the file was opened.
 */
export async function readOptionalFile(
  path: string,
  encoding: "utf8" | "latin1",
): Promise<string | undefined> {
  try {
    return await readFile(path, encoding);
  } catch (error) {
    const failure = error as NodeJS.ErrnoException;
    if (failure.code === "ENOENT") return undefined;
    failure.path ??= path;
    throw failure;
  }
}
