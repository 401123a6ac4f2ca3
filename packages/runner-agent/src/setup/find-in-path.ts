import { stat } from "node:fs/promises";
import { delimiter, join } from "node:path";

/** The full path of a command; `undefined` when there is none in PATH. */
export async function findInPath(
  name: string,
  env: Readonly<Record<string, string | undefined>>,
): Promise<string | undefined> {
  for (const folder of (env["PATH"] ?? "").split(delimiter)) {
    const file = join(folder, name);
    const facts = folder === "" ? undefined : await stat(file).catch(() => undefined);
    if (facts?.isFile() === true && (facts.mode & 0o111) !== 0) return file;
  }
  return undefined;
}
