import { writeFile } from "node:fs/promises";
import path from "node:path";

import { rolldown } from "rolldown";

import { formatNotices } from "./notices.ts";

/**
 * Bundles an action's `main` and `post`. What both need is a chunk beside them, what few jobs need (`@actions/cache`
 * and `@actions/tool-cache`) is another one that is loaded on demand. Not minified, because people review it.
 */
export async function bundleActionEntries(options: {
  readonly root: string;
  readonly action: string;
  readonly target: string;
}): Promise<void> {
  const source = (name: string): string => path.join(options.action, "src", `${name}.ts`);
  await using bundle = await rolldown({
    cwd: options.root,
    input: { main: source("main"), post: source("post") },
    platform: "node",
    resolve: { conditionNames: ["source", "import", "node", "default"] },
    transform: { target: "node22.19" },
  });
  const { output } = await bundle.write({
    dir: options.target,
    format: "esm",
    // Whatever package.json lies above them, they stay modules.
    entryFileNames: "[name].mjs",
    chunkFileNames: "[name].mjs",
  });
  await writeFile(path.join(options.target, "NOTICES.txt"), await formatNotices(output));
}
