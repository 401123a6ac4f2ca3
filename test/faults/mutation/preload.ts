/**
 * Preloaded into a server whose protections are to be removed on purpose: replaces a piece of one of its source
 * files while that is loaded. Nothing on disk changes.
 */
import { readFileSync } from "node:fs";
import { registerHooks } from "node:module";
import { fileURLToPath } from "node:url";

import type { Mutation } from "./mutations.ts";

const mutations = JSON.parse(process.env["FAULTS_MUTATION"] ?? "[]") as Mutation["edits"];

registerHooks({
  load(url, context, nextLoad) {
    const edits = mutations.filter(({ file }) => url.endsWith(file));
    if (edits.length === 0) return nextLoad(url, context);
    let source = readFileSync(fileURLToPath(url), "utf8");
    for (const { file, find, replace } of edits) {
      if (!source.includes(find))
        throw new Error(`The mutation of ${file} no longer fits: ${find}`);
      source = source.replace(find, () => replace);
    }
    return { format: "module-typescript", source, shortCircuit: true };
  },
});
