import { writeFile } from "node:fs/promises";
import path from "node:path";

import { output } from "../command.ts";

/**
 * Takes files out of the page cache, one by one: the rest of the machine keeps its own. Returns the share
 * of their bytes that is still cached.
 */
export async function evict(files: readonly string[], directory: string): Promise<number> {
  const list = path.join(directory, "evict.list");
  await writeFile(list, `${files.join("\n")}\n`);
  const script = `set -e
    sync -d $(tr '\\n' ' ' <"$1")
    while IFS= read -r file; do dd if="$file" iflag=nocache count=0 status=none; done <"$1"
    xargs fincore --bytes --noheadings --raw --output RES,SIZE <"$1" | awk '{ cached += $1; size += $2 } END { print cached / size }'`;
  return Number(await output("bash", ["-c", script, "bash", list]));
}
